"""Stop a paired comparison as soon as it is decided: a sequential sign test, valid at every look.

Each seed's gain has a sign. Two bets are placed on the next sign: the first that tuned wins more
often than not, the second that it loses more often. Under "the median gain is not above 0" the
expected wealth of the first bet never rises, and by Ville's inequality the chance that its stake of
1 ever grows to 2 / alpha is at most alpha / 2, at any number of looks; likewise for the second. So
a comparison may stop at the first seed at which one bet has reached 2 / alpha, and the decision
keeps its level.

Half of each stake is bet all-in, half is spread evenly over all chances p > 1/2 of winning. The
all-in half decides after six equal signs at 95 %, as the sign test of six fixed seeds does; the
spread half still decides when some signs differ. A seed that ties counts against both bets.

Source: Ville, Etude critique de la notion de collectif, 1939; Robbins, "Statistical methods related
to the law of the iterated logarithm", Ann. Math. Stat. 41, 1970 (the mixture); Shafer, "Testing by
betting", J. R. Stat. Soc. A 184, 2021.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, reduce
from itertools import accumulate, count
from statistics import median
from typing import Literal, NamedTuple

import scipy

from .intervals import Interval

Decision = Literal["improved", "worse", "undecided", "futile", "spent"]
MIN_CHANCE = 0.05  # of deciding; below it another pair is not worth its cost


@cache
def compute_wealth(wins: int, losses: int) -> float:
    """Return the wealth of a bet on winning more often than not, from a stake of 1.

    With n = wins + losses: half of the stake becomes 2^n without a loss, else 0; the other half the
    mean over p uniform on (1/2, 1) of (2 p)^wins (2 (1 - p))^losses.

    Args:
        wins: Number of seeds with the sign that was bet on.
        losses: Number of other seeds.
    """
    total = wins + losses
    all_in = 2.0**total if losses == 0 else 0.0
    upper_tail = scipy.special.betaincc(wins + 1, losses + 1, 0.5)
    spread = 2.0 ** (total + 1) * math.exp(scipy.special.betaln(wins + 1, losses + 1)) * upper_tail
    return 0.5 * all_in + 0.5 * float(spread)


def decide(gains: Sequence[float], *, at_most: int, level: float = 0.95) -> Decision:
    """Decide a comparison from its seeds so far, and detect when more seeds cannot.

    Args:
        gains: Relative gains of the seeds, in the order in which they were trained.
        at_most: Pairs after which the comparison ends anyway.
        level: Confidence of the decision, a fraction.

    Returns:
        "improved" or "worse" from the first seed on at which that is decided; "futile" if the
        remaining pairs decide with a chance below `MIN_CHANCE`, or none remain; else "undecided".

    Raises:
        ValueError: A gain is not a number, there are more gains than `at_most`, or the level is
            no fraction.
    """
    _check(gains, level)
    if len(gains) > at_most:
        message = f"A comparison of at most {at_most} repeats has {len(gains)}. Raise at_most."
        raise ValueError(message)
    signs = _Signs()
    for gain in gains:
        signs = signs.add(gain)
        if outcome := signs.find_outcome(level):
            return outcome
    chance = _chance_to_decide(signs, at_most - len(gains), level)
    return "undecided" if chance >= MIN_CHANCE else "futile"


def count_pairs_to_stop(gains: Sequence[float], *, at_most: int, level: float = 0.95) -> int:
    """Return the fewest further pairs after which a comparison can end, decided or futile.

    So many pairs are trained whatever they show, and may be trained at the same time. Only an exact
    tie can end a comparison before.

    Args:
        gains: Relative gains of the seeds so far, in the order in which they were trained.
        at_most: Pairs after which the comparison ends anyway.
        level: Confidence of the decision, a fraction.

    Returns:
        0 if the comparison has ended.

    Raises:
        ValueError: See `decide`.
    """
    if decide(gains, at_most=at_most, level=level) != "undecided":
        return 0
    signs = reduce(_Signs.add, gains, _Signs())
    return _fewest_to_stop(signs, at_most - len(gains), level)


def rate_chance(gains: Sequence[float], *, at_most: int, level: float = 0.95) -> float:
    """Return the chance that a comparison is decided, per further pair that it is expected to train.

    Both are those of a comparison that goes on until it is decided or futile; the chance that a seed
    gains is Laplace's, from the seeds so far.

    Args:
        gains: Relative gains of the seeds so far, in the order in which they were trained.
        at_most: Pairs after which the comparison ends anyway.
        level: Confidence of the decision, a fraction.

    Returns:
        0 if the comparison has ended.

    Raises:
        ValueError: See `decide`.
    """
    if decide(gains, at_most=at_most, level=level) != "undecided":
        return 0.0
    signs, left = reduce(_Signs.add, gains, _Signs()), at_most - len(gains)
    return _chance_to_decide(signs, left, level) / _expected_pairs(signs, left, level)


def find_stop(gains: Sequence[float], *, at_most: int, level: float = 0.95) -> Stop:
    """Return the first seed at which a comparison ends, and how; see `decide`.

    Seeds after the first at which it ends are no part of the comparison.

    Raises:
        ValueError: See `decide`.
    """
    for pairs in range(len(gains) + 1):
        decision = decide(gains[:pairs], at_most=at_most, level=level)
        if decision != "undecided":
            return Stop(pairs, decision)
    return Stop(len(gains), "undecided")


def compute_p_value(gains: Sequence[float]) -> float:
    """Return the two-sided p value of "the median gain is 0", valid at any stopping time.

    It is 2 / w, at most 1, where w is the largest wealth of either bet at any seed so far, and so
    at most alpha exactly where `decide` returns "improved" or "worse".

    Source: Shafer, Shen, Vereshchagin and Vovk, "Test Martingales, Bayes Factors and p-Values",
    Statistical Science 26, 2011.
    """
    _check(gains, 0.95)
    states = accumulate(gains, _Signs.add, initial=_Signs())
    return min(1.0, 2 / max(max(signs.wealths) for signs in states))


@dataclass(frozen=True, slots=True)
class Stopping:
    """Hold how a comparison that stops as soon as it is decided ended.

    Attributes:
        at_most: Pairs after which it would have ended anyway.
        decision: What its last pair decided; see `decide`. "spent": nothing, but what was left of the
            repeats that it shared with others could not decide it; see `shared_repeats`.
    """

    at_most: int
    decision: Decision


class Stop(NamedTuple):
    """Hold the number of pairs at which a comparison stands or ended, and its decision there."""

    pairs: int
    decision: Decision


class _Signs(NamedTuple):
    """Hold the numbers of seeds that gained, lost and tied."""

    gained: int = 0
    lost: int = 0
    tied: int = 0

    def add(self, gain: float) -> _Signs:
        return _Signs(self.gained + (gain > 0), self.lost + (gain < 0), self.tied + (gain == 0))

    @property
    def wealths(self) -> tuple[float, float]:
        """Wealth of the bets on gains and on losses."""
        return (
            compute_wealth(self.gained, self.lost + self.tied),
            compute_wealth(self.lost, self.gained + self.tied),
        )

    @property
    def chance_to_gain(self) -> float:
        """Chance that the next seed gains: of a uniform prior, by Laplace's rule of succession."""
        return (self.gained + 1) / (self.gained + self.lost + 2)

    def find_outcome(self, level: float) -> Literal["improved", "worse"] | None:
        """Return the decision at this seed, if any; at most one of the two can hold."""
        target = 2 / (1 - level)
        gaining, losing = self.wealths
        if gaining >= target:
            return "improved"
        return "worse" if losing >= target else None


