"""Compare a tuned recipe with its baseline on the same seeds (paired tests and intervals).

Two estimates are separate. The gain of a typical repeat is the median of the seeds' relative gains;
its interval is valid for any distribution of the scores, and decides. The ratio of the means is the
number that papers print; it also depends on how often either recipe collapses, which a few seeds
cannot estimate. docs/statistics.md has the measured coverage of both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from .bootstrap import bca_ratio
from .intervals import Interval
from .sequential import Stopping, bound_median, compute_p_value, decide

Verdict = Literal["improved", "not shown", "worse"]
FEWEST = 4  # pairs; with fewer no interval keeps a level of 95 %; docs/statistics.md
EXACT_TO = 16  # pairs; with more the sign patterns are sampled, not enumerated
RESAMPLES = 20_000  # sign patterns sampled


@dataclass(frozen=True, slots=True)
class Improvement:
    """Hold the comparison of a tuned recipe with its baseline on the same seeds.

    `result.improvement` and `relative_improvement` return it. All intervals are in percent; a limit
    is infinite where the data set none, which is null in `result.json`.

    Attributes:
        baseline: Mean score of the baseline.
        tuned: Mean score of the tuned recipe.
        typical_pct: Median over the seeds of 100 * (tuned / baseline - 1); see `typical_gain`.
        relative_pct: 100 * (mean of tuned / mean of baseline - 1), with Fieller's interval.
        bca_pct: `relative_pct` with the bootstrap's interval; too narrow for few seeds.
        spread_pct: Standard deviation of the seeds' gains; None below two seeds or if one gain is
            infinite.
        p_value: Two-sided sign-flip test on the paired differences.
        sign_p_value: Two-sided sign test on the number of seeds that gain.
        num_pairs: Seeds that both arms have.
        verdict: "improved" or "worse" when the interval of `typical_pct` leaves out 0, else
            "not shown".
        differences: Tuned minus baseline of every seed, in the unit of the scores.
        stopped: How the comparison ended, if it was to stop as soon as it is decided: then the
            interval of `typical_pct` and both p values are valid at any stopping time, and all
            other intervals are those of a fixed number of pairs. None: the number was fixed.
        scenes_pct: `relative_pct` with the bootstrap's interval over seeds and test scenes; None
            where the scores of the scenes are not known.
    """

    baseline: float
    tuned: float
    typical_pct: Interval
    relative_pct: Interval
    bca_pct: Interval
    spread_pct: float | None
    p_value: float
    sign_p_value: float
    num_pairs: int
    verdict: Verdict
    differences: tuple[float, ...]
    scenes_pct: Interval | None = None
    stopped: Stopping | None = None

    @property
    def num_gained(self) -> int:
        """Number of seeds on which tuned scores more than the baseline."""
        return sum(difference > 0 for difference in self.differences)


def relative_improvement(
    tuned: Sequence[float],
    baseline: Sequence[float],
    *,
    level: float = 0.95,
    at_most: int | None = None,
) -> Improvement:
    """Compare two recipes trained on the same seeds.

    Args:
        tuned: Scores, one per seed.
        baseline: Scores of the same seeds in the same order.
        level: Confidence of the interval, a fraction.
        at_most: Pairs after which a comparison ends that was to stop as soon as it is decided
            (see `sequential`); None: the number of pairs was fixed beforehand.

    Raises:
        ValueError: The samples differ in length, hold a value that is no score, or are longer
            than `at_most`.
    """
    t, b = np.asarray(tuned, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    _check(t, b, level)
    fixed = _compare(t, b, level)
    if at_most is None:
        return fixed
    gains = paired_gains(t, b).tolist()
    typical, p_value = bound_median(gains, level), compute_p_value(gains)
    return replace(
        fixed,
        typical_pct=typical,
        p_value=p_value,
        sign_p_value=p_value,
        verdict=_verdict(typical),
        stopped=Stopping(at_most, decide(gains, at_most=at_most, level=level)),
    )


def _compare(t: NDArray[np.float64], b: NDArray[np.float64], level: float) -> Improvement:
    """Compare two recipes on a number of seeds that was fixed beforehand."""
    ratio, typical = fieller(t, b, level), typical_gain(t, b, level)
    return Improvement(
        baseline=float(b.mean()),
        tuned=float(t.mean()),
        typical_pct=typical,
        relative_pct=ratio,
        bca_pct=bca_ratio(t, b, level),
        spread_pct=_spread(paired_gains(t, b)),
        p_value=_sign_flip(t - b),
        sign_p_value=_sign_test(t - b),
        num_pairs=len(t),
        verdict=_verdict(typical),
        differences=tuple((t - b).tolist()),
    )


def typical_gain(t: NDArray[np.float64], b: NDArray[np.float64], level: float = 0.95) -> Interval:
    """Return the median over seeds of the relative gain, in percent, with its interval.

    From six seeds on the interval reaches from the k-th smallest to the k-th largest gain, k as
    large as the level allows: the sign test inverted, exact for any distribution. With four or five
    seeds no such interval has a level of 95 %; the union of the range of gains and Fieller's
    interval of the means replaces it. Fewer seeds give no bounds: three lie on one side of the
    median one time in four, and three collapses do not show how the recipe scores otherwise.

    Args:
        t: Scores of the tuned recipe, one per seed.
        b: Scores of the baseline on the same seeds.
        level: Confidence, a fraction.

    Source: Thompson, "On Confidence Ranges for the Median", Ann. Math. Stat. 7, 1936.
    """
    gains = np.sort(paired_gains(t, b))
    mid = _median(gains)
    rank = rank_of(len(gains), level)
    if rank:
        return Interval(float(gains[rank - 1]), mid, float(gains[-rank]), level)
    if len(gains) < FEWEST:
        return Interval.unbounded(mid, level)
    means = fieller(t, b, level)
    low, high = min(means.low, float(gains[0])), max(means.high, float(gains[-1]))
    return Interval(low, mid, high, level)


def rank_of(num: int, level: float) -> int:
    """Return the largest k so that [k-th smallest, k-th largest] has the level, 0 if none has."""
    return int(scipy.stats.binom.ppf((1 - level) / 2 + 1e-12, num, 0.5)) if num else 0


def _median(ordered: NDArray[np.float64]) -> float:
    """Return the median of values that may be infinite."""
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float(low) if low == high else float((low + high) / 2)


def paired_gains(t: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each seed's relative gain in percent; infinite where only the baseline scored 0."""
    return np.array([100 * (_ratio(float(x), float(y)) - 1) for x, y in zip(t, b, strict=True)])


