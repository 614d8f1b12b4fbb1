"""Compose the report of a campaign: Cryo-Bench's table for fixed and tuned, and every cell."""

# M rows of the table (models), D datasets

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ..results.campaign import CampaignResult, CellResult
from ..stats import Interval
from ..stats.pooled import ranks
from . import repeats, rivals
from .answers import answers, headline, tuning_verdict
from .evidence import agreement, chance
from .figures.style import BLUE, GREY, INK, ORANGE, figure, save
from .page import Page, Part, Picture, Section, Tone
from .rivals import limits, number
from .table import Table, csv_text, markdown
from .wording import NONE, VERDICTS, short_lr

GAINS = "gains"
BY_CHANCE = (
    "How clearly the repeats (seeds) of each comparison differ: whether they agree, and in how many "
    "studies without a true difference they would differ as clearly by chance (sign-flip test). The "
    "verdict rests on the interval of a typical repeat. Nothing is corrected for the number of "
    "comparisons: of twenty without a true difference, one is expected below p = 0.05."
)
MEANS = (
    "Relative difference of test mIoU in percent: its mean over cells with an interval over cells and "
    "seeds, and in how many comparisons the tuned model is clearly better or worse."
)
NONE_LOST = "No training collapsed (one class everywhere) or diverged."
COLORS = {"improved": BLUE, "not shown": GREY, "worse": ORANGE}


def page(result: CampaignResult) -> Page:
    """Return the page: answers, rivals, Cryo-Bench's table twice, cells, transfer, statistics, costs."""
    sections = tuple(Section(title, tuple(parts)) for title, parts in _sections(result))
    return Page(result.campaign, headline(result), _tone(result), sections)


def note(result: CampaignResult) -> str:
    """Return the description of the campaign's MLflow run: the answers and both tables."""
    fixed, tuned = (markdown(table(result, tuned=tuned)) for tuned in (False, True))
    return (
        f"{headline(result)}\n\n{markdown(answers(result))}\n\n"
        f"Fixed learning rate:\n\n{fixed}\n\nTuned:\n\n{tuned}\n"
    )


def table(result: CampaignResult, *, tuned: bool) -> Table:
    """Return Cryo-Bench's table: a row per model, a column per dataset, average and mean rank.

    Args:
        result: Result of the campaign.
        tuned: Whether scores are of the tuned recipes instead of the fixed ones.
    """
    rows, datasets, scores_MD = arranged(result, tuned=tuned)
    ranks_MD = ranks(scores_MD)
    body = [
        (
            row,
            *(NONE if np.isnan(score) else f"{score:.2f}" for score in scores_MD[m]),
            f"{np.nanmean(scores_MD[m]):.2f}",
            f"{np.nanmean(ranks_MD[m]):.2f}",
        )
        for m, row in enumerate(rows)
    ]
    return Table.of(("model", *datasets, "avg. mIoU", "avg. rank"), body, left=1)


def arranged(
    result: CampaignResult, *, tuned: bool
) -> tuple[tuple[str, ...], tuple[str, ...], NDArray[np.float64]]:
    """Return names of models and datasets, and their mean test mIoU (M, D) in percent."""
    rows = tuple(dict.fromkeys(cell.row for cell in result.cells))
    datasets = tuple(dict.fromkeys(cell.dataset for cell in result.cells))
    scores_MD = np.full((len(rows), len(datasets)), np.nan)
    for cell in result.cells:
        scores = cell.tuned if tuned else cell.baseline
        scores_MD[rows.index(cell.row), datasets.index(cell.dataset)] = 100 * np.mean(scores)
    return rows, datasets, scores_MD


def cells_csv(result: CampaignResult) -> str:
    """Return all cells at full precision, one line per cell and seed."""
    head = ["encoder", "dataset", "regime", "label_fraction", "seed", "baseline_lr", "tuned_lr"]
    rows = []
    for cell in result.cells:
        place = [cell.encoder, cell.dataset, cell.regime, cell.label_fraction]
        for seed, before, after in zip(cell.seeds, cell.baseline, cell.tuned, strict=True):
            rows.append([*place, seed, cell.baseline_lr, cell.tuned_lr, before, after])
    return csv_text([*head, "baseline_test_miou", "tuned_test_miou"], rows)


