"""Compute the statistical power of a comparison, and the number of seeds it needs."""

from __future__ import annotations

import math

import scipy

from .paired import FEWEST, rank_of

POWER = 0.8  # Cohen 1988
MOST = 200  # seeds; a larger number is reported as "more than that"


def power(gain: float, spread: float, seeds: int, *, level: float = 0.95) -> float:
    """Return the chance that a gain of this size ends in the verdict "improved".

    The paired gains of the seeds are assumed normal. At 95 %, from six seeds on the sign test
    decides; with four or five, a paired t test must reject and every seed must gain; with fewer
    the power is 0. See `paired.typical_gain`.

    Args:
        gain: True relative improvement, percent.
        spread: Standard deviation of the seeds' paired gains, percentage points.
        seeds: Number of pairs.
        level: Level of the interval that decides, a fraction.

    Source: Cohen, "Statistical Power Analysis", 1988 (noncentral t); Dixon and Mood, JASA 41, 1946
    (sign test).
    """
    rank = rank_of(seeds, level)
    if gain <= 0 or not (rank or seeds >= FEWEST):
        return 0.0
    if spread == 0:
        return 1.0
    chance = float(scipy.stats.norm.cdf(gain / spread))  # that one seed gains
    if rank:
        return float(scipy.stats.binom.sf(seeds - rank, seeds, chance))
    quantile = float(scipy.stats.t.ppf((1 + level) / 2, df=seeds - 1))
    shift = gain / spread * math.sqrt(seeds)
    return min(float(scipy.stats.nct.sf(quantile, df=seeds - 1, nc=shift)), chance**seeds)


def seeds_needed(gain: float, spread: float, *, level: float = 0.95) -> int | None:
    """Return the fewest seeds that show a gain with a power of `POWER`; None: more than `MOST`.

    Args:
        gain: True relative improvement, percent.
        spread: Standard deviation of the seeds' paired gains, percentage points.
        level: Level of the interval that decides, a fraction.
    """
    enough = (n for n in range(2, MOST + 1) if power(gain, spread, n, level=level) >= POWER)
    return next(enough, None)
