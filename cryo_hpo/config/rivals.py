"""Turn a cell of a campaign into the study of a rival: a model that the cells are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

RIVALS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"unet": MappingProxyType({"encoder": "unet", "decoder": "unet", "tune": "full"})}
)
"""Rival -> its keys of `model`: trained from random weights, all of it."""
OF_LAYERS = ("encoder_lr_scale", "layer_decay")  # rates for a pretrained encoder


def rival_study(raw: Mapping[str, Any], rival: str) -> dict[str, Any]:
    """Return a rival's study: the cell's, without what only pretrained encoders have.

    Data, loss, schedule, seeds and the search are the cell's. Keys of `model` go, but for `width`,
    with the parameters of the search, priors and named baselines that vary them; so do rates by
    layer in `base`, and normalization by the encoder's pretraining.

    Args:
        raw: Study of a cell, as a raw mapping.
        rival: Key of `RIVALS`.
    """
    base = dict(raw.get("base", {}))
    width = {key: value for key, value in base.get("model", {}).items() if key == "width"}
    base["model"] = {**width, **RIVALS[rival]}
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
        study["baselines"] = {arm: changes for arm, changes in arms if _keep(*changes)}
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
