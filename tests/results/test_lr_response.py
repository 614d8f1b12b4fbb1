"""Where the plateau is, where it ends, and what is recommended."""

from __future__ import annotations

import math

import pytest

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
    assert found.recommended_lr == pytest.approx(math.sqrt(3e-4 * 3e-3))
    assert (found.fixed_lr, found.fixed_on_plateau) == (1e-4, False)
    assert [p.trial for p in found.points if p.on_plateau] == [1, 2, 3]
    assert [p.lr for p in found.points] == sorted(p.lr for p in found.points)


def test_the_recommendation_keeps_away_from_the_edge() -> None:
    near = (*TRIALS[:4], a_trial(10, lr=3.3e-3))
    found = answered(a_result(trials=near, arms=ARMS, winner=2))
    assert found.recommended_lr == pytest.approx(min(math.sqrt(9e-7), 3.3e-3 / 3))
    steep = (whole(0, 1e-4, 0.7), whole(1, 1e-3, 0.8), a_trial(10, lr=1.1e-3))
    found = answered(a_result(trials=steep, arms=ARMS, winner=1))
    assert found.recommended_lr == 1e-3, "never below what was seen to be good"


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
