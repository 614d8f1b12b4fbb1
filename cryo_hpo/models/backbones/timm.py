"""Wrap any timm model that returns intermediate feature maps as a backbone."""

# B batch, C channels, H W pixels, N tokens

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from inspect import signature
from typing import Any

import timm
import timm.models
import torch
from torch import Tensor, nn

from ...errors import SpecError
from ..weights.hub import endpoint
from ..weights.hub_log import one_line_of_retries
from ..weights.published import State, Weights

SHARES = (4, 6, 8, 12)  # twelfths of a plain transformer's blocks after which maps are taken


@dataclass(frozen=True, slots=True)
class TimmFacts:
    """Hold the facts of a timm model that are known without its weights.

    Attributes:
        native_size: Side of the pretraining images, pixels.
        multiple: Coarsest stride.
        any_size: Whether other sizes than the native one are supported.
        drop_path: Whether the model has stochastic depth.
        dynamic: Whether other sizes must be enabled at construction.
        unused: Keys of the checkpoint that a backbone does not use: the classifier's.
        license: License of the published weights.
        repository: Repository on the Hugging Face hub; empty if no weights are published.
    """

    native_size: int
    multiple: int
    any_size: bool
    drop_path: bool
    dynamic: bool
    unused: tuple[str, ...]
    license: str
    repository: str


@cache
def timm_facts(name: str) -> TimmFacts:
    """Read the facts of a timm model, built on the meta device.

    Args:
        name: Name of an existing timm model, with or without a tag.

    Raises:
        SpecError: The model does not return intermediate feature maps.
    """
    with torch.device("meta"):
        model: Any = timm.create_model(name)
    published = model.pretrained_cfg
    dynamic = _takes(model, "dynamic_img_size")
    before = set(model.state_dict())
    if not hasattr(model, "forward_intermediates") or not hasattr(model, "feature_info"):
        message = (
            f"A timm encoder must be able to return its inner maps, '{name}' is not. "
            "Take another, such as 'timm/resnet50' or 'timm/convnext_tiny'."
        )
        raise SpecError(message)
    _prune(model)
    return TimmFacts(
        native_size=published["input_size"][-1],
        multiple=max(info["reduction"] for info in model.feature_info),
        any_size=dynamic or not published["fixed_input_size"],
        drop_path=_takes(model, "drop_path_rate"),
        dynamic=dynamic,
        unused=tuple(sorted(before - set(model.state_dict()))),
        license=published.get("license") or "",
        repository=published.get("hf_hub_id") or "",
    )


class TimmBackbone(nn.Module):
    """Compute intermediate feature maps of a timm model, for any number of bands.

    Pyramids return every stage as it is. A plain transformer returns the maps after a third,
    a half, two thirds and all of its blocks, the last one through its final norm.

    Args:
        name: Name of a timm model, with or without a tag.
        num_bands: Bands of the input.
        drop_path: Stochastic depth of the last block, for models that have it.
    """

    def __init__(self, name: str, num_bands: int, *, drop_path: float = 0.0) -> None:
        super().__init__()
        facts = timm_facts(name)
        self.name = name
        options: dict[str, Any] = {"dynamic_img_size": True} if facts.dynamic else {}
        if facts.drop_path:
            options["drop_path_rate"] = drop_path
        model: Any = timm.create_model(name, in_chans=num_bands, **options)
        self.model: Any = model
        _call_layers(model)
        self.flat = _prune(model)
        self.levels = _levels(model)
        info = [model.feature_info[i] for i in self.levels]
        self.channels: tuple[int, ...] = tuple(level["num_chs"] for level in info)
        self.strides: tuple[int, ...] = tuple(level["reduction"] for level in info)
        by_layer = timm.models.group_parameters(model, _matcher(model))
        self._layers: dict[str, int] = {
            f"model.{name}": layer for layer, names in by_layer.items() for name in names
        }
        self.num_layers = max(self._layers.values()) + 1

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the levels, fine to coarse."""
        try:
            return self._read(x_BCHW)
        except ValueError as error:
            if not self.training or len(x_BCHW) > 1:
                raise
            message = (
                f"Encoder 'timm/{self.name}' normalizes over the batch, and cannot train on one "
                "tile at a time. Set batch_size so that no batch is left with a single tile."
            )
            raise SpecError(message) from error

    def _read(self, x_BCHW: Tensor) -> list[Tensor]:
        read: Callable[..., Any] = partial(
            self.model.forward_intermediates, x_BCHW, indices=self.levels, output_fmt="NCHW"
        )
        if not self.flat:
            return list(read(intermediates_only=True))
        tokens_BNC, levels = read()
        last = tokens_BNC[:, self.model.num_prefix_tokens :].transpose(1, 2)
        return [*levels[:-1], last.reshape(levels[-1].shape)]

    def layer_of(self, parameter_name: str) -> int:
        """Return timm's layer of a parameter, 0 for the stem."""
        return self._layers[re.sub(r"\.lora_(?:down|up)$", ".weight", parameter_name)]


