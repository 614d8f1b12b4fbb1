"""Require what every reader of a result takes for granted: the baseline, recipes and their rates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import AfterValidator

PARTS = ("data", "model", "loss", "optim")  # of a recipe


class Named(Protocol):
    """Have a name."""

    name: str


Arms = TypeVar("Arms", bound=Iterable[Named])


def require_baseline(arms: Arms) -> Arms:
    """Refuse arms without a baseline; there may be none at all.

    Raises:
        ValueError: There is none.
    """
    names = [arm.name for arm in arms]
    if names and "baseline" not in names:
        message = f"there is no baseline among {', '.join(names)}"
        raise ValueError(message)
    return arms


def _require_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """Refuse fields of a recipe whose parts are none, or without a learning rate."""
    for part in PARTS:
        if not isinstance(recipe.get(part, {}), dict):
            message = f"`{part}` of the recipe is no mapping"
            raise ValueError(message)
    rate = recipe.get("optim", {}).get("lr")
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        message = "the recipe has no learning rate `optim.lr`"
        raise ValueError(message)
    return recipe


def _require_base(spec: dict[str, Any]) -> dict[str, Any]:
    """Refuse fields of a study without its recipe and that one's epochs."""
    base = spec.get("base")
    if not isinstance(base, dict) or type(base.get("epochs")) is not int:
        message = "the study has no `base` with `epochs`"
        raise ValueError(message)
    search = spec.get("search") or {}
    parts = {"search": search, "resources": spec.get("resources") or {}}
    if isinstance(search, dict):
        parts["search.scheduler"] = search.get("scheduler") or {}
    for part, fields in parts.items():
        if not isinstance(fields, dict):
            message = f"`{part}` of the study is no mapping"
            raise ValueError(message)
    _require_recipe(base)
    return spec


RecipeFields = Annotated[dict[str, Any], AfterValidator(_require_recipe)]
"""The fields of a recipe as they were written."""
StudyFields = Annotated[dict[str, Any], AfterValidator(_require_base)]
"""The fields of a study as they were resolved."""
