"""Describe the statistics below a verdict in words: p values, power, intervals, lost trainings."""

from __future__ import annotations

import math

from .. import stats
from ..results.study import Result
from ..stats import Improvement, Interval
from .extended import extension_notes
from .table import Table
from .wording import NONE, count_of, signed, tuned_arm

GAINS = (1, 2, 5, 10)  # percent, for which the notes state the number of seeds needed
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def evidence_notes(result: Result) -> list[str]:
    """Return what decides, the p values and the power of the comparison, and what was added later.

    Empty without a comparison or an extension.
    """
    improvement = result.improvement
    if improvement is None or tuned_arm(result) is None:
        return extension_notes(result)
    return [
        *extension_notes(result),
        f"The interval of a typical repeat's relative gain decides; files have the verdict as "
        f"`{improvement.verdict}`.",
        *_stop(improvement),
        *([_p_values(improvement)] if improvement.stopped is None else []),
        *_too_few(result, improvement),
        *_seeds_needed(improvement),
    ]


def _stop(improvement: Improvement) -> list[str]:
    """Return why a comparison that stops when it is decided stopped, and what holds at such a stop."""
    if improvement.stopped is None:
        return []
    most, repeats = improvement.stopped.at_most, improvement.num_pairs
    spared = (
        f"after {repeats} of at most {most} repeats ({count_of(most - repeats, 'repeat')} spared)"
    )
    why = {
        "improved": f"decided {spared}",
        "worse": f"decided {spared}",
        "futile": f"given up {spared}: the others would have decided with a chance below "
        f"{100 * stats.MIN_CHANCE:g} %",
        "undecided": f"not decided {spared}",
        "spent": f"ended without a decision after {repeats} of at most {most} repeats: the repeats "
        "that the cells of its campaign share were spent, or too few were left to decide it",
    }[improvement.stopped.decision]
    if repeats == most and improvement.verdict == "not shown":
        why = f"not decided by all {most} repeats"
    return [
        f"The comparison was {why}. Sequential sign test: p = {improvement.p_value:.4f}. This p and "
        "the interval of the typical repeat hold although scores were looked at on the way; the "
        "intervals of the means are those of a fixed number of repeats."
    ]


def name_intervals(improvement: Improvement) -> dict[str, Interval]:
    """Return the intervals of an improvement under the names of table and figure."""
    rows = {
        "typical repeat (decides)": improvement.typical_pct,
        "means, Fieller": improvement.relative_pct,
        "means, BCa over seeds": improvement.bca_pct,
        "means, BCa over scenes too": improvement.scenes_pct,
    }
    fixed = "" if improvement.stopped is None else ", as if fixed"  # the number of repeats
    return {
        f"{name}{fixed if name.startswith('means') else ''}": interval
        for name, interval in rows.items()
        if interval is not None
    }


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


def losses(result: Result) -> str:
    """Return how often each arm collapsed or diverged, with exact intervals."""
    shares = []
    for arm in result.arms:
        lost = sum(seed.collapsed or seed.diverged for seed in arm.seeds)
        of = stats.share(lost, len(arm.seeds))
        shares.append(f"{arm.name} {lost} of {of.of} [{100 * of.low:.0f} to {100 * of.high:.0f} %]")
    return f"Trainings that collapsed or diverged, with exact 95 % intervals: {'; '.join(shares)}."


def chance(improvement: Improvement) -> str:
    """Return in a few words, for a table, how often repeats differ as clearly by chance alone."""
    if improvement.num_pairs == 1:
        return "one repeat allows no test"
    p_value = f"p = {improvement.p_value:.3g}"
    if improvement.stopped is not None:
        return f"{p_value} (sequential sign test)"
    if _is_too_short(improvement):
        num = _in_words(improvement.num_pairs)
        return f"{num} repeats are too few for p < {_limit(improvement):.2g} ({p_value})"
    return f"in {100 * improvement.p_value:.2g} % of studies ({p_value})"


def _limit(improvement: Improvement) -> float:
    return 1 - improvement.typical_pct.level


def _least_p(improvement: Improvement) -> float:
    """Return the least p value of so many repeats: 2 of 2^n sign patterns are of one sign."""
    return float(2.0 ** (1 - improvement.num_pairs))


def _is_too_short(improvement: Improvement) -> bool:
    return _least_p(improvement) > _limit(improvement) + 1e-9


def _p_values(improvement: Improvement) -> str:
    """Return whether the repeats agree, and whether so many can be significant at all."""
    num = improvement.num_pairs
    values = f"sign-flip test p = {improvement.p_value:.4f}, sign test p = {improvement.sign_p_value:.4f}"
    if num == 1:
        return "One repeat allows no test."
    agreed = agreement(improvement)
    if _is_too_short(improvement):
        return (
            f"{agreed}, but {_in_words(num)} are too few for p < {_limit(improvement):.2g}: "
            f"{_in_words(num)} cannot give less than {_least_p(improvement):.4f} ({values})."
        )
    return (
        f"{agreed}: without a true difference, repeats differ as clearly in "
        f"{100 * improvement.p_value:.2g} % of studies ({values})."
    )


def agreement(improvement: Improvement) -> str:
    """Return how many repeats gain and lose: All six repeats agree."""
    num, gained = improvement.num_pairs, improvement.num_gained
    lost = sum(difference < 0 for difference in improvement.differences)
    if num in (gained, lost):
        return f"All {_in_words(num)} repeats agree"
    gain, lose = "gains" if gained == 1 else "gain", "loses" if lost == 1 else "lose"
    return f"{gained} of {num} repeats {gain} and {lost} {lose}"


def _in_words(number: int) -> str:
    return NUMBERS[number] if number < len(NUMBERS) else str(number)


def _too_few(result: Result, improvement: Improvement) -> list[str]:
    decides = improvement.num_pairs >= stats.FEWEST or improvement.verdict != "not shown"
    if decides or improvement.stopped is not None:
        return []
    return [
        f"{count_of(improvement.num_pairs, 'repeat')} cannot decide: an interval needs "
        f"{stats.FEWEST}, an exact one six. Add some: `cryo-hpo extend {result.study} --seeds ...`."
    ]


def _seeds_needed(improvement: Improvement) -> list[str]:
    """Return how many seeds would show gains of several sizes, at the observed spread."""
    if not improvement.spread_pct:
        return []
    needed = {gain: stats.seeds_needed(gain, improvement.spread_pct) for gain in GAINS}
    seeds = ", ".join(
        f"{f'more than {stats.MOST}' if number is None else number} for {gain} %"
        for gain, number in needed.items()
    )
    return [
        f"Repeats differ in their relative gain by {improvement.spread_pct:.1f} percentage points "
        f"(standard deviation). To show a gain in four studies of five, that takes so many repeats: "
        f"{seeds}."
    ]
