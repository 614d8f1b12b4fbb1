"""Write the report of a study or a campaign: HTML, Markdown, LaTeX, CSV and figures.

`study` and `campaign` compose a page from a result, with the sentences and tables of `wording`;
`html`, `markdown` and `latex` write the page.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..results.campaign import CampaignResult
from ..results.lr_response import response
from ..results.study import Result
from . import campaign as _campaign
from . import html as _html
from . import latex, study
from . import markdown as _markdown
from . import verdict as verdicts
from . import wording as tables
from .calibrated import calibrated_notes
from .evidence import evidence_notes
from .figures import comparison as arms
from .figures import maps, parameters
from .figures.retraining import RETRAINING, retraining
from .figures.search import CURVES, LR_RESPONSE, curves, lr_response
from .page import Page
from .table import markdown as format_markdown
from .table import plain
from .warning import warnings

log = logging.getLogger(__name__)

FIGURES: dict[str, Callable[[Result, Path], list[Path]]] = {
    arms.SEEDS: arms.paired_seeds,
    LR_RESPONSE: lr_response,
    parameters.IMPORTANCE: parameters.importance,
    parameters.SLICES: parameters.slices,
    parameters.PARALLEL: parameters.parallel,
    CURVES: curves,
    arms.CLASSES: arms.class_iou,
}

ARTIFACT = "get-artifact?path=report%2F{name}.png&run_uuid={{run_id}}"
MAX_NOTE = 7500  # characters of a description


def write(result: Result, out: Path, *, folder: Path | None = None) -> list[Path]:
    """Write a study's page, tables and figures to a folder, and return the files, page first.

    Args:
        result: Result of a finished study.
        out: Folder to write to; created if missing.
        folder: Folder of the study, which holds the maps; None: no maps.
    """
    out.mkdir(parents=True, exist_ok=True)
    figures = [
        file for name, draw in FIGURES.items() for file in _draw(name, draw, result, out / name)
    ]
    figures += _draw(maps.NAME, maps.maps, folder, result.classes, out / maps.NAME)
    figures += _draw(RETRAINING, retraining, result, folder, out / RETRAINING)
    texts = {out / "scores.csv": tables.scores_csv(result)}
    curve = response(result)
    if curve is not None:
        texts[out / "trials.csv"] = tables.trials_csv(result)
        texts[out / f"{LR_RESPONSE}.json"] = curve.model_dump_json(indent=2) + "\n"
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    page = study.page(result, figures={file.stem for file in figures})
    return [*write_page(page, out), *texts, *figures]


def _draw(name: str, draw: Callable[..., list[Path]], *given: Any) -> list[Path]:
    """Draw a figure; one that cannot be drawn is left out of the report, with a warning.

    Raises:
        OSError: The disk is full or read-only.
    """
    try:
        return draw(*given)
    except OSError:
        raise
    except Exception as error:  # whatever a plotting library raises, the result is more than it
        log.warning("The report has no figure '%s': it cannot be drawn (%s).", name, error)
        return []


def write_campaign(result: CampaignResult, out: Path) -> list[Path]:
    """Write a campaign's page, tables and figure to a folder, and return the files, page first."""
    out.mkdir(parents=True, exist_ok=True)
    figures = _draw(_campaign.GAINS, _campaign.gains, result, out / _campaign.GAINS)
    cells = out / "cells.csv"
    cells.write_text(_campaign.cells_csv(result), encoding="utf-8")
    return [*write_page(_campaign.page(result), out), cells, *figures]


def write_page(page: Page, out: Path) -> list[Path]:
    """Write a page as HTML, Markdown and LaTeX tables; its figures are in the folder already."""
    texts = {
        out / "report.html": _html.html(page, out),
        out / "report.md": _markdown.markdown(page),
        out / "tables.tex": latex.tables(page),
    }
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)


def markdown(result: Result) -> str:
    """Return a study's page as Markdown, with the figures that need only the result."""
    return _markdown.markdown(study.page(result, figures=_drawable(result)))


def _drawable(result: Result) -> list[str]:
    """Return the names of the figures that can be drawn from a result."""
    compared = result.improvement is not None and len(result.arms) > 1
    several = len(parameters.varied(result)) > 1
    has = {
        arms.SEEDS: compared,
        LR_RESPONSE: bool(result.trials),
        parameters.IMPORTANCE: bool(result.importance),
        parameters.SLICES: several,
        parameters.PARALLEL: several,
        CURVES: any(trial.curve for trial in result.trials),
        arms.CLASSES: compared,
    }
    return [name for name, is_there in has.items() if is_there]


def note(result: Result) -> str:
    """Return the description of the study's MLflow run: warnings, verdict, figure, seeds.

    MLflow's page shows only images from its own artifacts, and takes 8,000 characters of a tag.
    """
    figure = f"![Validation mIoU against learning rate]({ARTIFACT.format(name=LR_RESPONSE)})"
    cautions = [f"> **Warning:** {text}" for text in warnings(result)]
    verdict = f"**{plain(verdicts.verdict_line(result))}**"
    parts = [*cautions, verdict, *([figure] if result.trials else [])]
    pairs = format_markdown(verdicts.verdict(result)) if result.arms else ""
    rest = [pairs, *calibrated_notes(result), "\n".join(evidence_notes(result))]
    while rest and sum(map(len, (*parts, *rest))) > MAX_NOTE:
        rest.pop()
    text = "\n\n".join(filter(None, [*parts, *rest])) + "\n"
    return text if len(text) <= MAX_NOTE else text[: MAX_NOTE - 4] + " ...\n"
