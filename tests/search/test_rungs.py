from __future__ import annotations

import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers import ASHAScheduler

from cryo_hpo.search.rungs import (
    Ladder,
    finalist,
    passes_rung,
    promotable,
    reached,
    stops,
    top_fraction,
)

NINE = Ladder.of(grace_epochs=1, reduction=3, epochs=9)
PAGE = Path(__file__).parents[2] / "docs" / "search.md"
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
    assert not passes_rung(curves, NINE, 1, 1)
    curves[2] = {1: 0.62}
    assert passes_rung(curves, NINE, 2, 1)
    curves[2][3] = 0.70
    curves[3] = {1: 0.58}
    assert not passes_rung(curves, NINE, 3, 1)  # a third of four is one, and that is trial 2
    curves[4] = {1: 0.10}
    curves[5] = {}
    promotion = promotable(curves, NINE, {1, 3, 4}, diverged={5})
    assert promotion == (3, 1)  # six reached epoch 1 with the diverged one: two may go on
    curves[0][3], curves[3][3] = 0.55, 0.52
    assert passes_rung(curves, NINE, 2, 3)
    assert not passes_rung(curves, NINE, 3, 3)
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
    assert 99 not in top_fraction(rung, 2)


def test_a_diverged_trial_counts_at_its_next_rung_alone():
    curves = {0: {1: 0.5, 3: 0.6}, 1: {1: 0.6, 3: 0.7}, 2: {1: 0.4}, 3: {}}
    assert set(reached(curves, NINE, 1, diverged={2, 3})) == {0, 1, 2, 3}
    assert set(reached(curves, NINE, 3, diverged={2, 3})) == {0, 1, 2}


def test_ties_go_to_the_lower_number():
    assert top_fraction({4: 0.5, 2: 0.5, 9: 0.5}, 3) == [2]


def test_a_trial_that_vanished_is_not_promoted():
    curves = _at(1, {0: 0.1, 1: 0.9, 2: 0.2})
    assert promotable(curves, NINE, {0, 2}) is None


def test_the_leader_goes_on_when_no_rung_is_full_enough():
    curves = {0: {1: 0.5, 3: 0.6}, 1: {1: 0.4}, 2: {1: 0.7, 3: 0.65}}
    assert promotable(curves, NINE, {1, 2}) is None
    assert finalist(curves, NINE, {1, 2}) == (2, 3)
    assert finalist(curves, NINE, {1}) == (1, 1)
    assert finalist({1: {1: math.nan}}, NINE, {1}) is None


