from __future__ import annotations

import math
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cryo_hpo import Choice, Float, Int, SearchSpace, When
from cryo_hpo.config import explain

from ..support.spaces import calm, spaces

LR = Float(low=1e-6, high=1e-2, log=True)
GAMMA = Float(low=0.5, high=4.0)
LOSS = Choice(values=("ce", "focal"))
CONDITIONAL = SearchSpace(
    params={"loss.name": LOSS, "loss.focal_gamma": GAMMA},
    when={"loss.focal_gamma": When(param="loss.name", is_in=("focal",))},
)
NESTED = SearchSpace(
    params={"a": Choice(values=(True, False)), "b": Int(low=0, high=1), "c": LR},
    when={"b": When(param="a", is_in=(True,)), "c": When(param="b", is_in=(1,))},
)


def _random_trial(seed: int) -> optuna.Trial:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()


@calm
@given(spaces(), st.integers(0, 2**31))
def test_a_space_contains_what_it_suggests(space: SearchSpace, seed: int) -> None:
    point = space.suggest(_random_trial(seed))
    assert space.contains(point)
    assert list(point) == [name for name in space.params if name in point]
    assert not space.contains({**point, "another.name": 1})
    assert not space.contains(dict(list(point.items())[1:]))


@calm
@given(spaces(), st.integers(0, 2**31))
def test_a_fixed_trial_gives_back_the_point(space: SearchSpace, seed: int) -> None:
    point = space.suggest(_random_trial(seed))
    assert space.suggest(optuna.trial.FixedTrial(dict(point))) == point


@calm
@given(spaces(), spaces())
def test_of_two_spaces_the_right_wins(left: SearchSpace, right: SearchSpace) -> None:
    try:
        both = left | right
    except ValidationError:  # a condition of the left names values that the right took away
        assert set(left.params) & set(right.params)
        return
    assert both.params == {**left.params, **right.params}
    assert {n: w for n, w in both.when.items() if n in right.params} == right.when


@calm
@given(spaces())
def test_a_space_joined_with_itself_is_itself(space: SearchSpace) -> None:
    assert space | space == space
    assert list((space | space).params) == list(space.params)


def test_joining_puts_a_parameter_after_the_one_it_hangs_on() -> None:
    left = SearchSpace(params={"loss.focal_gamma": GAMMA, "optim.lr": LR})
    both = left | CONDITIONAL
    assert list(both.params) == ["loss.name", "loss.focal_gamma", "optim.lr"]


def test_an_override_without_a_condition_always_exists() -> None:
    both = CONDITIONAL | SearchSpace(params={"loss.focal_gamma": GAMMA})
    assert both.when == {}


@pytest.mark.parametrize(
    ("point", "held"),
    [
        ({"loss.name": "ce"}, True),
        ({"loss.name": "focal", "loss.focal_gamma": 0.5}, True),
        ({"loss.name": "focal", "loss.focal_gamma": 4}, True),
        ({"loss.name": "focal", "loss.focal_gamma": 4.1}, False),
        ({"loss.name": "focal", "loss.focal_gamma": True}, False),
        ({"loss.name": "focal"}, False),
        ({"loss.name": "ce", "loss.focal_gamma": 1.0}, False),
        ({"loss.focal_gamma": 1.0}, False),
        ({}, False),
    ],
)
def test_contains_honors_conditions_bounds_and_types(point: dict[str, Any], held: bool) -> None:
    assert CONDITIONAL.contains(point) is held


@pytest.mark.parametrize(
    ("point", "held"),
    [
        ({"a": False}, True),
        ({"a": True, "b": 0}, True),
        ({"a": True, "b": 1, "c": 1e-3}, True),
        ({"a": True, "b": 1}, False),
        ({"a": 1, "b": 0}, False),
        ({"a": False, "c": 1e-3}, False),
    ],
)
def test_conditions_chain(point: dict[str, Any], held: bool) -> None:
    assert NESTED.contains(point) is held


def test_int_steps_are_inclusive() -> None:
    param = Int(low=2, high=8, step=3)
    assert [n for n in range(10) if param.holds(n)] == [2, 5, 8]
    assert not param.holds(5.0)


def test_a_log_scale_spreads_over_decades() -> None:
    space = SearchSpace(params={"optim.lr": LR})
    values = [
        math.log10(float(space.suggest(_random_trial(seed))["optim.lr"])) for seed in range(40)
    ]
    assert min(values) < -5 < -3 < max(values)


@pytest.mark.parametrize(
    ("model", "raw", "message"),
    [
        (
            Float,
            {"low": 1e-2, "high": 1e-5},
            "low must not exceed high, got low=0.01, high=1e-05. Swap them.",
        ),
        (
            Float,
            {"low": 0.0, "high": 1.0, "log": True},
            "A log scale needs low above 0, got low=0.",
        ),
        (Float, {"low": math.nan, "high": 1.0}, "low: Must be a finite number, got nan."),
        (Float, {"low": "fast", "high": 1.0}, "low: Must be a number, got 'fast'."),
        (Int, {"low": 1, "high": 6, "step": 2}, "Nearest: 5, 7."),
        (
            Int,
            {"low": 1, "high": 6, "step": 2, "log": True},
            "step does not apply to a log scale, got step=2.",
        ),
        (Int, {"low": 1.5, "high": 2}, "low: Must be a whole number, got 1.5."),
        (Int, {"low": 0, "high": 2, "log": True}, "A log scale needs low above 0, got low=0."),
        (Choice, {"values": ()}, "values: Must have at least 1 entries"),
        (Choice, {"values": (1, 1.0)}, "values: Value 1.0 is repeated."),
        (Choice, {"values": (math.inf,)}, "values[0]: Must be a finite number, got inf."),
        (
            Choice,
            {"values": (None,)},
            "values[0]: Must be a number, text, true or false, got nothing.",
        ),
        (SearchSpace, {"params": {}}, "params: The search space is empty."),
        (SearchSpace, {"params": {"optim..lr": LR}}, "'optim..lr' is not a recipe path."),
        (
            SearchSpace,
            {"params": {"optim.lr": LR}, "when": {"x": When(param="a", is_in=(1,))}},
            "Condition of 'x', which is not in `params`.",
        ),
        (
            SearchSpace,
            {"params": {"b": GAMMA, "a": LOSS}, "when": {"b": When(param="a", is_in=("ce",))}},
            "when.b.param: 'a' does not come before 'b' in `params`",
        ),
        (
            SearchSpace,
            {"params": {"a": LOSS, "b": GAMMA}, "when": {"b": When(param="a", is_in=("foca",))}},
            "when.b.is_in[0]: 'a' never has the value 'foca', so the condition is never met. Its values: 'ce', 'focal'.",
        ),
    ],
)
def test_laws(model: Any, raw: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        model(**raw)
    assert message in "\n".join(map(str, explain(caught.value, model)))


def test_a_space_is_frozen() -> None:
    with pytest.raises(ValidationError):
        LR.low = 1.0
