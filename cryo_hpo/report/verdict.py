"""Describe the verdict of a study: sentence, paired comparison, notes and intervals."""

from __future__ import annotations

import math
from typing import NamedTuple

from .. import stats
from ..results.study import Result, SeedResult
from ..stats import Improvement, Interval
from .table import Table, markdown
from .wording import BASELINE, NONE, TUNED, count_of, fixed_lr, percent, short_lr, signed, tuned_arm

GAINS = (1, 2, 5, 10)  # percent, for which the notes state the number of seeds needed


class VerdictRow(NamedTuple):
    """A line of the paired comparison, as text."""

    seed: str
    baseline: str
    tuned: str
    difference: str


def verdict_line(result: Result) -> str:
    """Return the outcome of a study as one sentence."""
    fixed = f"the fixed learning rate {short_lr(fixed_lr(result))}"
    baseline = result.arm(BASELINE)
    scored = (
        f"test mIoU {percent(baseline.mean_test_miou)} over {count_of(len(baseline.seeds), 'seed')}"
    )
    if result.winner is None:
        return f"No search, no comparison: {fixed} gives {scored}."
    if result.winner_is_baseline:
        return (
            f"No other trial ({len(result.trials) - 1} tried) beat {fixed} on validation: "
            f"the winner is the baseline itself, {scored}; improvement not shown."
        )
    improvement = result.improvement
    if improvement is None:
        return (
            f"Trial {result.winner} won on validation; on test, {fixed} gives {scored}: not shown."
        )
    opening = {
        "improved": f"Tuned beats {fixed}",
        "not shown": f"Tuned is not shown to beat {fixed}",
        "worse": f"Tuned falls behind {fixed}",
    }[improvement.verdict]
    return (
        f"{opening}: test mIoU {percent(improvement.tuned)} against "
        f"{percent(improvement.baseline)}, "
        f"{_relative(improvement.relative_pct)}{_typical(improvement.typical_pct)}, "
        f"{count_of(improvement.num_pairs, 'paired seed')}: {improvement.verdict}."
    )


def verdict_rows(result: Result) -> list[VerdictRow]:
    """Return the test scores of the two arms seed by seed, and their means."""
    baseline = result.arm(BASELINE)
    tuned = tuned_arm(result)
    of_tuned = {} if tuned is None else {s.seed: s for s in tuned.seeds}
    rows = [
        VerdictRow(
            str(one.seed),
            _score(one),
            _score(other),
            _gain(one.test_miou, other.test_miou if other else None),
        )
        for one in baseline.seeds
        for other in [of_tuned.get(one.seed)]
    ]
    b, t = baseline.mean_test_miou, None if tuned is None else tuned.mean_test_miou
    return [*rows, VerdictRow("mean", percent(b), percent(t), _gain(b, t))]


def verdict(result: Result) -> Table:
    """Return the paired comparison, seed by seed and as means."""
    rows = verdict_rows(result)
    if tuned_arm(result) is None:
        return Table.of(("seed", BASELINE), [row[:2] for row in rows], strong=[-1])
    return Table.of(("seed", BASELINE, TUNED, "difference"), rows, strong=[-1])


def verdict_notes(result: Result) -> list[str]:
    """Return the notes below the paired comparison: interval, verdict, p value."""
    improvement = result.improvement
    if improvement is None or tuned_arm(result) is None:
        return []
    # 2 of 2^n sign patterns are at least as extreme as a sample of one sign.
    least = 2.0 ** (1 - improvement.num_pairs)
    few = f"; {count_of(improvement.num_pairs, 'pair')} cannot give less than {least:.4f}"
    return [
        f"Difference of the means: {_relative(improvement.relative_pct)}"
        f"{_typical(improvement.typical_pct)}. Verdict: {improvement.verdict}.",
        f"Paired sign-flip test: p = {improvement.p_value:.4f}, sign test: "
        f"p = {improvement.sign_p_value:.4f}"
        f"{few if least > 1 - improvement.relative_pct.level else ''}.",
        *_too_few(improvement),
        *_seeds_needed(improvement),
    ]


def _too_few(improvement: Improvement) -> list[str]:
    if (
        improvement.num_pairs >= stats.FEWEST or improvement.verdict != "not shown"
    ):  # results of older rules
        return []
    return [
        f"{count_of(improvement.num_pairs, 'seed')} cannot decide: an interval needs {stats.FEWEST}, an "
        "exact one six. Run a study of a new name with more `seeds`."
    ]


def _seeds_needed(improvement: Improvement) -> list[str]:
    """Return how many seeds would show gains of several sizes, at the observed spread."""
    if not improvement.spread_pct:
        return []
    needed = {gain: stats.seeds_needed(gain, improvement.spread_pct) for gain in GAINS}
    said = ", ".join(
        f"{gain} %: {f'more than {stats.MOST}' if seeds is None else seeds}"
        for gain, seeds in needed.items()
    )
    return [
        f"Seeds it takes to show a gain with a chance of 80 %, at the spread seen here "
        f"({improvement.spread_pct:.1f} percentage points), for {said}."
    ]


def name_intervals(improvement: Improvement) -> dict[str, Interval]:
    """Return the intervals of an improvement under the names of table and figure."""
    rows = {
        "typical seed (decides)": improvement.typical_pct,
        "means, Fieller": improvement.relative_pct,
        "means, BCa over seeds": improvement.bca_pct,
        "means, BCa over scenes too": improvement.scenes_pct,
    }
    return {name: interval for name, interval in rows.items() if interval is not None}


def intervals(result: Result) -> Table | None:
    """Return every interval of the relative improvement; None without a comparison."""
    if result.improvement is None or tuned_arm(result) is None:
        return None
    rows = [
        (name, *(signed(v) if math.isfinite(v) else NONE for v in (of.mid, of.low, of.high)))
        for name, of in name_intervals(result.improvement).items()
    ]
    head = ("relative improvement in percent", "estimate", "low", "high")
    return Table.of(head, rows, left=1, strong=[0])


def verdict_table(result: Result) -> str:
    """Return the verdict sentence and the paired comparison, for a terminal or a note."""
    parts = [verdict_line(result), markdown(verdict(result)), "\n".join(verdict_notes(result))]
    return "\n\n".join(filter(None, parts))


def _relative(gain: Interval) -> str:
    if not math.isfinite(gain.mid):
        return "relative improvement undefined"  # the baseline's mean is 0
    return f"{signed(gain.mid)} % relative {format_limits(gain)}"


def _typical(gain: Interval) -> str:
    """Return the gain of a typical seed, which decides."""
    point = f"{signed(gain.mid)} %" if math.isfinite(gain.mid) else "infinitely"
    return f"; a typical seed gains {point} {format_limits(gain)}"


def format_limits(gain: Interval) -> str:
    """Return the limits of an interval of percentages in brackets, with its level."""
    name = f"{100 * gain.level:g} % interval"
    if not gain.is_bounded:
        return f"[{name} unbounded]"
    low, high = (signed(v) if math.isfinite(v) else "unbounded" for v in (gain.low, gain.high))
    return f"[{name} {low} to {high}]"


def _score(seed: SeedResult | None) -> str:
    if seed is None:
        return NONE
    flags = {"diverged": seed.diverged, "one class": seed.collapsed}
    faults = ", ".join(word for word, is_so in flags.items() if is_so)
    return f"{percent(seed.test_miou)} ({faults})" if faults else percent(seed.test_miou)


def _gain(baseline: float, tuned: float | None) -> str:
    return NONE if tuned is None else signed(100 * (tuned - baseline), 2)
