"""Compute bootstrap intervals of the relative improvement over seeds, or seeds and scenes."""

# N seeds, S scenes, K classes, R resamples

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from .intervals import Interval

Floats = NDArray[np.float64]
RESAMPLES = 9_999  # of seeds
SCENE_RESAMPLES = 1_999  # of seeds and scenes, where each costs a sum of confusion matrices


def bca(
    resampled_R: Floats, estimate: float, jackknives: list[Floats], level: float
) -> tuple[float, float]:
    """Return the limits of the bias-corrected and accelerated interval.

    Args:
        resampled_R: Statistic of every resample.
        estimate: Statistic of the sample.
        jackknives: For each dimension resampled, the statistic with one element left out at a time.
        level: Confidence, a fraction.

    Source: Efron, "Better Bootstrap Confidence Intervals", JASA 82, 1987; several samples:
    DiCiccio and Efron, "Bootstrap Confidence Intervals", Stat. Sci. 11, 1996.
    """
    num = len(resampled_R)
    ties_R = np.isclose(
        resampled_R, estimate, rtol=1e-9, atol=1e-9
    )  # rounding errors count as ties
    below = (np.sum((resampled_R < estimate) & ~ties_R) + np.sum(ties_R) / 2) / num
    bias = scipy.special.ndtri(np.clip(below, 0.5 / num, 1 - 0.5 / num))
    # Efron's influence values from the jackknife, each sample's divided by the sample size
    influence = [(len(j) - 1) * (j.mean() - j) / len(j) for j in jackknives]
    cubes, squares = (sum(float(np.sum(u**p)) for u in influence) for p in (3, 2))
    skew = cubes / (6 * squares**1.5) if squares > 0 else 0.0
    z = bias + scipy.special.ndtri([(1 - level) / 2, (1 + level) / 2])
    low, high = np.percentile(resampled_R, 100 * scipy.special.ndtr(bias + z / (1 - skew * z)))
    return float(low), float(high)


def bca_ratio(tuned: Floats, baseline: Floats, level: float = 0.95) -> Interval:
    """Return the relative improvement of paired means, in percent, resampling the pairs.

    With three to five seeds the interval is far too narrow (docs/statistics.md): it is reported
    beside the interval that decides, and never decides.
    """
    num = len(tuned)
    estimate = _gain(float(tuned.mean()), float(baseline.mean()))
    if num < 2 or not np.isfinite(estimate):
        return Interval.unbounded(estimate, level)
    draws_RN = np.random.default_rng(0).integers(0, num, (RESAMPLES, num))
    resampled_R = _gains(tuned[draws_RN].mean(axis=1), baseline[draws_RN].mean(axis=1))
    left_N = _gains(_without_one(tuned), _without_one(baseline))
    return _interval(resampled_R, estimate, [left_N], level)


def over_scenes(
    tuned_NSKK: NDArray[np.int64],
    baseline_NSKK: NDArray[np.int64],
    level: float = 0.95,
    *,
    absent_is_zero: bool = False,
) -> Interval:
    """Return the relative improvement in percent, resampling seeds and, within them, scenes.

    Every resample draws seeds and scenes with replacement, the same for both recipes, adds up the
    scenes' confusion matrices and compares the means of the seeds' mIoU. So the interval also
    covers the choice of test scenes.

    Args:
        tuned_NSKK: Confusion matrices, (N, S, K, K): seeds, scenes, truth, prediction.
        baseline_NSKK: Confusion matrices of the baseline on the same seeds and scenes.
        level: Confidence, a fraction.
        absent_is_zero: As in `metrics.Scores`.

    Source: van der Leeden, Meijer and Busing, "Resampling Multilevel Models", 2008.
    """
    num, scenes = tuned_NSKK.shape[:2]
    arms = (tuned_NSKK.astype(np.float64), baseline_NSKK.astype(np.float64))
    score = partial(miou, absent_is_zero=absent_is_zero)
    whole = [score(arm.sum(axis=1)) for arm in arms]
    estimate = _gain(*(float(arm_N.mean()) for arm_N in whole))
    if num < 2 or scenes < 2 or not np.isfinite(estimate):
        return Interval.unbounded(estimate, level)
    rng = np.random.default_rng(0)
    seeds_RN = rng.integers(0, num, (SCENE_RESAMPLES, num))
    counts_RS = rng.multinomial(scenes, np.full(scenes, 1 / scenes), size=SCENE_RESAMPLES)
    drawn = [_mean_of(_weighted(arm, counts_RS, score), seeds_RN) for arm in arms]
    fewer_SS = 1.0 - np.eye(scenes)
    jackknives = [
        _gains(*(_without_one(arm_N) for arm_N in whole)),
        _gains(*(_weighted(arm, fewer_SS, score).mean(axis=1) for arm in arms)),
    ]
    return _interval(_gains(*drawn), estimate, jackknives, level)


def miou(confusion: NDArray[Any], *, absent_is_zero: bool = False) -> Floats:
    """Return the mean IoU of confusion matrices, (..., K, K) -> (...).

    Args:
        confusion: Rows truth, columns prediction.
        absent_is_zero: A class in neither counts as 0, else it is left out; as in
            `metrics.Scores`.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    union = confusion.sum(axis=-1) + confusion.sum(axis=-2) - hits
    iou = np.divide(hits, union, out=np.zeros(hits.shape), where=union > 0)
    present = np.maximum((union > 0).sum(axis=-1), 1)
    result: Floats = iou.sum(axis=-1) / (union.shape[-1] if absent_is_zero else present)
    return result


def _weighted(
    arm_NSKK: Floats, weights_RS: Floats | NDArray[np.int64], score: Callable[[Floats], Floats]
) -> Floats:
    """Return the mIoU of every seed under every weighting of the scenes, (R, N)."""
    num, scenes, classes, _ = arm_NSKK.shape
    flat = arm_NSKK.transpose(1, 0, 2, 3).reshape(scenes, -1)
    pooled = (weights_RS @ flat).reshape(len(weights_RS), num, classes, classes)
    return score(pooled)


def _mean_of(scores_RN: Floats, seeds_RN: NDArray[np.int64]) -> Floats:
    mean: Floats = np.take_along_axis(scores_RN, seeds_RN, axis=1).mean(axis=1)
    return mean


def _interval(
    resampled_R: Floats, estimate: float, jackknives: list[Floats], level: float
) -> Interval:
    if not (np.isfinite(resampled_R).all() and all(np.isfinite(j).all() for j in jackknives)):
        return Interval.unbounded(estimate, level)
    low, high = bca(resampled_R, estimate, jackknives, level)
    return Interval(low, estimate, high, level)


def _without_one(scores_N: Floats) -> Floats:
    left: Floats = (scores_N.sum() - scores_N) / (len(scores_N) - 1)
    return left


def _gain(tuned: float, baseline: float) -> float:
    return float(_gains(np.array([tuned]), np.array([baseline]))[0])


def _gains(tuned: Floats, baseline: Floats) -> Floats:
    """Return 100 * (tuned / baseline - 1); 0 where both are zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where((tuned == 0) & (baseline == 0), 1.0, tuned / baseline)
    gains: Floats = 100 * (ratio - 1)
    return gains
