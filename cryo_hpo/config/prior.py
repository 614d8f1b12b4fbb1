"""Define priors of good hyperparameter values, which shape the first proposals of a search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import AliasChoices, ConfigDict, Field

from .frozen import Frozen, Problem, format_value
from .space import Choice, SearchSpace


class Prior(Frozen):
    """Prior of one parameter: a truncated normal around a good value, mixed with a uniform.

    The first configurations are drawn from the mixture: a fraction `weight` of them around
    `center`, the others evenly over the whole range. A wrong prior costs a fraction of the
    trials and never hides the rest of the range.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    center: float = Field(
        validation_alias=AliasChoices("center", "centre"),  # the name of 0.1.0
        description="Most likely good value.",
    )
    spread: float = Field(
        default=3.0,
        gt=0,
        description=(
            "Standard deviation: a factor above 1 for a parameter with log: true, else a "
            "difference in the parameter's units."
        ),
    )
    weight: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="Fraction of the first configurations drawn around center.",
    )


def prior_problems(priors: Mapping[str, Prior], space: object) -> Iterator[Problem]:
    """Yield what makes priors unusable for a space; define-by-run spaces cannot be checked."""
    if not isinstance(space, SearchSpace):
        return
    for name, prior in priors.items():
        param = space.params.get(name)
        if param is None:
            names = ", ".join(space.params)
            text = f"The space has no parameter '{name}'. Known: {names}. Drop it, or add it there."
            yield Problem((name,), text)
        elif isinstance(param, Choice):
            text = f"Priors apply to numbers, but '{name}' is a choice. Drop it."
            yield Problem((name,), text)
        elif not param.low <= prior.center <= param.high:
            text = (
                f"Outside the parameter's range, {param.low:g} to {param.high:g}: got "
                f"{format_value(prior.center)}. Move it, or widen the range."
            )
            yield Problem((name, "center"), text)
        elif param.log and prior.spread <= 1:
            text = (
                f"Must be a factor above 1 because '{name}' has log: true, got {prior.spread:g}. "
                "Raise it."
            )
            yield Problem((name, "spread"), text)
