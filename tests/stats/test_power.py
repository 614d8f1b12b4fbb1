"""The number of seeds that a gain needs, against comparisons that were drawn; and summaries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cryo_hpo.stats import power, seeds_needed, share, summary, typical_gain


@pytest.mark.parametrize(
    ("gain", "spread", "seeds"),
    [(2, 1, 3), (2, 1, 4), (2, 1, 5), (1, 1, 6), (2, 2, 8), (2, 2, 10), (1, 1, 15)],
)
def test_power_is_the_share_of_verdicts(gain: float, spread: float, seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    shown, repeats = 0, 2000
    for _ in range(repeats):
        b = np.full(seeds, 0.5)  # so that the gains are normal, as the formula takes them
        t = b * (1 + rng.normal(gain, spread, seeds) / 100)
        shown += typical_gain(t, b).low > 0
    # Below six seeds two things must come together, and the formula has the rarer of them.
    assert shown / repeats == pytest.approx(power(gain, spread, seeds), abs=0.035)


@given(st.floats(0.1, 20), st.floats(0.1, 20))
@settings(max_examples=15, deadline=None)
def test_the_seeds_needed_are_the_fewest(gain: float, spread: float) -> None:
    needed = seeds_needed(gain, spread)
    if needed is None:
        assert max(power(gain, spread, n) for n in range(2, 201)) < 0.8
        return
    assert power(gain, spread, needed) >= 0.8
    assert all(power(gain, spread, n) < 0.8 for n in range(2, min(needed, 30)))


def test_the_edges_of_power() -> None:
    assert (power(1, 0, 3), power(1, 0, 4)) == (0.0, 1.0)
    assert power(0, 1, 5) == power(-1, 1, 5) == power(1, 1, 1) == 0.0
    assert seeds_needed(0, 1) is None
    assert seeds_needed(1, 1, level=0.8) is not None


def test_power_is_scipys() -> None:
    quantile = stats.t.ppf(0.975, df=3)
    assert power(1, 0.5, 4) == pytest.approx(stats.nct.sf(quantile, df=3, nc=4))
    chance = stats.norm.cdf(0.5)
    # of ten seeds two may lose: the second smallest gain is the lower end
    assert power(1, 2, 10) == pytest.approx(stats.binom.sf(8, 10, chance))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end(scores: list[float]) -> None:
    found, cut = summary(scores), len(scores) // 4
    assert found.iqm == pytest.approx(np.mean(sorted(scores)[cut : len(scores) - cut]))
    assert (found.mean, found.median) == pytest.approx((np.mean(scores), np.median(scores)))
    slack = 1e-12
    assert min(scores) - slack <= found.iqm <= max(scores) + slack


@given(st.integers(1, 60).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_a_share_has_the_limits_of_clopper_and_pearson(pair: tuple[int, int]) -> None:
    count, of = pair
    low = stats.beta.ppf(0.025, count, of - count + 1) if count else 0.0
    high = stats.beta.ppf(0.975, count + 1, of - count) if count < of else 1.0
    found = share(count, of)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
