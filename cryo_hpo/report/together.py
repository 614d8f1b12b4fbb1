"""Report the ensembles of a study: an arm's trainings that map together, beside each by itself."""

from __future__ import annotations

from collections.abc import Iterator

from ..config.metric import MIOU
from ..results.ensembles import EnsembleResult
from ..results.metrics import EnsembleRow, ensemble_rows
from ..results.study import Result
from .metrics import in_unit, kind_of, label, names_in_meters_first
from .table import Table
from .wording import NONE, TUNED, percent, signed

INTRODUCTION = (
    "The mean of the class probabilities over an arm's seeds, scored once on the test split with the "
    "trainings themselves; nothing was chosen by it. It is one map, so it has no interval. Gains are "
    "percentage points over the mean of its members."
)
METRICS = "Their other metrics (of one training: the mean over the members that have a value):"


def ensembles(result: Result) -> Table | None:
    """Return the table of ensembles, test mIoU and IoU per class; None if the study has none."""
    if not result.ensembles:
        return None
    head = ("arm", "seeds", "one training (mean)", "together", "gain", *result.classes)
    rows = [
        (
            ensemble.name,
            str(len(ensemble.seeds)),
            percent(ensemble.mean_member_miou),
            percent(ensemble.test_miou),
            signed(100 * ensemble.gain, 2),
            *(percent(ensemble.test_iou.get(name)) for name in result.classes),
        )
        for ensemble in result.ensembles
    ]
    return Table.of(head, rows, left=1)


def ensemble_metrics(result: Result) -> list[str | Table]:
    """Return text and a table of the other metrics of ensembles; empty where none was recorded."""
    columns = [
        (ensemble.name, {row.name: row for row in ensemble_rows(result, ensemble)})
        for ensemble in result.ensembles
    ]
    names = dict.fromkeys(name for _, rows in columns for name in rows)
    shown = names_in_meters_first(
        [name for name in names if name != MIOU and kind_of(name) != "iou"]
    )
    if not shown:
        return []
    head = ["metric"]
    for name, _ in columns:
        head += [name.replace(" ensemble", ", one training"), name]
    body = [
        [label(name), *(text for _, rows in columns for text in _pair(name, rows.get(name)))]
        for name in shown
    ]
    return [METRICS, Table.of(head, body, left=1)]


def _pair(name: str, row: EnsembleRow | None) -> tuple[str, str]:
    if row is None:
        return NONE, NONE
    return in_unit(name, row.single), in_unit(name, row.together)


def ensemble_notes(result: Result) -> list[str]:
    """Return what the winner's trainings score together; empty if they were not scored."""
    return list(_notes(result))


def _notes(result: Result) -> Iterator[str]:
    by_arm = {ensemble.arm: ensemble for ensemble in result.ensembles}
    winner = by_arm.get(TUNED)
    if winner is None and result.winner_is_baseline:
        winner = by_arm.get("baseline")
    if winner is not None:
        yield (
            f"Together, the {len(winner.seeds)} trainings of '{winner.arm}' score "
            f"{percent(winner.test_miou)} ({signed(100 * winner.gain, 2)} points over one of them)"
            f"{_against(winner, by_arm)}; `predict` maps with all of them."
        )


def _against(winner: EnsembleResult, by_arm: dict[str, EnsembleResult]) -> str:
    fixed = by_arm.get("baseline")
    if fixed is None or fixed is winner:
        return ""
    return f", those of the baseline {percent(fixed.test_miou)} ({signed(100 * fixed.gain, 2)})"
