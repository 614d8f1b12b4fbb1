"""Turn a cell of a campaign into the study of a rival: a model that the cells are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from .frozen import Frozen

RivalName = Literal["unet"]
RIVALS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"unet": MappingProxyType({"encoder": "unet", "decoder": "unet", "tune": "full"})}
)
"""Rival -> its keys of `model`: trained from random weights, all of it."""


class RivalSpec(Frozen):
    """A rival of the cells of a campaign."""

    width: int | None = Field(
        default=None, ge=1, le=16_384, description="Channels of the U-Net's first level (64)."
    )


def _name_rivals(value: object) -> object:
    """Return a list of names as a mapping of names to no options; anything else as it is."""
    names = isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)
    return {name: {} for name in value} if names else value  # type: ignore[attr-defined]


Rivals = Annotated[
    dict[RivalName, RivalSpec],
    BeforeValidator(
        _name_rivals,
        json_schema_input_type=list[RivalName] | dict[RivalName, RivalSpec],
    ),
]
OF_LAYERS = ("encoder_lr_scale", "layer_decay")  # rates for a pretrained encoder


def rival_study(raw: Mapping[str, Any], rival: str, spec: RivalSpec) -> dict[str, Any]:
    """Return a rival's study: the cell's, without what only pretrained encoders have.

    Data, loss, schedule, seeds and the search are the cell's. Keys of `model` go, but for `width`,
    with the parameters of the search, priors and named baselines that vary them; so do rates by
    layer in `base`, and normalization by the encoder's pretraining.

    Args:
        raw: Study of a cell, as a raw mapping.
        rival: Key of `RIVALS`.
        spec: The rival's options.
    """
    base = dict(raw.get("base", {}))
    width = {key: value for key, value in base.get("model", {}).items() if key == "width"}
    given = {key: value for key, value in spec if value is not None}
    base["model"] = {**width, **RIVALS[rival], **given}
    base["data"] = {
        key: value
        for key, value in base.get("data", {}).items()
        if (key, value) != ("normalize", "pretraining")
    }
    if "optim" in base:
        base["optim"] = {k: v for k, v in base["optim"].items() if k not in OF_LAYERS}
    study = {**raw, "base": base, "search": _search(raw["search"])}
    if "baselines" in raw:
        arms = raw["baselines"].items()
        study["baselines"] = {
            arm: changes for arm, changes in arms if isinstance(changes, str) or _keep(*changes)
        }
    return study


def _search(raw: Mapping[str, Any]) -> dict[str, Any]:
    search, space = dict(raw), raw.get("space")
    if isinstance(space, Mapping) and "params" in space:
        params = {name: param for name, param in space["params"].items() if _keep(name)}
        when = {name: rule for name, rule in space.get("when", {}).items() if name in params}
        search["space"] = {**space, "params": params, **({"when": when} if "when" in space else {})}
    if "prior" in raw:
        search["prior"] = {name: prior for name, prior in raw["prior"].items() if _keep(name)}
    return search


def _keep(*paths: str) -> bool:
    """Return whether a rival has all of these recipe paths."""
    return all(
        path == "model.width" or not path.startswith(("model.", "data.normalize")) for path in paths
    )
