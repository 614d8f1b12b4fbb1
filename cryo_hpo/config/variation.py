"""Decide what a study may vary of its base: in its search, and in its named baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..errors import SpecError
from .frozen import Problem
from .recipe import Recipe
from .space import Scalar

NOT_VARIED = {
    "seed": "the seed is not a hyperparameter; list repetitions in `seeds` of the study",
    "epochs": "all recipes of a study train for `base.epochs`, or scores would not compare",
    "protocol": "scores under two protocols do not compare; write a second study",
    "data.split": "scores on different splits do not compare; write a second study",
    "data.split_seed": "scores on different splits do not compare; write a second study",
    "data.label_fraction": "all trainings of a study learn from the same scenes; write a second study",
    "data.label_seed": "all trainings of a study learn from the same scenes; write a second study",
    "data.name": "scores on different datasets do not compare; write a second study",
}

NOT_SEARCHED = {
    "optim.name": "learning rates of two optimizers are on different scales; compare them as "
    "`baselines`: {prodigy: {optim.name: prodigy}}",
}


def explain_refusal(base: Recipe, path: str, value: Scalar) -> str:
    """Return why a study may not vary its base like this; empty if it may."""
    if path in NOT_VARIED:
        return f"'{path}' cannot be varied: {NOT_VARIED[path]}."
    return _explain_changes(base, {path: value}).removeprefix(f"{path}: ")


def explain_unsearchable(base: Recipe, path: str, value: Scalar) -> str:
    """Return why a search may not set a value of its base; empty if it may."""
    if path in NOT_SEARCHED:
        return f"'{path}' cannot be searched: {NOT_SEARCHED[path]}."
    return explain_refusal(base, path, value)


def _explain_changes(base: Recipe, changes: Mapping[str, Scalar]) -> str:
    try:
        base.replace(changes)
    except SpecError as error:
        return str(error)
    return ""


def arm_problems(
    base: Recipe, loc: tuple[str, ...], changes: Mapping[str, Scalar]
) -> Iterator[Problem]:
    """Yield the problems of a named baseline, at the key that has them where it is one key."""
    whole = _explain_changes(base, changes)
    one_by_one = [
        Problem((*loc, path), message)
        for path, value in changes.items()
        if (whole or path in NOT_VARIED) and (message := explain_refusal(base, path, value))
    ]
    yield from one_by_one or ([Problem(loc, whole)] if whole else [])
