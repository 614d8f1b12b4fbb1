from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from cryo_hpo.stats.sequential import (
    bound_median,
    compute_p_value,
    compute_wealth,
    count_pairs_to_stop,
    decide,
    find_stop,
)

GAINS = st.lists(st.floats(-50, 50, allow_nan=False).map(lambda x: round(x, 1)), max_size=16)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (0, 1), (6, 0), (9, 2), (3, 7)])
def test_the_wealth_is_the_integral_it_is_said_to_be(wins, losses):
    spread, _ = integrate.quad(lambda p: 2 * (2 * p) ** wins * (2 * (1 - p)) ** losses, 0.5, 1)
    all_in = 2.0**wins if losses == 0 else 0.0
    assert compute_wealth(wins, losses) == pytest.approx(0.5 * all_in + 0.5 * spread)


@pytest.mark.parametrize(("wins", "losses"), list(itertools.product(range(8), range(8))))
def test_a_fair_coin_wins_nothing_and_a_biased_one_against_us_loses(wins, losses):
    now = compute_wealth(wins, losses)
    won, lost = compute_wealth(wins + 1, losses), compute_wealth(wins, losses + 1)
    assert (won + lost) / 2 == pytest.approx(now)  # a martingale at p = 1/2
    assert won >= lost  # so that it loses at p < 1/2


@pytest.mark.parametrize(
    ("signs", "decision"),
    [
        ("++++++", "improved"),
        ("------", "worse"),
        ("+++++", "undecided"),
        ("", "undecided"),
        ("+++++0", "undecided"),
        ("++-+++++++", "undecided"),
        ("++-++++++++++", "improved"),
        ("+-+-+-+-+-", "futile"),
        ("+-+-+-+-+-+-+-+-", "futile"),
    ],
)
def test_decisions(signs, decision):
    gains = [{"+": 1.0, "-": -1.0, "0": 0.0}[sign] for sign in signs]
    assert decide(gains, at_most=16) == decision


def test_six_pairs_decide_as_six_fixed_ones_do():
    """Where six are all there may be, only six equal signs decide."""
    for signs in itertools.product((1.0, -1.0), repeat=6):
        expected = {6.0: "improved", -6.0: "worse"}.get(sum(signs), "futile")
        assert decide(signs, at_most=6) == expected


@given(GAINS)
def test_a_decision_stands_whatever_follows(gains):
    decisions = [decide(gains[:n], at_most=16) for n in range(len(gains) + 1)]
    settled = [d for d in decisions if d in ("improved", "worse")]
    assert len(set(settled)) <= 1
    assert not settled or decisions[-1] == settled[0]


@given(GAINS)
def test_swapping_the_arms_swaps_the_decision(gains):
    swapped = {"improved": "worse", "worse": "improved"}
    decision = decide(gains, at_most=16)
    assert decide([-g for g in gains], at_most=16) == swapped.get(decision, decision)


@given(GAINS.filter(bool))
def test_the_interval_leaves_out_zero_exactly_where_it_is_decided(gains):
    interval = bound_median(gains)
    decision = decide(gains, at_most=16)
    assert (interval.low > 0) == (decision == "improved")
    assert (interval.high < 0) == (decision == "worse")
    assert interval.low <= interval.mid <= interval.high


def test_a_median_that_earlier_seeds_exclude_is_moved_into_the_interval():
    interval = bound_median([0.0] * 6 + [1.0] * 6)
    assert (interval.low, interval.mid, interval.high) == (0.0, 0.0, 0.0)


@given(GAINS.filter(bool), st.floats(-5, 5).map(lambda x: round(x, 1)))
def test_the_interval_moves_with_the_gains(gains, shift):
    moved, interval = bound_median([g + shift for g in gains]), bound_median(gains)
    ends = (interval.low + shift, interval.mid + shift, interval.high + shift)
    assert (moved.low, moved.mid, moved.high) == pytest.approx(ends, abs=1e-9)


def test_a_fair_coin_is_called_a_gain_at_most_as_often_as_the_level_says():
    """Exact: walk all paths of 16 fair signs with their decisions at every look."""

    def decided(path: tuple[float, ...]) -> tuple[float, float]:
        decision = decide(path, at_most=16)
        if decision in ("improved", "worse"):
            return (1.0, 0.0) if decision == "improved" else (0.0, 1.0)
        if len(path) == 16:
            return 0.0, 0.0
        return tuple(np.mean([decided((*path, s)) for s in (1.0, -1.0)], axis=0))

    improved, worse = decided(())
    assert improved == pytest.approx(worse)
    assert 0.015 < improved <= 0.025


@pytest.mark.parametrize(
    ("gains", "at_most", "decision"),
    [
        ([1.0, -1.0], 16, "undecided"),  # a chance of 6.6 %
        ([1.0, -1.0, 1.0, -1.0], 16, "futile"),  # two losses need 15 gains
        ([1.0, -1.0, 1.0, -1.0], 100, "undecided"),
        ([1.0] * 5, 5, "futile"),  # five equal signs are too few at 95 %
    ],
)
def test_a_comparison_ends_when_more_pairs_hardly_decide(gains, at_most, decision):
    assert decide(gains, at_most=at_most) == decision


@pytest.mark.parametrize(
    ("gains", "at_most", "words"),
    [([math.nan], 16, "must be numbers"), ([1.0, 1.0], 1, "at most 1 repeats has 2")],
)
def test_what_is_no_comparison_is_refused(gains, at_most, words):
    with pytest.raises(ValueError, match=words):
        decide(gains, at_most=at_most)


@given(GAINS)
def test_the_p_value_decides_as_the_rule_does(gains):
    decided = decide(gains, at_most=16) in ("improved", "worse")
    assert (compute_p_value(gains) <= 0.05 + 1e-12) == decided
    longer = compute_p_value([*gains, 0.0])
    assert 0 < longer <= compute_p_value(gains) <= 1, "looking again never raises it"


def _ends_along(path, gains, at_most):
    """Return True if the comparison ends before the last of these further pairs."""
    prefixes = ([*gains, *path[:n]] for n in range(1, len(path)))
    return any(decide(each, at_most=at_most) != "undecided" for each in prefixes)


@given(GAINS, st.integers(6, 16))
def test_no_pair_that_is_trained_at_once_could_have_been_spared(gains, at_most):
    gains = gains[:at_most]
    needed = count_pairs_to_stop(gains, at_most=at_most)
    assert (needed == 0) == (decide(gains, at_most=at_most) != "undecided")
    assert not any(
        _ends_along(path, gains, at_most) for path in itertools.product((1.0, -1.0), repeat=needed)
    )


@given(GAINS)
def test_a_comparison_stops_at_its_first_decision(gains):
    pairs, decision = find_stop(gains, at_most=16)
    assert decision == decide(gains[:pairs], at_most=16)
    assert all(decide(gains[:n], at_most=16) == "undecided" for n in range(pairs))
    assert pairs == len(gains) or decision != "undecided"
    assert find_stop([*gains[:pairs], *gains[:1]][:16], at_most=16).pairs >= pairs
