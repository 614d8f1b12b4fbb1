"""Describe in words whether tuning is worth more than a good default that was learned elsewhere."""

from __future__ import annotations

import math

from .. import stats
from ..results.study import ArmResult, Result
from ..stats import Improvement
from .wording import (
    BASELINE,
    VERDICTS,
    count_of,
    format_limits,
    percent,
    short_lr,
    signed,
    tuned_arm,
)


def calibrated_notes(result: Result) -> list[str]:
    """Return a sentence for each calibrated default: what the tuned recipe gains over it.

    The baseline takes the tuned recipe's place where there is none. Empty without such an arm or
    without a full proof.
    """
    if result.proof != "full":
        return []
    return [_note(arm, result) for arm in result.arms if arm.calibrated_on]


def _note(arm: ArmResult, result: Result) -> str:
    other = tuned_arm(result) or result.arm(BASELINE)
    name = "the tuned recipe" if other.name != BASELINE else "the fixed learning rate"
    comparison = _compare(other, arm, result)
    rate = short_lr(float(arm.recipe["optim"]["lr"]))
    return (
        f"{VERDICTS[comparison.verdict]}: {name} against the calibrated default '{arm.name}' (learning "
        f"rate {rate}, the mean of the best on {', '.join(arm.calibrated_on)}; not on this dataset). "
        f"{_gain(comparison)} The study's verdict is over the fixed learning rate."
    )


def _compare(other: ArmResult, arm: ArmResult, result: Result) -> Improvement:
    stopped = None if result.improvement is None else result.improvement.stopped
    scores = ([seed.test_miou for seed in a.seeds] for a in (other, arm))
    return stats.relative_improvement(*scores, at_most=None if stopped is None else stopped.at_most)


def _gain(comparison: Improvement) -> str:
    points = [100 * difference for difference in comparison.differences]
    reach = dict.fromkeys(signed(point, 2) for point in (min(points), max(points)))
    typical = comparison.typical_pct
    relative = "a typical repeat is undefined, since the default scored 0"
    if math.isfinite(typical.mid):
        relative = f"a typical repeat {signed(typical.mid)} % {format_limits(typical)}"
    return (
        f"{comparison.num_gained} of {count_of(comparison.num_pairs, 'repeat')} gain; test mIoU changes by "
        f"{' to '.join(reach)} points, from {percent(comparison.baseline)} to {percent(comparison.tuned)} on "
        f"average; {relative}."
    )
