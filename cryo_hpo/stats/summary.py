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
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    cut = len(ordered) // 4
    middle = ordered[cut : len(ordered) - cut]
    return Summary(float(ordered.mean()), float(middle.mean()), float(np.median(ordered)))


def share(count: int, of: int, *, level: float = 0.95) -> Share:
    """Return a share with its exact interval.

    Args:
        count: How many, such as trainings that collapsed.
        of: Of how many.
        level: Confidence of the interval.

    Source: Clopper and Pearson, Biometrika 26, 1934.
    """
    tail = (1 - level) / 2
    low = float(stats.beta.ppf(tail, count, of - count + 1)) if count else 0.0
    high = float(stats.beta.ppf(1 - tail, count + 1, of - count)) if count < of else 1.0
    return Share(count, of, low, high)
