"""Pool cells into the mean relative improvement, and rank models as in Cryo-Bench's table."""

# N cells, M models, D datasets, R resamples

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from .intervals import Interval

RESAMPLES = 10_000
LEVEL = 0.95

Scores = Sequence[float]


@dataclass(frozen=True, slots=True)
class PooledImprovement:
    """Hold the mean relative improvement of tuned over fixed rates, over all cells.

    Attributes:
        relative_pct: Mean over cells of 100 * (tuned / baseline - 1); None if no cell counts.
        num_cells: Cells that count.
        undefined: Cells whose baseline scored 0: their relative improvement is undefined.
    """

    relative_pct: Interval | None
    num_cells: int
    undefined: int


def mean_relative_improvement(
    cells: Sequence[tuple[Scores, Scores]], *, resamples: int = RESAMPLES
) -> PooledImprovement:
    """Average the relative improvement of mean scores over cells, as the paper does.

    The interval is from a two-stage bootstrap: cells are drawn with replacement, then the paired
    seeds within each. With one cell only the seeds are drawn.

    Args:
        cells: (tuned, baseline) of each cell; scores of the same seeds in the same order.
        resamples: Number of bootstrap resamples, R.

    Source:
        Two-stage bootstrap: Davison and Hinkley, Bootstrap Methods and their Application, 1997,
        section 3.8. Cryo-Bench (arXiv:2603.01576) reports the mean over datasets.
    """
    pairs = [(np.asarray(t, float), np.asarray(b, float)) for t, b in cells]
    counted = [(t, b) for t, b in pairs if b.mean() > 0]
    if not counted:
        return PooledImprovement(None, 0, len(pairs))
    points = [float(_relative(t.mean(), b.mean())) for t, b in counted]
    rng = np.random.default_rng(0)
    drawn_RN = _drawn(counted, rng, resamples)
    picks_RN = rng.integers(len(counted), size=(resamples, len(counted)))
    # A cell drawn twice in a resample uses the same draw of seeds twice.
    means_R = np.nanmean(np.take_along_axis(drawn_RN, picks_RN, axis=1), axis=1)
    low, high = np.quantile(means_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return PooledImprovement(
        relative_pct=Interval(float(low), float(np.mean(points)), float(high), LEVEL),
        num_cells=len(counted),
        undefined=len(pairs) - len(counted),
    )


def ranks(scores_MD: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each model on each dataset, 1 the best; ties share the mean rank.

    Args:
        scores_MD: Scores, (M, D); a nan, for a missing score, gets the rank nan.
    """
    ranks_MD = np.full(scores_MD.shape, np.nan)
    for column, scores_M in enumerate(scores_MD.T):
        scored_M = np.isfinite(scores_M)
        ranks_MD[scored_M, column] = rankdata(-scores_M[scored_M])
    return ranks_MD


def _drawn(
    cells: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    rng: np.random.Generator,
    resamples: int,
) -> NDArray[np.float64]:
    """Return the relative improvement of each cell on resampled seeds, (R, N)."""
    columns = []
    for tuned_S, base_S in cells:
        seeds_RS = rng.integers(len(base_S), size=(resamples, len(base_S)))
        columns.append(_relative(tuned_S[seeds_RS].mean(axis=1), base_S[seeds_RS].mean(axis=1)))
    return np.stack(columns, axis=1)


def _relative(
    tuned: NDArray[np.float64] | float, base: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Return 100 * (tuned / base - 1), nan where the baseline is 0."""
    t, b = np.asarray(tuned, float), np.asarray(base, float)
    ratio: NDArray[np.float64] = np.divide(t, b, out=np.full(b.shape, np.nan), where=b > 0)
    return 100 * (ratio - 1)
