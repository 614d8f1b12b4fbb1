"""Report the ensembles of a study: an arm's trainings that map together, beside each by itself."""

from __future__ import annotations

from collections.abc import Iterator

from ..results.ensembles import EnsembleResult
from ..results.study import Result
from .table import Table
from .wording import TUNED, percent, signed

INTRODUCTION = (
    "The mean of the class probabilities over an arm's seeds, scored once on the test split with the "
    "trainings themselves; nothing was chosen by it. It is one map, so it has no interval. Gains are "
    "percentage points over the mean of its members."
)


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
