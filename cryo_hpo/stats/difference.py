"""Estimate the difference of two recipes on the same seeds, in any unit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy

from .intervals import Interval


def mean_difference(
    tuned: Sequence[float], baseline: Sequence[float], *, level: float = 0.95
) -> Interval:
    """Return the mean of tuned minus baseline over paired seeds, with Student's interval.

    One pair sets no limits.

    Args:
        tuned: Values, one per seed.
        baseline: Values of the same seeds in the same order.
        level: Confidence, a fraction.

    Source: Student, "The Probable Error of a Mean", Biometrika 6, 1908.
    """
    differences = np.asarray(tuned, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    mid, num = float(differences.mean()), len(differences)
    if num < 2:
        return Interval.unbounded(mid, level)
    half = float(scipy.stats.t.ppf((1 + level) / 2, df=num - 1))
    half *= float(differences.std(ddof=1)) / math.sqrt(num)
    return Interval(mid - half, mid, mid + half, level)
