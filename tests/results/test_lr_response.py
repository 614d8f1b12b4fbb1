"""Where the plateau is, where it ends, and what is recommended."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryo_hpo.results.lr_response import LrResponse, response
from cryo_hpo.results.study import Result, TrialResult

from ..support.results import a_result, a_trial, an_arm


def whole(number: int, lr: float, score: float) -> TrialResult:
    return a_trial(7, number=number, lr=lr, best_val_miou=score, curve={27: score})


def answered(result: Result) -> LrResponse:
    found = response(result)
    assert found is not None
    return found


ARMS = (an_arm("baseline", (0.70, 0.72)), an_arm("tuned", (0.80, 0.81), lr=1e-3))
# pooled over two arms of two seeds: sqrt((2 * 0.01**2 + 2 * 0.005**2) / 2)
NOISE = math.sqrt(0.01**2 + 0.005**2)
TRIALS = (
    whole(0, 1e-4, 0.70),
    whole(1, 3e-4, 0.80),
    whole(2, 1e-3, 0.82),
    whole(3, 3e-3, 0.805),
    whole(4, 1e-2, 0.60),
    whole(5, 2e-2, 0.815),
    a_trial(10, lr=4e-2),
    a_trial(10, number=11, lr=1e-5),
)


def test_the_plateau_is_what_lies_within_noise_around_the_best() -> None:
    found = answered(a_result(trials=TRIALS, arms=ARMS, winner=2))
    assert found.noise == pytest.approx(NOISE)
    assert (found.plateau_low, found.plateau_high) == (3e-4, 3e-3), "0.815 lies behind a valley"
    assert found.best_lr == 1e-3
    assert found.divergence_edge == 4e-2, "one that diverged below the best is no edge"
    assert found.recommended_lr == 1e-3, "trained, and nearest to the middle"
    assert (found.fixed_lr, found.fixed_on_plateau) == (1e-4, False)
    assert [p.trial for p in found.points if p.on_plateau] == [1, 2, 3]
    assert [p.lr for p in found.points] == sorted(p.lr for p in found.points)


def test_trials_that_learned_nothing_are_no_plateau() -> None:
    lost = tuple(trial.model_copy(update={"collapsed": True}) for trial in TRIALS[:4])
    found = answered(a_result(trials=lost, arms=ARMS, winner=2))
    assert found.best_lr == 1e-3
    assert (found.plateau_low, found.plateau_high, found.recommended_lr) == (None, None, None)
    assert not any(point.on_plateau for point in found.points)


def test_the_recommendation_keeps_away_from_the_edge() -> None:
    near = (*TRIALS[:4], a_trial(10, lr=3.3e-3))
    found = answered(a_result(trials=near, arms=ARMS, winner=2))
    assert found.recommended_lr == 1e-3, "nearest to a third of 3.3e-3"
    nearer = (*TRIALS[:4], a_trial(10, lr=3.01e-3 / 2))
    assert answered(a_result(trials=nearer, arms=ARMS, winner=2)).recommended_lr == 3e-4
    steep = (whole(0, 1e-4, 0.7), whole(1, 1e-3, 0.8), a_trial(10, lr=1.1e-3))
    found = answered(a_result(trials=steep, arms=ARMS, winner=1))
    assert found.recommended_lr == 1e-3, "never below what was seen to be good"


RATES = st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=8, unique=True)


@settings(max_examples=50, deadline=None)
@given(RATES, st.floats(1e-6, 10.0))
def test_what_is_recommended_was_trained_to_full_length(rates: list[float], edge: float) -> None:
    trials = [whole(number, lr, 0.8) for number, lr in enumerate(rates)]
    found = answered(a_result(trials=(*trials, a_trial(10, number=99, lr=edge)), arms=ARMS))
    assert found.recommended_lr in rates
    assert found.recommended_lr in {p.lr for p in found.points if p.on_plateau}


def test_without_two_seeds_the_noise_is_not_known_and_the_plateau_is_the_best() -> None:
    found = answered(a_result(trials=TRIALS, arms=(an_arm("baseline", (0.7,)),), winner=2))
    assert found.noise is None
    assert (found.plateau_low, found.plateau_high) == (1e-3, 1e-3)


def test_a_collapsed_seed_says_nothing_of_the_noise() -> None:
    lost = an_arm("baseline", (0.7, 0.3))
    lost = lost.model_copy(
        update={"seeds": (lost.seeds[0], lost.seeds[1].model_copy(update={"collapsed": True}))}
    )
    found = answered(a_result(trials=TRIALS, arms=(lost, ARMS[1]), winner=2))
    assert found.noise == pytest.approx(0.005 * math.sqrt(2))


def test_all_diverged_recommends_nothing() -> None:
    found = answered(a_result(trials=(a_trial(10),), winner=None))
    assert (found.best_lr, found.recommended_lr, found.plateau_low) == (None, None, None)
    assert LrResponse.model_validate_json(found.model_dump_json()) == found


def test_without_a_search_there_is_no_response() -> None:
    assert response(a_result(trials=(), winner=None)) is None
