"""A search space as Optuna's define-by-run function, and what it makes of given values."""

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
    """What a space makes of given values."""

    trial: FixedTrial
    params: dict[str, Scalar]
    """Recipe path -> value; a define-by-run function may compute these from what it draws."""


def replayed(suggest: Suggest, drawn: Mapping[str, Scalar]) -> Replay | None:
    """Let a space suggest exactly these values; None if it does not hold them."""
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
