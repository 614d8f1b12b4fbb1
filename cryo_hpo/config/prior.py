"""What is believed of a parameter before the search begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import ConfigDict, Field

from .frozen import Frozen, Problem, shown
from .space import Choice, SearchSpace


class Belief(Frozen):
    """Where good values of a parameter lie, and how much of the first trials to stake on it.

    The first configurations are drawn from a mixture: `weight` of them around `centre`, the
    others evenly over the whole range. So a belief that is wrong costs a share of the trials, and
    never hides the rest of the range.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    centre: float = Field(description="The most likely good value.")
    spread: float = Field(
        default=3.0,
        gt=0,
        description=(
            "One standard deviation: a factor above 1 for a parameter with log: true, else a "
            "difference in its own units."
        ),
    )
    weight: float = Field(
        default=0.5, ge=0, lt=1, description="Share of the first configurations around centre."
    )


def belief_problems(prior: Mapping[str, Belief], space: object) -> Iterator[Problem]:
    """Yield what makes beliefs useless for a space; a space that is a function says nothing."""
    if not isinstance(space, SearchSpace):
        return
    for name, belief in prior.items():
        param = space.params.get(name)
        if param is None:
            known = ", ".join(space.params)
            text = f"The space has no parameter '{name}'. Known: {known}. Drop it, or add it there."
            yield Problem((name,), text)
        elif isinstance(param, Choice):
            text = f"A belief is about a number, '{name}' is a choice. Drop it."
            yield Problem((name,), text)
        elif not param.low <= belief.centre <= param.high:
            text = (
                f"Must lie within the parameter's range, {param.low:g} to {param.high:g}, got "
                f"{shown(belief.centre)}. Move it, or widen the range."
            )
            yield Problem((name, "centre"), text)
        elif param.log and belief.spread <= 1:
            text = f"Must be a factor above 1, since '{name}' is logarithmic, got {belief.spread:g}. Raise it."
            yield Problem((name, "spread"), text)
