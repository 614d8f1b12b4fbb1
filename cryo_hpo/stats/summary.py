"""Summarize the scores of one recipe over its seeds, and the share of lost trainings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy


@dataclass(frozen=True, slots=True)
class Summary:
    """Hold the mean, interquartile mean and median of a recipe's scores.

    Attributes:
        mean: Mean, the number that papers print; one collapsed seed moves it.
        iqm: Interquartile mean, over the middle half; below four seeds the mean.
        median: Score of a typical repeat.
    """

    mean: float
    iqm: float
    median: float


@dataclass(frozen=True, slots=True)
class Share:
    """Hold a count out of a total, with an exact interval of the underlying share."""

    count: int
    of: int
    low: float
    high: float


def summary(scores: Sequence[float]) -> Summary:
    """Return the mean, interquartile mean and median of scores.

    Source of the interquartile mean: Agarwal et al., "Deep Reinforcement Learning at the Edge of
    the Statistical Precipice", NeurIPS 2021: the quarter of the scores at each end is left out.
    """
    values = np.asarray(scores, dtype=np.float64)
    iqm = float(scipy.stats.trim_mean(values, 0.25))
    return Summary(float(values.mean()), iqm, float(np.median(values)))


def share(count: int, of: int) -> Share:
    """Return a share with its exact interval at a confidence of 95 %.

    Args:
        count: Part of the total, such as trainings that collapsed.
        of: Total, such as all trainings.

    Source: Clopper and Pearson, Biometrika 26, 1934.
    """
    low, high = scipy.stats.binomtest(count, of).proportion_ci(method="exact")
    return Share(count, of, float(low), float(high))
