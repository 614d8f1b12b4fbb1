"""Require what every reader of a result takes for granted: the baseline, ranges, parts of the spec."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo


class Named(Protocol):
    """Have a name."""

    name: str


Arms = TypeVar("Arms", bound=Iterable[Named])


Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1e100)]
Value = Annotated[float, Field(ge=-1e100, le=1e100)]
"""Value of a metric in its unit, a number to compute with."""


def require_baseline(arms: Arms, info: ValidationInfo) -> Arms:
    """Refuse arms without a baseline; a study that ends after its search has none at all.

    Raises:
        ValueError: There is none.
    """
    names = [arm.name for arm in arms]
    if not names and info.data.get("proof", "none") != "none":
        message = f"a study with proof: {info.data['proof']} has arms"
        raise ValueError(message)
    if names and "baseline" not in names:
        message = f"there is no baseline among {', '.join(names)}"
        raise ValueError(message)
    return arms


class _Part(BaseModel):
    """Have some fields of known types, and any others: a later version may have more."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Optim(_Part):
    lr: Rate


class _Data(_Part):
    crop: int | None = None
    overlap: int | None = None


class _Recipe(_Part):
    optim: _Optim
    data: _Data = _Data()
    model: dict[str, Any] = {}
    loss: dict[str, Any] = {}


class _Base(_Recipe):
    epochs: int = Field(ge=1)


class _Rule(_Part):
    kind: str | None = None
    grace_epochs: int | None = Field(default=None, ge=1)
    reduction: int | None = Field(default=None, ge=2)  # else the rungs have no end


class _Search(_Part):
    metric: str = "miou"
    scheduler: _Rule | None = None


class _Study(_Part):
    base: _Base
    search: _Search | None = None
    resources: dict[str, Any] | None = None
    budget: dict[str, Any] | None = None


Part = TypeVar("Part", bound=_Part)


def _read(model: type[Part], raw: dict[str, Any]) -> Part:
    """Read a part; its first problem is the message, since the file is one to remove."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        message = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        raise ValueError(message) from None


def _require_recipe(raw: dict[str, Any]) -> dict[str, Any]:
    _read(_Recipe, raw)
    return raw


def _require_study(raw: dict[str, Any]) -> dict[str, Any]:
    search = _read(_Study, raw).search
    rule = search.scheduler if search is not None else None
    if rule is not None and rule.kind == "asha" and None in (rule.grace_epochs, rule.reduction):
        message = "search.scheduler lacks its grace_epochs or reduction"
        raise ValueError(message)
    return raw


RecipeFields = Annotated[dict[str, Any], AfterValidator(_require_recipe)]
"""The fields of a recipe as they were written; its learning rate is among them."""
StudyFields = Annotated[dict[str, Any], AfterValidator(_require_study)]
"""The fields of a study as they were resolved; those that reports read have their types."""
