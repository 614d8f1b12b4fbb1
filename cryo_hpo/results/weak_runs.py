"""Find the trainings of a comparison that weaken its verdict. Pure: computed from a result."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from .study import ArmResult, Result, SeedResult

RISING = 0.01  # of mIoU over the last tenth of the epochs: at that pace, 0.1 over a whole training


def name_weak_runs(result: Result) -> dict[str, tuple[str, ...]]:
    """Return what weakens the verdict -> the trainings it holds for; what holds for none is absent."""
    kinds = {
        "below_constant": runs_below_constant(result),
        "diverged": runs_that_diverged(result),
        "above_even_guess": runs_above_even_guess(result),
        "still_rising": runs_still_rising(result),
    }
    return {
        kind: tuple(f"{run.arm.name}-seed{run.seed.seed}" for run in runs)
        for kind, runs in kinds.items()
        if runs
    }


class Run(NamedTuple):
    """Hold one training of the comparison."""

    arm: ArmResult
    seed: SeedResult


def runs_of(result: Result) -> list[Run]:
    """Return all trainings of the comparison, arm by arm."""
    return [Run(arm, seed) for arm in result.arms for seed in arm.seeds]


def runs_below_constant(result: Result) -> list[Run]:
    """Return the trainings that score no more than a map of one class everywhere."""
    if result.constant_map is None:
        return []
    least = result.constant_map.test_miou
    return [run for run in runs_of(result) if run.seed.test_miou <= least]


def is_below_constant(arm: ArmResult, result: Result) -> bool:
    """Return True if an arm's mean or median score is no more than that of a constant map."""
    if result.constant_map is None:
        return False
    scores = [seed.test_miou for seed in arm.seeds]
    return min(arm.mean_test_miou, median(scores)) <= result.constant_map.test_miou


def runs_that_diverged(result: Result) -> list[Run]:
    """Return the trainings whose loss or gradient stopped being finite before the end."""
    return [run for run in runs_of(result) if run.seed.diverged]


def runs_above_even_guess(result: Result) -> list[Run]:
    """Return the trainings that ended with a loss no lower than that of an even guess."""
    return _whole_runs(result, lambda run: _is_above_guess(run.seed.train_loss, run.arm))


def runs_still_rising(result: Result) -> list[Run]:
    """Return the trainings whose validation score rose by `RISING` or more at the very end."""
    return _whole_runs(result, lambda run: (run.seed.late_gain or 0.0) >= RISING)


def _whole_runs(result: Result, is_weak: Callable[[Run], bool]) -> list[Run]:
    return [run for run in runs_of(result) if not run.seed.diverged and is_weak(run)]


def _is_above_guess(loss: float | None, arm: ArmResult) -> bool:
    return loss is not None and arm.even_guess_loss is not None and loss >= arm.even_guess_loss