def gains(result: CampaignResult, stem: Path) -> list[Path]:
    """Draw what a typical repeat of every cell gains, with the interval that decides; and the mean."""
    cells = [cell for cell in result.cells if math.isfinite(cell.improvement.typical_pct.mid)]
    if not cells:
        return []
    with figure(1.2 + 0.32 * (len(cells) + 1)) as fig:
        ax = fig.add_subplot()
        for y, cell in enumerate(cells):
            color = COLORS[cell.improvement.verdict]
            _draw_gain(ax, y, cell.improvement.typical_pct, color=color, marker="o")
        if result.overall.relative_pct is not None:
            _draw_gain(ax, len(cells), result.overall.relative_pct, color=INK, marker="D")
        ax.axvline(0, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        names = [f"{cell.dataset}, {cell.row}" for cell in cells]
        ax.set_yticks(range(len(cells) + 1), [*names, "mean of all cells"])
        ax.invert_yaxis()
        ax.grid(visible=False, axis="y")
        ax.set_xlim(*_room(result))
        ax.set_xlabel("Relative improvement of test mIoU (%)")
        return save(fig, stem)


def _draw_gain(ax: Axes, y: int, gain: Interval, *, color: str, marker: str) -> None:
    if math.isfinite(gain.low) and math.isfinite(gain.high):
        ax.plot([gain.low, gain.high], [y, y], color=color, linewidth=2 if marker == "o" else 3)
    ax.scatter(gain.mid, y, color=color, marker=marker, s=28 if marker == "o" else 36, zorder=3)


def _room(result: CampaignResult) -> tuple[float, float]:
    """Return limits that show every estimate; intervals of few seeds may exceed them."""
    mean = result.overall.relative_pct
    ends = () if mean is None else (mean.low, mean.high)
    values = (*(cell.improvement.typical_pct.mid for cell in result.cells), *ends, 0.0)
    marks = [value for value in values if math.isfinite(value)]
    room = max(0.35 * (max(marks) - min(marks)), 1.0)
    return min(marks) - room, max(marks) + room


def _tone(result: CampaignResult) -> Tone:
    if result.rival_summaries:
        return result.rival_summaries[0].verdict
    return "none" if result.overall.relative_pct is None else tuning_verdict(result)


def _sections(result: CampaignResult) -> Iterator[tuple[str, list[Part]]]:
    yield "Answers", [answers(result), MEANS, *rivals.notes(result)]
    if result.rivals:
        yield "Against the rivals", list(rivals.parts(result))
    scores = "Mean test mIoU over seeds in percent; ranks among the rows of this table."
    yield "Fixed learning rate", [scores, table(result, tuned=False)]
    yield "Tuned", [scores, table(result, tuned=True)]
    caption = (
        "Each cell: the relative gain of a typical repeat, with the interval that decides its verdict "
        "(it may run out of the picture). Last: the mean over cells of the gain of their mean scores, "
        "with an interval over cells and seeds."
    )
    picture = Picture(GAINS, "Relative improvement of every cell", caption)
    yield "Cells", [picture, _cells(result), *([] if _any_lost(result) else [NONE_LOST])]
    if result.transfer:
        yield "Transfer", list(_transfer(result))
    yield "Statistics", [BY_CHANCE, _chances(result), *repeats.parts(result)]
    yield "Costs", [_costs(result)]
    yield "Provenance", [_provenance(result)]


def _cells(result: CampaignResult) -> Table:
    """Return a row per cell, its verdict first; what collapsed has a column only where any did."""
    head = ("dataset", "model", "verdict", "fixed", "tuned", "typical", "interval")
    whole = (*head, "repeats that gain", "LR", "collapsed")
    width = len(whole) if _any_lost(result) else len(whole) - 1
    return Table.of(whole[:width], [_cell(cell)[:width] for cell in result.cells], left=3)


def _any_lost(result: CampaignResult) -> bool:
    return any(cell.baseline_collapsed or cell.tuned_collapsed for cell in result.cells)


def _chances(result: CampaignResult) -> Table:
    """Return the p value of every comparison, of tuned and fixed and then with the rivals, in words."""
    searched = [cell for cell in result.cells if not cell.winner_is_baseline]
    pairs = [(cell.dataset, cell.row, cell.improvement) for cell in searched]
    pairs += [
        (other.dataset, f"{other.row} against {rivals.NAMES[other.rival]}", other.improvement)
        for other in result.rivals
        if other.improvement is not None
    ]
    kept = [cell for cell in result.cells if cell.winner_is_baseline]
    rows = [(*names, agreement(gain), chance(gain)) for *names, gain in pairs]
    rows += [(cell.dataset, cell.row, "The fixed rate won", NONE) for cell in kept]
    return Table.of(("dataset", "model", "repeats", "by chance"), rows, left=4)


def _cell(cell: CellResult) -> tuple[str, ...]:
    improvement = cell.improvement
    return (
        cell.dataset,
        cell.row,
        VERDICTS[improvement.verdict].lower(),
        f"{100 * np.mean(cell.baseline):.2f}",
        f"{100 * np.mean(cell.tuned):.2f}",
        f"{number(improvement.typical_pct.mid, 1)} %",
        limits(improvement.typical_pct, 1),
        f"{improvement.num_gained} of {improvement.num_pairs}",
        _rates(cell),
        f"{cell.baseline_collapsed} → {cell.tuned_collapsed} of {len(cell.seeds)}",
    )


def _rates(cell: CellResult) -> str:
    """Return the fixed learning rate, and the winner's where it is another."""
    fixed = short_lr(cell.baseline_lr)
    return f"{fixed}, kept" if cell.winner_is_baseline else f"{fixed} → {short_lr(cell.tuned_lr)}"


def _transfer(result: CampaignResult) -> Iterator[Part]:
    """Yield the learning rates offered to each cell and found by it; compare with and without."""
    head = ("dataset", "model", "offered LRs", "winner's LR", "factor apart", "epochs of search")
    yield "Learning rates that finished cells offered to the search of later ones."
    yield Table.of(head, [_offered(cell) for cell in result.cells], left=2)
    with_, without = (
        [cell for cell in result.cells if bool(cell.offers) is offered] for offered in (True, False)
    )
    text = f"{len(with_)} cells began with what others had found, {len(without)} without."
    yield " ".join([text, *_mean_gain("with", with_), *_mean_gain("without", without)])


def _offered(cell: CellResult) -> tuple[str, ...]:
    rates = [float(o.params["optim.lr"]) for o in cell.offers if "optim.lr" in o.params]
    apart = NONE
    if rates:
        center = float(np.exp(np.mean(np.log(rates))))
        apart = f"{max(cell.tuned_lr / center, center / cell.tuned_lr):.2g}"
    offered = ", ".join(f"{rate:.3g}" for rate in rates) or NONE
    epochs = str(cell.epochs_search)
    return (cell.dataset, cell.row, offered, f"{cell.tuned_lr:.3g}", apart, epochs)


def _mean_gain(word: str, cells: Sequence[CellResult]) -> Iterator[str]:
    gains = [cell.improvement.relative_pct.mid for cell in cells]
    finite = [gain for gain in gains if math.isfinite(gain)]
    if finite:
        epochs = np.mean([cell.epochs_search for cell in cells])
        yield (
            f"Mean relative improvement {word}: {np.mean(finite):+.1f} %, for {epochs:.0f} epochs "
            "of search per cell."
        )


def _costs(result: CampaignResult) -> str:
    search = sum(cell.epochs_search for cell in result.cells)
    confirm = sum(cell.epochs_confirm for cell in result.cells)
    grid = sum(cell.epochs_full_grid for cell in result.cells)
    hours = sum(cell.seconds for cell in result.cells) / 3600
    return (
        f"{search} epochs of search and {confirm} of proof (retraining on seeds), "
        f"{search + confirm} in total; {hours:.2f} hours of training in sum. A full grid of the same "
        f"configurations takes {grid} epochs without proof and {grid + confirm} with it.{_reused(result)}"
    )


def _reused(result: CampaignResult) -> str:
    epochs = sum(cell.epochs_reused for cell in result.cells)
    return f" {epochs} epochs more of the proofs were reused from earlier trainings." * bool(epochs)


def _provenance(result: CampaignResult) -> Table:
    facts = {
        "cells": ", ".join(cell.study for cell in result.cells),
        "mlflow.experiment": result.mlflow_experiment,
        "mlflow.run": result.mlflow_run_id,
        **{key: value for key, value in result.provenance.items() if isinstance(value, str)},
    }
    rows = [(name, str(value)) for name, value in facts.items() if value]
    return Table.of(("what", "value"), rows, left=2)