def test_the_table_of_the_page_is_what_the_rule_says():
    """The events of docs/search.md, one worker: each decision follows from the scores before it."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().split("| decision |")[1].split("\n\n")[0].splitlines()
        if line.startswith("| ")
    ]
    assert len(rows) == 9
    trials = {trial for trial, *_ in rows}
    curves: dict[int, dict[int, float]] = {}
    waiting, diverged = set(), set()
    for trial_, epoch_, score, said in rows:
        trial, epoch = int(trial_), int(epoch_)
        curve = curves.setdefault(trial, {})
        if score == "nan":
            diverged.add(trial)
            words = ["diverged"]
        else:
            curve[epoch] = float(score)
            if epoch == NINE.epochs:
                words = ["complete"]
            else:
                on = passes_rung(curves, NINE, trial, epoch, diverged=diverged)
                words = ["continued" if on else "paused"]
        if words == ["paused"]:
            waiting.add(trial)
        if not words[0].startswith("continued"):  # the worker is free
            promotion = promotable(curves, NINE, waiting, diverged=diverged)
            if promotion is not None:
                waiting.discard(promotion.trial)
                words.append(f"{promotion.trial} promoted from epoch {promotion.rung}")
            elif len(curves) == len(trials) and words == ["paused"]:  # no trial is left
                leader = finalist(curves, NINE, waiting)
                assert leader is not None
                words.append(f"{leader.trial} promoted from epoch {leader.rung}")
        assert said == "; ".join(words), (trial, epoch)
    assert sum(max(curve, default=0) for curve in curves.values()) == 15


events = st.lists(st.tuples(st.integers(0, 12), scores), max_size=60)


@given(events, st.integers(2, 4), st.integers(1, 3), st.integers(1, 4), st.randoms())
def test_a_search_never_runs_a_trial_twice_at_once(
    arrivals, reduction, grace, workers, chance: random.Random
):
    """Any reduction and grace, several workers, ties, trials that diverge or vanish."""
    ladder = Ladder.of(grace_epochs=grace, reduction=reduction, epochs=grace * reduction**2)
    curves: dict[int, dict[int, float]] = {}
    running: dict[int, int] = {}  # trial -> the rung it trains towards
    waiting: set[int] = set()
    diverged: set[int] = set()
    promoted: list[tuple[int, int]] = []
    marks = (*ladder.rungs, ladder.epochs)
    for fate, score in arrivals:
        while len(running) < workers:
            promotion = promotable(curves, ladder, waiting, diverged=diverged)
            if promotion is None:
                number = len(curves)
                curves[number], running[number] = {}, marks[0]
                continue
            trial, rung = promotion
            assert trial not in running
            assert trial not in diverged
            rivals = reached(curves, ladder, rung, diverged=diverged)
            better = sum(value > rivals[trial] for value in rivals.values())
            assert better < len(rivals) / reduction
            waiting.discard(trial)
            running[trial] = marks[marks.index(rung) + 1]
            promoted.append(promotion)
        trial = chance.choice(sorted(running))
        mark = running.pop(trial)
        if fate == 0:
            continue  # it vanished: neither waits nor runs, and its scores stay
        if fate == 1:
            diverged.add(trial)
            continue
        curves[trial][mark] = score
        if mark == ladder.epochs:
            continue
        if passes_rung(curves, ladder, trial, mark, diverged=diverged):
            running[trial] = marks[marks.index(mark) + 1]
        else:
            waiting.add(trial)
    assert len(promoted) == len(set(promoted)), "a rung is left once"


@given(
    st.dictionaries(st.integers(0, 12), st.lists(scores, min_size=1, max_size=3), max_size=10),
    st.sets(st.integers(0, 12)),
    st.randoms(),
)
def test_late_results_give_the_table_they_would_have_given_early(curves, away, chance):
    early = {n: dict(zip((1, 3, 9), values, strict=False)) for n, values in curves.items()}
    results = [(n, rung, value) for n, curve in early.items() for rung, value in curve.items()]
    chance.shuffle(results)
    late: dict[int, dict[int, float]] = {}
    for trial, rung, value in results:
        late.setdefault(trial, {})[rung] = value
    waiting = set(curves) - away
    assert promotable(late, NINE, waiting) == promotable(early, NINE, waiting)
    assert finalist(late, NINE, waiting) == finalist(early, NINE, waiting)
    for rung in NINE.rungs:
        assert top_fraction(reached(late, NINE, rung), 3) == top_fraction(
            reached(early, NINE, rung), 3
        )


@given(st.lists(st.floats(0, 1), max_size=20), st.integers(2, 5))
def test_the_stop_rule_is_that_of_ray(values, reduction):
    ray_rule = ASHAScheduler(
        time_attr="epoch",
        metric="score",
        mode="max",
        max_t=100,
        grace_period=1,
        reduction_factor=reduction,
    )
    for number, value in enumerate(values):
        trial: Any = SimpleNamespace(trial_id=str(number))
        ray_rule.on_trial_add(None, trial)  # type: ignore[arg-type]
        decision = ray_rule.on_trial_result(None, trial, {"epoch": 1, "score": value})  # type: ignore[arg-type]
        assert stops(value, values[:number], reduction=reduction) == (decision == "STOP")


def test_the_stop_rule_ends_what_has_diverged_and_does_not_count_it():
    assert stops(math.nan, [], reduction=3)
    assert not stops(0.1, [math.nan, math.nan], reduction=3)
    assert not stops(0.5, [0.5, 0.5], reduction=3), "a tie survives"
    assert stops(0.4, [0.5, math.nan], reduction=3)
