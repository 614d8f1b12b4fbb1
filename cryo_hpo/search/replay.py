"""Replay given values through a search space, an Optuna define-by-run function."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from optuna.trial import FixedTrial

from ..config import load_callable

if TYPE_CHECKING:
    from ..config import Search
    from ..config.space import Scalar

Suggest = Callable[[Any], dict[str, Any]]  # an Optuna define-by-run function


class Replay(NamedTuple):
    """Hold the trial and the recipe values of a replay."""

    trial: FixedTrial
    params: dict[str, Scalar]
    """Recipe path -> value; a define-by-run function may compute the values from its draws."""


def replayed(suggest: Suggest, drawn: Mapping[str, Scalar]) -> Replay | None:
    """Replay a space with exactly these values; return None if the space does not hold them."""
    trial = FixedTrial(dict(drawn))
    try:
        with warnings.catch_warnings():
            # Optuna only warns of a value outside its range
            warnings.simplefilter("error", UserWarning)
            return Replay(trial, dict(suggest(trial)))
    except (ValueError, UserWarning):
        return None


def suggest_of(search: Search) -> Suggest:
    """Return the search's space as an Optuna define-by-run function."""
    if hasattr(search.space, "suggest"):
        return search.space.suggest
    function: Suggest = load_callable(search.space)
    return function
