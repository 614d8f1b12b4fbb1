"""The scores of one recipe over its seeds, and how often a training is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True, slots=True)
class Summary:
    """Where the scores of a recipe lie.

    Attributes:
        mean: The paper's number; one collapsed seed moves it.
        iqm: Interquartile mean: of the middle half. Below four seeds it is the mean.
        median: A typical seed.
    """

    mean: float
    iqm: float
    median: float


@dataclass(frozen=True, slots=True)
class Share:
    """How many of how many, with an exact interval for the share behind it."""

    count: int
    of: int
    low: float
    high: float


def summary(scores: Sequence[float]) -> Summary:
    """Return mean, interquartile mean and median.

    Source of the interquartile mean: Agarwal et al., "Deep Reinforcement Learning at the Edge of
    the Statistical Precipice", NeurIPS 2021: the quarter of the scores at each end is left out.
    """
    values = np.asarray(scores, dtype=np.float64)
    iqm = float(stats.trim_mean(values, 0.25))
    return Summary(float(values.mean()), iqm, float(np.median(values)))


def share(count: int, of: int) -> Share:
    """Return a share with its exact interval at a confidence of 95 %.

    Args:
        count: How many, such as trainings that collapsed.
        of: Of how many.

    Source: Clopper and Pearson, Biometrika 26, 1934.
    """
    low, high = stats.binomtest(count, of).proportion_ci(method="exact")
    return Share(count, of, float(low), float(high))