def _spread(gains: NDArray[np.float64]) -> float | None:
    return float(gains.std(ddof=1)) if len(gains) > 1 and np.isfinite(gains).all() else None


def _sign_test(differences: NDArray[np.float64]) -> float:
    """Return the exact two-sided p value of the sign test, without the seeds that tie.

    Source: Arbuthnott, Phil. Trans. 27, 1710; Conover, Practical Nonparametric Statistics, 1999.
    """
    moved = differences[differences != 0]
    if not len(moved):
        return 1.0
    return float(scipy.stats.binomtest(int((moved > 0).sum()), len(moved)).pvalue)


def fieller(t: NDArray[np.float64], b: NDArray[np.float64], level: float) -> Interval:
    """Return the relative improvement of the means, in percent, with Fieller's interval.

    The interval holds every ratio r that the paired t test of mean(t - r b) = 0 does not reject.
    Solved for the distance u of r from the point estimate, to avoid cancellation:
    (mean(b)^2 - q^2 var(b)) u^2 + 2 q^2 cov(e, b) u - q^2 var(e) <= 0 with e = t - estimate * b,
    q the t quantile, and var, cov those of the means.

    Source: Fieller, J. R. Stat. Soc. B 16, 1954; von Luxburg and Franz, Stat. Sinica 19, 2009.
    """
    estimate = _ratio(float(t.mean()), float(b.mean()))
    mid = 100 * (estimate - 1)
    if len(t) < 2 or not math.isfinite(estimate):
        return Interval.unbounded(mid, level)
    q2 = float(scipy.stats.t.ppf((1 + level) / 2, df=len(t) - 1)) ** 2
    (var_e, cov), (_, var_b) = np.cov(t - estimate * b, b) / len(t)
    square = float(b.mean()) ** 2 - q2 * var_b
    if square <= 0:  # baseline's mean not significantly above 0: no bounds
        return Interval.unbounded(mid, level)
    root = math.sqrt((q2 * cov) ** 2 + square * q2 * var_e)
    low, high = (-q2 * cov - root) / square, (-q2 * cov + root) / square
    return Interval(mid + 100 * min(low, 0.0), mid, mid + 100 * max(high, 0.0), level)


def _ratio(tuned: float, baseline: float) -> float:
    """Return tuned / baseline; 1 if both are zero, infinite if only the baseline is."""
    if baseline == 0:
        return 1.0 if tuned == 0 else math.inf
    return tuned / baseline


def _sign_flip(differences: NDArray[np.float64]) -> float:
    """Return the two-sided p value of the paired permutation test, 1 where all pairs are equal.

    Source: Fisher, The Design of Experiments, 1935, section 21.
    """
    num = len(differences)
    if num < 2 or not differences.any():
        return 1.0
    scale = np.abs(differences).max()

    def total(signed: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        """Return the sums; those that differ only by rounding errors are made to tie."""
        sums: NDArray[np.float64] = np.round(signed.sum(axis=axis) / scale, 9)
        return sums

    test = scipy.stats.permutation_test(
        (differences,),
        total,
        permutation_type="samples",
        n_resamples=2**num if num <= EXACT_TO else RESAMPLES,
        rng=0,
    )
    return float(test.pvalue)


def _verdict(gain: Interval) -> Verdict:
    if gain.low > 0:
        return "improved"
    return "worse" if gain.high < 0 else "not shown"


def _check(t: NDArray[np.float64], b: NDArray[np.float64], level: float) -> None:
    if t.shape != b.shape or t.ndim != 1 or t.size == 0:
        message = (
            f"Both arms need one score per seed, got {t.size} tuned and {b.size} baseline. "
            "Train both on the same seeds."
        )
        raise ValueError(message)
    scores = np.concatenate([t, b])
    if not np.isfinite(scores).all() or (scores < 0).any():
        message = (
            f"Scores must be finite and not negative, got {scores.tolist()}. "
            "Give a training that diverged the score 0."
        )
        raise ValueError(message)
    if not 0 < level < 1:
        message = f"level must be between 0 and 1, got {level}. The usual one is 0.95."
        raise ValueError(message)
