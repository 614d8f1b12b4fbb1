"""The mean over cells, its interval and the ranks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryo_hpo.stats.pooled import mean_relative_improvement, ranks

SCORES = st.lists(st.floats(0.05, 1), min_size=2, max_size=5)
CELLS = st.lists(
    SCORES.flatmap(
        lambda t: st.tuples(
            st.just(t), st.lists(st.floats(0.05, 1), min_size=len(t), max_size=len(t))
        )
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(CELLS)
def test_the_mean_is_that_of_the_cells_and_lies_in_its_interval(cells):
    pooled = mean_relative_improvement(cells, resamples=500)
    gains = [100 * (np.mean(t) / np.mean(b) - 1) for t, b in cells]
    assert pooled.relative_pct is not None
    assert pooled.relative_pct.mid == pytest.approx(np.mean(gains))
    assert pooled.relative_pct.low <= pooled.relative_pct.high
    spread = [100 * (ti / bi - 1) for t, b in cells for ti in t for bi in b]
    assert min(spread) - 1e-9 <= pooled.relative_pct.low
    assert pooled.relative_pct.high <= max(spread) + 1e-9


def test_one_gain_everywhere_is_certain():
    pooled = mean_relative_improvement([([0.6, 0.66], [0.5, 0.55])] * 3)
    assert pooled.relative_pct is not None
    ends = (pooled.relative_pct.low, pooled.relative_pct.mid, pooled.relative_pct.high)
    assert ends == pytest.approx((20, 20, 20))


def test_the_papers_kind_of_mean_does_not_weigh_cells_by_their_scores():
    pooled = mean_relative_improvement([([0.2], [0.1]), ([0.9], [0.9])])
    assert pooled.relative_pct is not None
    assert pooled.relative_pct.mid == pytest.approx(50)


def test_a_cell_whose_baseline_scored_0_is_counted_apart():
    pooled = mean_relative_improvement([([0.5, 0.5], [0.0, 0.0]), ([0.6, 0.6], [0.5, 0.5])])
    assert pooled.relative_pct is not None
    assert pooled.relative_pct.mid == pytest.approx(20)
    assert (pooled.num_cells, pooled.undefined) == (1, 1)
    assert mean_relative_improvement([([0.5], [0.0])]).relative_pct is None


def test_the_interval_covers_the_mean_of_cells_and_seeds():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        gains = rng.normal(0.1, 0.05, size=20)
        cells = [
            (
                (0.5 * (1 + g) + rng.normal(0, 0.01, 5)).tolist(),
                (0.5 + rng.normal(0, 0.01, 5)).tolist(),
            )
            for g in gains
        ]
        pooled = mean_relative_improvement(cells, resamples=400)
        assert pooled.relative_pct is not None
        hits += pooled.relative_pct.low <= 10 <= pooled.relative_pct.high
    assert hits >= 180, "nominal 95 %, 20 cells"


def test_ranks_follow_cryo_bench():
    scores = np.array([[90.0, 70.0, np.nan], [80.0, 70.0, 50.0], [70.0, 60.0, 60.0]])
    expected = np.array([[1, 1.5, np.nan], [2, 1.5, 2], [3, 3, 1]])
    assert np.array_equal(ranks(scores), expected, equal_nan=True)
