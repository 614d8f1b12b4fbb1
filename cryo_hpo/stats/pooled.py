"""Pool cells into the mean relative improvement, and rank models as in Cryo-Bench's table."""

# N cells, G groups of cells, M models, D datasets, R resamples

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

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
    cells: Sequence[tuple[Scores, Scores]],
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
) -> PooledImprovement:
    """Average the relative improvement of mean scores over cells, as the paper does.

    The interval is from a two-stage bootstrap: groups of cells are drawn with replacement, then the
    paired seeds within each. With one group only the seeds are drawn.

    Args:
        cells: (tuned, baseline) of each cell; scores of the same seeds in the same order.
        groups: Group of each cell. Cells of a group share scores or data, so they are drawn
            together, on the same seeds, the first ones that all of them have. None: each is one.
        resamples: Number of bootstrap resamples, R.

    Source:
        Two-stage bootstrap: Davison and Hinkley, Bootstrap Methods and their Application, 1997,
        section 3.8. Cryo-Bench (arXiv:2603.01576) reports the mean over datasets.
    """
    pairs = [(np.asarray(t, float), np.asarray(b, float)) for t, b in cells]
    names = range(len(pairs)) if groups is None else groups
    members: dict[Hashable, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
    for name, (tuned_S, base_S) in zip(names, pairs, strict=True):
        if base_S.mean() > 0:
            members.setdefault(name, []).append((tuned_S, base_S))
    counted = [pair for inside in members.values() for pair in inside]
    if not counted:
        return PooledImprovement(None, 0, len(pairs))
    points = [float(_relative(t.mean(), b.mean())) for t, b in counted]
    means_R = _drawn_means(list(members.values()), resamples)
    low, high = np.nanquantile(means_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return PooledImprovement(
        relative_pct=Interval(float(low), float(np.mean(points)), float(high), LEVEL),
        num_cells=len(counted),
        undefined=len(pairs) - len(counted),
    )


def _drawn_means(
    groups: Sequence[Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]], resamples: int
) -> NDArray[np.float64]:
    """Return the mean relative improvement of cells in each resample of groups and seeds, (R,)."""
    rng = np.random.default_rng(0)
    drawn = [_drawn(inside, rng, resamples) for inside in groups]
    sums_RG = np.stack([np.nansum(cells_RN, axis=1) for cells_RN in drawn], axis=1)
    counts_RG = np.stack([np.isfinite(cells_RN).sum(axis=1) for cells_RN in drawn], axis=1)
    picks_RG = rng.integers(len(groups), size=(resamples, len(groups)))
    # A group drawn twice in a resample uses the same draw of seeds twice.
    total_R = np.take_along_axis(sums_RG, picks_RG, axis=1).sum(axis=1)
    count_R = np.take_along_axis(counts_RG, picks_RG, axis=1).sum(axis=1)
    means_R: NDArray[np.float64] = np.divide(
        total_R, count_R, out=np.full(resamples, np.nan), where=count_R > 0
    )
    return means_R


def ranks(scores_MD: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each model on each dataset, 1 the best; ties share the mean rank.

    Args:
        scores_MD: Scores, (M, D); a nan, for a missing score, gets the rank nan.
    """
    ranks_MD = np.full(scores_MD.shape, np.nan)
    for column, scores_M in enumerate(scores_MD.T):
        scored_M = np.isfinite(scores_M)
        ranks_MD[scored_M, column] = scipy.stats.rankdata(-scores_M[scored_M])
    return ranks_MD


def _drawn(
    cells: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    rng: np.random.Generator,
    resamples: int,
) -> NDArray[np.float64]:
    """Return the relative improvement of a group's cells on the same resampled seeds, (R, N)."""
    shared = min(len(base_S) for _, base_S in cells)
    seeds_RS = rng.integers(shared, size=(resamples, shared))
    columns = [
        _relative(tuned_S[seeds_RS].mean(axis=1), base_S[seeds_RS].mean(axis=1))
        for tuned_S, base_S in cells
    ]
    return np.stack(columns, axis=1)


def _relative(
    tuned: NDArray[np.float64] | float, base: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Return 100 * (tuned / base - 1), nan where the baseline is 0."""
    t, b = np.asarray(tuned, float), np.asarray(base, float)
    ratio: NDArray[np.float64] = np.divide(t, b, out=np.full(b.shape, np.nan), where=b > 0)
    return 100 * (ratio - 1)
