from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryo_hpo.rungs import Ladder, best, goes_on, last_resort, promotable, reached

NINE = Ladder.of(grace_epochs=1, reduction=3, epochs=9)
scores = st.one_of(st.floats(0, 1), st.just(math.nan))
tables = st.dictionaries(st.integers(0, 40), scores, max_size=30)


def _at(rung: int, values: dict[int, float]) -> dict[int, dict[int, float]]:
    return {trial: {rung: value} for trial, value in values.items()}


@pytest.mark.parametrize(
    ("grace", "reduction", "epochs", "rungs"),
    [
        (1, 3, 27, (1, 3, 9)),
        (1, 3, 28, (1, 3, 9, 27)),
        (2, 2, 9, (2, 4, 8)),
        (5, 3, 5, ()),
        (4, 4, 3, ()),
    ],
)
def test_rungs_stand_below_full_length(grace, reduction, epochs, rungs):
    ladder = Ladder.of(grace_epochs=grace, reduction=reduction, epochs=epochs)
    assert ladder.rungs == rungs


def test_the_written_example_is_what_the_rule_says():
    curves = {0: {1: 0.50}, 1: {1: 0.40}}
    assert not goes_on(curves, NINE, 1, 1)
    curves[2] = {1: 0.62}
    assert goes_on(curves, NINE, 2, 1)
    curves[2][3] = 0.70
    curves[3] = {1: 0.58}
    assert not goes_on(curves, NINE, 3, 1)  # a third of four is one, and that is trial 2
    curves[4] = {1: 0.10}
    curves[5] = {}
    promotion = promotable(curves, NINE, {1, 3, 4}, diverged={5})
    assert promotion == (3, 1)  # six reached epoch 1 with the diverged one: two may go on
    curves[0][3], curves[3][3] = 0.55, 0.52
    assert goes_on(curves, NINE, 2, 3)
    assert not goes_on(curves, NINE, 3, 3)
    assert promotable(curves, NINE, {1, 3, 4}, diverged={5}) is None


@given(tables, st.integers(2, 5))
def test_a_promoted_trial_is_among_the_best_of_its_rung(values, reduction):
    ladder = Ladder.of(grace_epochs=1, reduction=reduction, epochs=100)
    promotion = promotable(_at(1, values), ladder, set(values))
    if promotion is None:
        return
    better = sum(v > values[promotion.trial] for v in values.values())
    assert better < len(values) / reduction
    assert not math.isnan(values[promotion.trial])


@given(tables, st.integers(2, 5), st.randoms())
def test_the_order_of_arrival_changes_nothing(values, reduction, chance: random.Random):
    shuffled = list(values.items())
    chance.shuffle(shuffled)
    ladder = Ladder.of(grace_epochs=1, reduction=reduction, epochs=100)
    waiting = set(values)
    assert promotable(_at(1, values), ladder, waiting) == promotable(
        _at(1, dict(shuffled)), ladder, waiting
    )


@given(tables, st.integers(2, 5))
def test_everyone_promoted_in_turn_is_at_most_a_share_of_the_rung(values, reduction):
    ladder = Ladder.of(grace_epochs=1, reduction=reduction, epochs=reduction + 1)
    curves, waiting = _at(1, values), set(values)
    promoted = []
    while (promotion := promotable(curves, ladder, waiting)) and promotion.rung == 1:
        waiting.discard(promotion.trial)  # it runs: nobody may promote it again
        promoted.append(promotion.trial)
    assert len(promoted) == len(set(promoted)) <= len(values) // reduction


@given(tables)
def test_diverged_trials_count_as_reached_and_never_go_on(values):
    curves = _at(1, values)
    curves[99] = {}
    rung = reached(curves, NINE, 1, diverged={99})
    assert rung[99] == -math.inf
    assert 99 not in best(rung, 2)


def test_a_diverged_trial_counts_at_its_next_rung_alone():
    curves = {0: {1: 0.5, 3: 0.6}, 1: {1: 0.6, 3: 0.7}, 2: {1: 0.4}, 3: {}}
    assert set(reached(curves, NINE, 1, diverged={2, 3})) == {0, 1, 2, 3}
    assert set(reached(curves, NINE, 3, diverged={2, 3})) == {0, 1, 2}


def test_ties_go_to_the_lower_number():
    assert best({4: 0.5, 2: 0.5, 9: 0.5}, 3) == [2]


def test_a_trial_that_vanished_is_not_promoted():
    curves = _at(1, {0: 0.1, 1: 0.9, 2: 0.2})
    assert promotable(curves, NINE, {0, 2}) is None


def test_the_leader_goes_on_when_no_rung_is_full_enough():
    curves = {0: {1: 0.5, 3: 0.6}, 1: {1: 0.4}, 2: {1: 0.7, 3: 0.65}}
    assert promotable(curves, NINE, {1, 2}) is None
    assert last_resort(curves, NINE, {1, 2}) == (2, 3)
    assert last_resort(curves, NINE, {1}) == (1, 1)
    assert last_resort({1: {1: math.nan}}, NINE, {1}) is None