def timm_weights(name: str) -> Weights | None:
    """Return the address of a timm model's published weights; None if there are none."""
    facts = timm_facts(name)
    if not facts.repository:
        return None
    return Weights(
        file=f"timm/{name}.safetensors",
        url=f"https://huggingface.co/{facts.repository}",
        adapt=_adapt,
        may_have=tuple(f"model.{key}" for key in facts.unused),
        download=partial(_download, name),
    )


def _download(name: str, _: nn.Module) -> State:
    with one_line_of_retries(endpoint()):
        state: State = timm.create_model(name, pretrained=True).state_dict()
    return state


def _adapt(backbone: nn.Module, state: State) -> State:
    """Fit the first convolution to the number of bands, and prefix every key."""
    model: Any = backbone.model
    have = model.state_dict()
    first = model.pretrained_cfg["first_conv"] or ()
    adapted = dict(state)
    for layer in (first,) if isinstance(first, str) else first:
        key = f"{layer}.weight"
        if key in state and key in have and _other_bands(state[key], have[key]):
            adapted[key] = timm.models.adapt_input_conv(have[key].shape[1], state[key])
    return {f"model.{key}": x for key, x in adapted.items()}


def _other_bands(weight: Tensor, wanted: Tensor) -> bool:
    return weight.ndim == 4 and weight.shape[1] == 3 and wanted.shape[1] != 3


def _takes(model: nn.Module, option: str) -> bool:
    """Return whether a constructor of the model or its base classes has an option."""
    constructors = [vars(cls)["__init__"] for cls in type(model).__mro__ if "__init__" in vars(cls)]
    return any(option in signature(constructor).parameters for constructor in constructors)


def _matcher(model: Any) -> Any:
    """Return timm's patterns that group parameters by layer, or a guess for models without."""
    if hasattr(model, "group_matcher"):
        return model.group_matcher(coarse=False)
    return {"stem": r"^(?:stem|patch_embed|pos_embed|cls_token)", "blocks": r"^\w+\.(\d+)"}


def _call_layers(model: Any) -> None:
    """Let BEiT's and EVA's attention call its layer, else it reads the weights past an adapter."""
    for module in model.modules():
        if hasattr(module, "qkv_bias_separate"):
            module.qkv_bias_separate = True


def _prune(model: Any) -> bool:
    """Drop parts that no level needs, and return whether the model is a plain transformer.

    The final norm of a plain transformer stays, since the last level passes through.
    """
    flat = len({info["reduction"] for info in model.feature_info}) == 1
    flat = flat and hasattr(model, "num_prefix_tokens")
    model.prune_intermediate_layers(_levels(model), prune_norm=not flat, prune_head=True)
    return flat


def _levels(model: Any) -> list[int]:
    depth = len(model.feature_info)
    if len({info["reduction"] for info in model.feature_info}) > 1:
        return list(range(depth))
    return sorted({max(depth * share // 12 - 1, 0) for share in SHARES})
