"""The interval against the t test it inverts, its coverage, and its laws."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import optimize, stats

from cryo_hpo.stats import Improvement, relative_improvement, typical_gain
from cryo_hpo.stats.paired import fieller, paired_gains, rank_of
from cryo_hpo.stats.sequential import Stopping, bound_median

TUNED = [0.71, 0.74, 0.69, 0.75, 0.73]
BASELINE = [0.66, 0.70, 0.67, 0.69, 0.64]
score = st.integers(1, 1000).map(lambda n: n / 1000)
pairs = st.lists(st.tuples(score, score), min_size=1, max_size=8)


def improvement(both: Sequence[tuple[float, float]]) -> Improvement:
    return relative_improvement([t for t, _ in both], [b for _, b in both])


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("num", [2, 3, 5])
def test_limits_are_where_the_paired_t_test_begins_to_reject(num: int, level: float) -> None:
    t, b = np.array(TUNED[:num]), np.array(BASELINE[:num])

    def excess(ratio: float) -> float:
        return float(stats.ttest_rel(t, ratio * b).pvalue) - (1 - level)

    found = relative_improvement(t.tolist(), b.tolist(), level=level).relative_pct
    mid = t.mean() / b.mean()
    assert found.mid == pytest.approx(100 * (mid - 1))
    if not math.isfinite(found.low):
        # no ratio, however far from the estimate, is rejected on at least one side
        assert min(excess(1e6), excess(-1e6)) > 0
        return
    low = optimize.brentq(excess, mid - 0.9 * mid, mid, xtol=1e-12)
    high = optimize.brentq(excess, mid, 10 * mid, xtol=1e-12)
    assert found.low == pytest.approx(100 * (low - 1), abs=1e-5)
    assert found.high == pytest.approx(100 * (high - 1), abs=1e-5)


def test_p_value_counts_sign_flips() -> None:
    differences = np.array(TUNED) - np.array(BASELINE)
    flips = np.array(list(itertools.product([1, -1], repeat=len(differences)))) @ differences
    expected = np.mean(np.abs(flips) >= abs(differences.sum()) - 1e-12)
    found = relative_improvement(TUNED, BASELINE)
    assert found.p_value == pytest.approx(expected) == pytest.approx(2 / 2**5)
    assert (found.verdict, found.num_pairs) == ("improved", 5)
    assert (found.tuned, found.baseline) == pytest.approx((np.mean(TUNED), np.mean(BASELINE)))


@example([7, 7, -7, -7])  # sums of 0 that rounding errors make 4e-16
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=10))
def test_p_value_is_the_share_of_sign_patterns_as_extreme(tenths: list[int]) -> None:
    differences = np.array(tenths) / 10
    flips = np.array(list(itertools.product([1, -1], repeat=len(tenths)))) @ np.array(tenths)
    expected = np.mean(np.abs(flips) >= abs(sum(tenths)))
    found = relative_improvement(list(2 + differences), [2.0] * len(tenths))
    assert found.p_value == pytest.approx(expected)


def test_p_value_of_many_pairs_is_near_that_of_all_sign_patterns() -> None:
    rng = np.random.default_rng(0)
    differences = rng.normal(0.3, 1, 24)
    signs = rng.choice((-1.0, 1.0), (200_000, 24))
    expected = np.mean(np.abs(signs @ differences) >= abs(differences.sum()))
    found = relative_improvement(list(5 + differences), [5.0] * 24)
    assert found.p_value == pytest.approx(expected, abs=0.01)


def test_the_arms_exchanged_are_worse() -> None:
    assert relative_improvement(BASELINE, TUNED).verdict == "worse"


@given(pairs)
def test_a_sample_does_not_improve_on_itself(both: list[tuple[float, float]]) -> None:
    sample = [t for t, _ in both]
    found = relative_improvement(sample, sample)
    assert found.relative_pct.mid == 0.0
    assert (found.verdict, found.p_value) == ("not shown", 1.0)


@given(pairs)
def test_the_interval_holds_the_estimate(both: list[tuple[float, float]]) -> None:
    found = improvement(both).relative_pct
    assert found.low <= found.mid <= found.high
    assert math.isfinite(found.low) == math.isfinite(found.high)


@given(pairs, st.floats(0.01, 100))
def test_the_unit_of_the_score_does_not_matter(
    both: list[tuple[float, float]], scale: float
) -> None:
    found = improvement(both).relative_pct
    scaled = improvement([(scale * t, scale * b) for t, b in both]).relative_pct
    if math.isfinite(found.low) != math.isfinite(scaled.low):
        return  # on the very edge of being bounded
    expected = [found.low, found.mid, found.high]
    assert [scaled.low, scaled.mid, scaled.high] == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("num", [3, 5])
def test_covers_the_truth_as_often_as_it_says(num: int) -> None:
    rng = np.random.default_rng(num)
    repeats, covered, bounded = 1500, 0, 0
    for _ in range(repeats):
        seed_effect = rng.normal(0, 0.02, num)
        b = 0.6 + seed_effect + rng.normal(0, 0.01, num)
        t = 0.66 + seed_effect + rng.normal(0, 0.02, num)
        found = fieller(t, b, 0.95)
        covered += found.low <= 10 <= found.high
        bounded += math.isfinite(found.low)
    assert covered / repeats >= 0.93
    assert covered / repeats <= 0.975  # nor wider than it need be
    assert bounded / repeats > 0.99


@given(st.integers(1, 40), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_the_rank_is_the_largest_that_has_the_level(num: int, level: float) -> None:
    def coverage(k: int) -> float:
        return 1 - 2 * float(stats.binom.cdf(k - 1, num, 0.5))

    rank = rank_of(num, level)
    assert rank == 0 or coverage(rank) >= level - 1e-9
    assert coverage(rank + 1) < level


@given(st.lists(st.tuples(score, score), min_size=6, max_size=12))
def test_the_verdict_is_the_sign_tests(both: list[tuple[float, float]]) -> None:
    both = [(t, b) for t, b in both if t != b]
    found = improvement(both) if len(both) >= 6 else None
    if found is None:
        return
    assert (found.verdict != "not shown") == (found.sign_p_value <= 0.05)
    gains = [100 * (t / b - 1) for t, b in both]
    assert found.typical_pct.mid == pytest.approx(np.median(gains))
    assert found.spread_pct == pytest.approx(np.std(gains, ddof=1))


@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_the_pairs_does_not_matter(
    both: list[tuple[float, float]], chance: random.Random
) -> None:
    mixed = chance.sample(both, len(both))
    a, b = improvement(both), improvement(mixed)
    assert (a.verdict, a.sign_p_value) == (b.verdict, b.sign_p_value)
    assert a.typical_pct.mid == pytest.approx(b.typical_pct.mid)
    assert a.p_value == pytest.approx(b.p_value)


def test_few_seeds_need_both_the_sign_and_the_t_test() -> None:
    t, b = np.array([0.71, 0.74, 0.69, 0.72]), np.array([0.70, 0.71, 0.685, 0.715])
    means, typical = improvement(list(zip(t, b, strict=True))).relative_pct, typical_gain(t, b)
    gains = 100 * (t / b - 1)
    assert typical.low == min(means.low, gains.min())
    assert typical.high == max(means.high, gains.max())


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_three_seeds_decide_nothing(seeds: int) -> None:
    found = relative_improvement([0.9] * seeds, [0.3, 0.31, 0.32][:seeds])
    assert (found.typical_pct.low, found.typical_pct.high) == (-np.inf, np.inf)
    assert found.verdict == "not shown"
    assert found.typical_pct.mid > 180


def test_one_collapse_does_not_make_a_gain() -> None:
    """Nine seeds that lose a little and a tenth whose baseline collapsed: the means say +9 %."""
    tuned = [0.80] * 10
    baseline = [*(0.805 + 0.001 * i for i in range(9)), 0.2]
    found = relative_improvement(tuned, baseline)
    assert found.relative_pct.mid > 5
    assert found.typical_pct.mid < 0
    assert found.verdict == "worse"


def test_p_values_are_scipys() -> None:
    found = relative_improvement(TUNED, [*BASELINE[:4], 0.8])
    assert found.sign_p_value == stats.binomtest(4, 5).pvalue
    differences = np.array(TUNED) - np.array([*BASELINE[:4], 0.8])
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert found.p_value == pytest.approx(expected.pvalue)


def test_one_pair_shows_nothing() -> None:
    found = relative_improvement([0.9], [0.3])
    assert found.relative_pct.mid == pytest.approx(200)
    assert (found.relative_pct.low, found.relative_pct.high) == (-math.inf, math.inf)
    assert (found.verdict, found.p_value) == ("not shown", 1.0)


def test_a_baseline_that_may_be_zero_bounds_nothing() -> None:
    found = relative_improvement([0.5, 0.6, 0.7], [0.001, 0.6, 0.002])
    assert (found.relative_pct.low, found.relative_pct.high) == (-math.inf, math.inf)
    assert found.verdict == "not shown"


@pytest.mark.parametrize(("tuned", "expected"), [(0.0, 0.0), (0.5, math.inf)])
def test_a_baseline_of_zero(tuned: float, expected: float) -> None:
    found = relative_improvement([tuned, tuned], [0.0, 0.0])
    assert found.relative_pct.mid == expected
    assert found.verdict == "not shown"


def test_many_pairs_are_sampled_and_repeatable() -> None:
    rng = np.random.default_rng(0)
    b = rng.uniform(0.4, 0.6, 18)
    t = b + rng.normal(0.01, 0.02, 18)
    first, second = (relative_improvement(t.tolist(), b.tolist()) for _ in range(2))
    assert first == second
    assert first.p_value == pytest.approx(stats.ttest_rel(t, b).pvalue, abs=0.02)


@pytest.mark.parametrize(
    ("tuned", "baseline", "level", "said"),
    [
        ([0.5, 0.6], [0.5], 0.95, "one score per seed, got 2 tuned and 1 baseline"),
        ([], [], 0.95, "one score per seed"),
        ([0.5, math.nan], [0.5, 0.5], 0.95, "finite and not negative"),
        ([0.5, -0.1], [0.5, 0.5], 0.95, "finite and not negative"),
        ([0.5], [0.5], 95, "level must be between 0 and 1, got 95"),
    ],
)
def test_refuses_what_is_no_comparison(
    tuned: list[float], baseline: list[float], level: float, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        relative_improvement(tuned, baseline, level=level)


@pytest.mark.parametrize(
    ("gains", "verdict", "decision"),
    [
        ((5, 4, 3, 2, 1, 6), "improved", "improved"),
        ((-5, -4, -3, -2, -1, -6), "worse", "worse"),
        ((5, -4, 3, -2), "not shown", "futile"),
        ((5, -4, 3, 3, 4, 5), "not shown", "undecided"),
        ((3, 0, 0, 0), "not shown", "futile"),
    ],
)
def test_a_comparison_that_stops_when_decided_is_judged_by_the_rule_that_stopped_it(
    gains, verdict, decision
):
    baseline = [0.5] * len(gains)
    tuned = [0.5 * (1 + gain / 100) for gain in gains]
    fixed = relative_improvement(tuned, baseline)
    stopped = relative_improvement(tuned, baseline, at_most=16)
    assert stopped.stopped == Stopping(16, decision)
    assert stopped.verdict == verdict
    assert (stopped.p_value <= 0.05) == (verdict != "not shown")
    assert stopped.p_value == stopped.sign_p_value >= fixed.sign_p_value
    assert stopped.typical_pct == bound_median(
        paired_gains(np.array(tuned), np.array(baseline)).tolist()
    )
    assert (stopped.relative_pct, stopped.bca_pct) == (fixed.relative_pct, fixed.bca_pct)
    assert fixed.stopped is None
