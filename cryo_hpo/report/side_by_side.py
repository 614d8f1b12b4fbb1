"""Describe two studies side by side, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from ..results.comparison import Comparison
from ..results.study import Result
from .table import align_columns
from .wording import (
    BASELINE,
    NONE,
    VERDICTS,
    count_of,
    duration,
    format_limits,
    percent,
    plain,
    short_lr,
    signed,
    tuned_arm,
)


def side_by_side(comparison: Comparison) -> str:
    """Return verdicts, scores, costs, recipe differences, and the difference or its obstacles."""
    names = (comparison.first.study, comparison.second.study)
    parts = [align_columns(("", *names), _facts(comparison))]
    if comparison.differences:
        rows = [(d.path, plain(d.first), plain(d.second)) for d in comparison.differences]
        parts.append(align_columns(("winning recipe", *names), rows))
    else:
        parts.append("The winning recipes are equal.")
    return "\n\n".join([*parts, *_outcome(comparison)])


def _facts(comparison: Comparison) -> list[tuple[str, str, str]]:
    columns = [dict(_column(result)) for result in (comparison.first, comparison.second)]
    return [(name, columns[0][name], columns[1][name]) for name in columns[0]]


def _column(result: Result) -> Iterator[tuple[str, str]]:
    """Yield the rows of one study."""
    tuned, gain, spent = tuned_arm(result), result.improvement, result.costs
    recipe = result.base_recipe
    fixed = result.arm(BASELINE) if result.arms else None
    yield "dataset", result.dataset
    yield "encoder", plain((recipe.get("model") or {}).get("encoder"))
    yield "chosen by", result.metric
    yield "verdict", result.verdict if gain is None else VERDICTS[gain.verdict]
    yield "fixed LR", short_lr(recipe["optim"]["lr"])
    yield "winner's LR", short_lr(result.best_recipe["optim"]["lr"])
    yield "seeds", NONE if fixed is None else str(len(fixed.seeds))
    yield "fixed test mIoU", NONE if fixed is None else percent(fixed.mean_test_miou)
    yield "tuned test mIoU", NONE if tuned is None else percent(tuned.mean_test_miou)
    yield "gain of a typical repeat, %", NONE if gain is None else signed(gain.typical_pct.mid)
    yield "its interval", NONE if gain is None else format_limits(gain.typical_pct)
    yield "epochs, search + proof", f"{spent.epochs_search} + {spent.epochs_confirm}"
    yield "training time", duration(spent.seconds_search + spent.seconds_confirm)


def _outcome(comparison: Comparison) -> Iterator[str]:
    """Yield whether the scores may be compared, and the difference if they may."""
    if comparison.obstacles:
        yield f"Their scores may not be compared: {'; '.join(comparison.obstacles)}."
        return
    yield "Their scores may be compared: same classes, data, splits and scoring rules."
    old, new = comparison.first.study, comparison.second.study
    gain = comparison.gain
    if gain is not None:
        points = signed(100 * (gain.tuned - gain.baseline), 2)
        yield (
            f"{VERDICTS[gain.verdict]}: the winner of '{new}' scores {points} points of test mIoU "
            f"against the winner of '{old}' over {count_of(gain.num_pairs, 'common seed')} "
            f"({', '.join(map(str, comparison.paired_seeds))}); a typical repeat "
            f"{signed(gain.typical_pct.mid)} % {format_limits(gain.typical_pct)}."
        )
    yield from comparison.notes