@cache
def _chance_to_decide(signs: _Signs, pairs_left: int, level: float) -> float:
    """Return the chance that an undecided comparison decides within `pairs_left` more pairs.

    No tie is expected.
    """
    if signs.find_outcome(level):
        return 1.0
    if pairs_left == 0:
        return 0.0
    next_gains = signs.chance_to_gain
    after_gain = _chance_to_decide(signs.add(1.0), pairs_left - 1, level)
    after_loss = _chance_to_decide(signs.add(-1.0), pairs_left - 1, level)
    return next_gains * after_gain + (1 - next_gains) * after_loss


def _is_over(signs: _Signs, pairs_left: int, level: float) -> bool:
    decided = signs.find_outcome(level) is not None
    return decided or _chance_to_decide(signs, pairs_left, level) < MIN_CHANCE


@cache
def _fewest_to_stop(signs: _Signs, pairs_left: int, level: float) -> int:
    if _is_over(signs, pairs_left, level):
        return 0
    following = (signs.add(gain) for gain in (1.0, -1.0))
    return 1 + min(_fewest_to_stop(after, pairs_left - 1, level) for after in following)


@cache
def _expected_pairs(signs: _Signs, pairs_left: int, level: float) -> float:
    """Return the mean number of further pairs until a comparison is decided or futile."""
    if _is_over(signs, pairs_left, level):
        return 0.0
    next_gains = signs.chance_to_gain
    after_gain = _expected_pairs(signs.add(1.0), pairs_left - 1, level)
    after_loss = _expected_pairs(signs.add(-1.0), pairs_left - 1, level)
    return 1 + next_gains * after_gain + (1 - next_gains) * after_loss


def bound_median(gains: Sequence[float], level: float = 0.95) -> Interval:
    """Return the median gain with an interval that is valid at any stopping time.

    The interval excludes every m for which one of the two bets, placed on the signs of `gain - m`,
    reached 2 / alpha at any seed so far. So it excludes 0 exactly where `decide` returns "improved"
    or "worse" at the last seed. Where earlier seeds have excluded the median of all gains, the
    nearest value that is not excluded stands in its place.

    Args:
        gains: Relative gains of the seeds, in percent, in the order in which they were trained.
        level: Confidence, a fraction.

    Raises:
        ValueError: There is no gain, one is not a number, or the level is no fraction.
    """
    _check(gains, level)
    if not gains:
        message = "A median needs at least one gain, got none. Train a repeat first."
        raise ValueError(message)
    bounds = _bound_below(gains, level), -_bound_below([-gain for gain in gains], level)
    low, high = sorted(bounds)  # in one comparison of many both bets may win
    return Interval(low, min(max(median(gains), low), high), high, level)


def _bound_below(gains: Sequence[float], level: float) -> float:
    """Return the largest gain below which the median cannot lie, or -inf.

    Just below a gain x the bet on "above" has won at every seed with a gain of x or more.
    """
    excluded = (x for x in gains if _has_reached([gain >= x for gain in gains], level))
    return max(excluded, default=-math.inf)


def _has_reached(wins: Sequence[bool], level: float) -> bool:
    """Return True if the wealth of a bet with these outcomes reached 2 / alpha at any time."""
    counts = zip(accumulate(wins), count(1), strict=False)
    return any(compute_wealth(won, n - won) >= 2 / (1 - level) for won, n in counts)


def _check(gains: Sequence[float], level: float) -> None:
    if any(math.isnan(gain) for gain in gains):
        message = f"Gains must be numbers, got {list(gains)}. A training that diverged scores 0."
        raise ValueError(message)
    if not 0 < level < 1:
        message = f"level must be between 0 and 1, got {level}. The usual one is 0.95."
        raise ValueError(message)
