"""Which trainings of a comparison weaken its verdict."""

from __future__ import annotations

import pytest

from cryo_hpo.results.study import ConstantMap, Result
from cryo_hpo.results.weak_runs import (
    RISING,
    is_below_constant,
    name_weak_runs,
    runs_above_even_guess,
    runs_below_constant,
    runs_still_rising,
)

from ..support.results import a_result, an_arm


def with_seed(**changes: object) -> Result:
    """Return a study of one arm and one training with these values."""
    arm = an_arm("baseline", (0.5,)).model_copy(update={"even_guess_loss": 0.7})
    seed = arm.seeds[0].model_copy(update=changes)
    return a_result(arms=(arm.model_copy(update={"seeds": (seed,)}),))


@pytest.mark.parametrize(
    ("score", "weak"), [(0.3, 1), (0.4655, 1), (0.46551, 0), (0.0, 1)], ids=str
)
def test_a_run_that_scores_as_much_as_a_constant_map_does_not_beat_it(score: float, weak: int):
    constant = ConstantMap(label="ice", test_miou=0.4655)
    result = with_seed(test_miou=score).model_copy(update={"constant_map": constant})
    assert len(runs_below_constant(result)) == weak
    assert not runs_below_constant(result.model_copy(update={"constant_map": None}))


@pytest.mark.parametrize(
    ("scores", "is_below"),
    [((0.4, 0.6, 0.7), False), ((0.4, 0.4, 0.9), True), ((0.1, 0.5, 0.55), True)],
)
def test_an_arm_is_below_a_constant_map_by_its_mean_or_its_median(scores, is_below):
    result = a_result(constant_map=ConstantMap(label="ice", test_miou=0.45))
    assert is_below_constant(an_arm("baseline", scores), result) == is_below


@pytest.mark.parametrize(("loss", "weak"), [(0.69, 0), (0.7, 1), (5.0, 1), (None, 0)])
def test_a_final_loss_of_an_even_guess_has_learned_nothing(loss: float | None, weak: int):
    assert len(runs_above_even_guess(with_seed(train_loss=loss))) == weak


@pytest.mark.parametrize(("gain", "weak"), [(0.0, 0), (RISING, 1), (0.3, 1), (None, 0)])
def test_a_score_that_rose_by_a_point_at_the_end_was_still_rising(gain: float | None, weak: int):
    assert len(runs_still_rising(with_seed(late_gain=gain))) == weak


def test_a_run_that_diverged_is_named_as_that_only():
    result = with_seed(diverged=True, epochs=3, train_loss=9.0, late_gain=0.2)
    assert name_weak_runs(result) == {"diverged": ("baseline-seed1",)}
