"""The report of a finished study: a page that begins with the verdict, its tables and figures.

`page` is what a report says, `html`, `markdown` and `latex` write it, `study` fills it from a
`Result`; a campaign fills it from many.
"""

from __future__ import annotations

from pathlib import Path

from .. import tables
from ..campaign_result import CampaignResult
from ..result import Result
from . import campaign as _campaign
from . import html as _html
from . import latex, study
from . import markdown as _markdown
from .campaign import headline
from .campaign import note as campaign_note
from .page import Page, Picture, Section
from .search import CURVES, LR_RESPONSE, curves, lr_response

__all__ = [
    "Page",
    "Picture",
    "Section",
    "campaign_note",
    "headline",
    "markdown",
    "note",
    "write",
    "write_campaign",
    "write_page",
]


def write(result: Result, out: Path) -> list[Path]:
    """Write a study's page, tables and figures to a folder, and return the files, page first."""
    out.mkdir(parents=True, exist_ok=True)
    figures = [*lr_response(result, out / LR_RESPONSE), *curves(result, out / CURVES)]
    texts = {out / "scores.csv": tables.scores_csv(result)}
    if result.trials:
        texts[out / "trials.csv"] = tables.trials_csv(result)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return [*write_page(study.page(result), out), *texts, *figures]


def write_campaign(result: CampaignResult, out: Path) -> list[Path]:
    """Write a campaign's page, tables and figure to a folder, and return the files, page first."""
    out.mkdir(parents=True, exist_ok=True)
    figures = _campaign.gains(result, out / _campaign.GAINS)
    cells = out / "cells.csv"
    cells.write_text(_campaign.cells_csv(result), encoding="utf-8")
    return [*write_page(_campaign.page(result), out), cells, *figures]


def write_page(page: Page, out: Path) -> list[Path]:
    """Write a page as HTML, Markdown and LaTeX tables; its figures lie in the folder already."""
    texts = {
        out / "report.html": _html.html(page, out),
        out / "report.md": _markdown.markdown(page),
        out / "tables.tex": latex.tables(page),
    }
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)


def markdown(result: Result) -> str:
    """Return a study's page as Markdown."""
    return _markdown.markdown(study.page(result))


def note(result: Result) -> str:
    """Return the verdict and its table: the description of the study's MLflow run."""
    return f"{tables.verdict_table(result)}\n"
