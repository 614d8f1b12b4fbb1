"""Describe why the cells of a campaign stopped where they did, and what that spared or spent."""

from __future__ import annotations

from collections.abc import Iterator

from .. import stats
from ..results.campaign import CampaignResult, CellResult
from ..stats.sequential import Decision
from .page import Part
from .table import Table
from .wording import count_of

WHY: dict[Decision, str] = {
    "improved": "decided",
    "worse": "decided",
    "futile": f"given up: more would decide with a chance below {100 * stats.MIN_CHANCE:g} %",
    "spent": "the campaign's repeats were spent",
    "undecided": "not decided",
}


def parts(result: CampaignResult) -> Iterator[Part]:
    """Yield the repeats of every cell with the reason for its end, if cells stop when decided."""
    if any(cell.improvement.stopped is None for cell in result.cells):
        return
    rows = [(cell.dataset, cell.row, str(len(cell.seeds)), _why(cell)) for cell in result.cells]
    yield _total(result)
    yield Table.of(("dataset", "model", "repeats", "why it ended"), rows, left=2, right=1)


def _why(cell: CellResult) -> str:
    stopped = cell.improvement.stopped
    assert stopped is not None, "a cell that stops when it is decided"
    if cell.winner_is_baseline:
        return "the fixed rate won: nothing to compare"
    if stopped.decision == "futile" and len(cell.seeds) == stopped.at_most:
        return f"not decided by all {stopped.at_most}"
    return WHY[stopped.decision]


def _total(result: CampaignResult) -> str:
    """Return the repeats of all cells, beside the total that they share or the limits they have."""
    repeats, seeds = sum(len(cell.seeds) for cell in result.cells), result.spec.get("seeds")
    total = seeds.get("total") if isinstance(seeds, dict) else None
    if total is None:
        stops = (cell.improvement.stopped for cell in result.cells)
        most = sum(stopped.at_most for stopped in stops if stopped is not None)
        return f"The cells stopped after {repeats} of at most {most} repeats."
    spent = sum(_is_spent(cell) for cell in result.cells)
    ended = (
        f"{count_of(spent, 'cell')} ended without a decision because too few were left for another."
        if spent
        else "No cell ended for want of them."
    )
    return f"The cells share a total of {total} repeats and have {repeats}, reused ones among them. {ended}"


def _is_spent(cell: CellResult) -> bool:
    return cell.improvement.stopped is not None and cell.improvement.stopped.decision == "spent"
