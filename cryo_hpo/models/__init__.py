"""Encoder and decoder put together into a `Segmenter`."""

# B batch, C bands, K classes, H W pixels

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bands import Band, BandPlan, Missing
from ..errors import SpecError, UnknownName
from .band_selection import Pick, plan_bands
from .decoders import DECODERS
from .lookup import ENCODERS, Backbone, Encoder, check_size, find_encoder
from .weights.load import load_weights

__all__ = [
    "DECODERS",
    "ENCODERS",
    "Backbone",
    "Encoder",
    "Segmenter",
    "build",
    "check_size",
    "find_encoder",
    "freeze",
    "plan_bands",
]


class Segmenter(nn.Module):
    """Logits (B, K, H, W) for normalised bands (B, C, H, W), at the size of the input.

    Args:
        encoder: A `Backbone`.
        decoder: Takes the encoder's levels, returns logits of any height and width.
        plan: Which bands of the input go where in the encoder; None for all as given.
    """

    encoder: Backbone
    decoder: nn.Module
    pick: nn.Module | None

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, *, plan: BandPlan | None = None
    ) -> None:
        super().__init__()
        self.encoder = cast(Backbone, encoder)
        self.decoder = decoder
        self.frozen = False
        self.pick = None if plan is None or plan.as_given else Pick(plan)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K, H, W)."""
        seen = x_BCHW if self.pick is None else self.pick(x_BCHW)
        logits: Tensor = self.decoder(self.encoder(seen))
        size = x_BCHW.shape[-2:]
        if logits.shape[-2:] == size:
            return logits
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)

    def train(self, mode: bool = True) -> Segmenter:  # noqa: FBT001, FBT002
        """Switch to training, except for a frozen encoder: its features stay those of evaluation.

        Otherwise stochastic depth and batch statistics would disturb features that nothing learns.
        """
        super().train(mode)
        if self.frozen:
            self.get_submodule("encoder").eval()
        return self


def freeze(segmenter: Segmenter, *, in_train_mode: bool = False) -> None:
    """Stop the encoder from learning, and keep it in evaluation mode from now on.

    Args:
        segmenter: Its encoder is frozen.
        in_train_mode: Leave dropout, stochastic depth and moving statistics to the mode of the
            whole, as Cryo-Bench does: its frozen features are noisy.
    """
    segmenter.get_submodule("encoder").requires_grad_(requires_grad=False)
    segmenter.frozen = not in_train_mode
    segmenter.train(segmenter.training)


def build(  # noqa: PLR0913 (what a recipe says of a model, and nothing else)
    encoder: str,
    decoder: str,
    *,
    bands: Sequence[Band],
    missing: Missing = "zero",
    num_classes: int,
    size: int,
    channels: int = 256,
    width: int | None = None,
    drop_path: float = 0.0,
    weights: str | None = None,
    weights_root: Path,
    protocol: str = "corrected",
) -> Segmenter:
    """Build a segmenter on the current default device.

    On the meta device no weights are read; so a recipe is checked without memory or files.

    Args:
        encoder: Key of `ENCODERS`, or "timm/<name>".
        decoder: Key of `DECODERS`.
        bands: Of the dataset, in its order.
        missing: What goes where the encoder asks for a band that the dataset lacks.
        num_classes: K.
        size: Side of the crops, pixels.
        channels: Width of the decoder.
        width: Channels of the finest map, for encoders that leave it open.
        drop_path: Stochastic depth of the encoder.
        weights: None for the published ones, "scratch", "hub", or a file below `weights_root`.
        weights_root: Folder of weights.
        protocol: "corrected", or "cryo-bench" for upstream's bands, levels and biases.

    Raises:
        UnknownName: No such encoder or decoder.
        BandMismatch: The encoder needs bands that the dataset lacks.
        SpecError: The encoder does not take the size, or a knob.
        WeightsError: The weights are missing or do not fit.
    """
    card = find_encoder(encoder, protocol=protocol)
    if decoder not in DECODERS:
        raise UnknownName(decoder, DECODERS, what="decoder")
    check_size(encoder, size)
    plan = plan_bands(card, bands, missing=missing)
    backbone = card.build(plan.bands, **_knobs(card, width=width, drop_path=drop_path))
    if torch.get_default_device().type != "meta":
        load_weights(backbone, weights, published=card.weights, root=weights_root, name=encoder)
    levels = cast(Backbone, backbone)
    head = DECODERS[decoder](
        levels.channels, levels.strides, num_classes=num_classes, channels=channels
    )
    return Segmenter(backbone, head, plan=plan)


def _knobs(card: Encoder, *, width: int | None, drop_path: float) -> dict[str, float]:
    """Return the knobs that are set, or refuse one that the encoder does not have."""
    wanted = {"width": width, "drop_path": drop_path or None}
    knobs = {name: value for name, value in wanted.items() if value is not None}
    for name, value in knobs.items():
        if name not in card.knobs:
            message = (
                f"Encoder '{card.name}' has no model.{name}, got {value}. Leave it out, "
                f"or take an encoder that has it."
            )
            raise SpecError(message)
    return knobs
