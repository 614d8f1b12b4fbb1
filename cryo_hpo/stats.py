"""Is the tuned recipe better? A ratio of paired means, with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Verdict = Literal["improved", "not shown", "worse"]
RESAMPLES = 100_000  # sign flips; up to 16 pairs this is all there are, and the test is exact


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate between its limits; infinite limits: the data set none."""

    low: float
    mid: float
    high: float
    level: float


@dataclass(frozen=True, slots=True)
class Improvement:
    """A tuned recipe compared with its baseline on the same seeds.

    Attributes:
        baseline: Mean score.
        tuned: Mean score.
        relative_pct: 100 * (tuned / baseline - 1), with its confidence interval.
        p_value: Two-sided sign-flip test on the paired differences.
        num_pairs: Seeds that both arms have.
        verdict: "improved" or "worse" when the interval leaves out 0, else "not shown".
    """

    baseline: float
    tuned: float
    relative_pct: Interval
    p_value: float
    num_pairs: int
    verdict: Verdict


def relative_improvement(
    tuned: Sequence[float], baseline: Sequence[float], *, level: float = 0.95
) -> Improvement:
    """Compare two recipes trained on the same seeds.

    Args:
        tuned: Scores, one per seed.
        baseline: Scores of the same seeds in the same order.
        level: Confidence of the interval, a fraction.

    Raises:
        ValueError: The samples do not pair up, or hold something that is no score.
    """
    t, b = np.asarray(tuned, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    _check(t, b, level)
    ratio = _fieller(t, b, level)
    return Improvement(
        baseline=float(b.mean()),
        tuned=float(t.mean()),
        relative_pct=ratio,
        p_value=_sign_flip(t - b),
        num_pairs=len(t),
        verdict=_verdict(ratio),
    )


def _fieller(t: NDArray[np.float64], b: NDArray[np.float64], level: float) -> Interval:
    """Return the relative improvement, in percent, with Fieller's interval.

    The interval holds every ratio r that the paired t test of mean(t - r b) = 0 does not reject.
    Solved for the distance u of r from the point estimate, where nothing cancels:
    (mean(b)^2 - q^2 var(b)) u^2 + 2 q^2 cov(e, b) u - q^2 var(e) <= 0 with e = t - estimate * b,
    q the t quantile, and var, cov those of the means.

    Source: Fieller, J. R. Stat. Soc. B 16, 1954; von Luxburg and Franz, Stat. Sinica 19, 2009.
    """
    estimate = _ratio(float(t.mean()), float(b.mean()))
    mid = 100 * (estimate - 1)
    if len(t) < 2 or not math.isfinite(estimate):
        return Interval(-math.inf, mid, math.inf, level)
    q2 = float(stats.t.ppf((1 + level) / 2, df=len(t) - 1)) ** 2
    (var_e, cov), (_, var_b) = np.cov(t - estimate * b, b) / len(t)
    square = float(b.mean()) ** 2 - q2 * var_b
    if square <= 0:  # the baseline's mean cannot be told from zero: any ratio may be
        return Interval(-math.inf, mid, math.inf, level)
    root = math.sqrt((q2 * cov) ** 2 + square * q2 * var_e)
    low, high = (-q2 * cov - root) / square, (-q2 * cov + root) / square
    return Interval(mid + 100 * min(low, 0.0), mid, mid + 100 * max(high, 0.0), level)


def _ratio(tuned: float, baseline: float) -> float:
    """Divide two means; where both are zero nothing has changed."""
    if baseline == 0:
        return 1.0 if tuned == 0 else math.inf
    return tuned / baseline


def _sign_flip(differences: NDArray[np.float64]) -> float:
    """Return the two-sided p value of the paired permutation test, 1 where all are equal.

    Source: Fisher, The Design of Experiments, 1935, section 21.
    """
    if len(differences) < 2:  # one pair, flipped or not, is always as extreme as itself
        return 1.0
    found = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def _verdict(relative_pct: Interval) -> Verdict:
    if relative_pct.low > 0:
        return "improved"
    return "worse" if relative_pct.high < 0 else "not shown"


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
