"""Build the segmentation model of a recipe: encoder, decoder, bands and weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from ..bands import Band, Missing
from ..errors import SpecError, UnknownName
from .band_selection import plan_bands
from .decoders import DECODERS
from .lookup import Backbone, Encoder, check_size, find_encoder
from .rescale import ImageScale, Normalization, PretrainingScale
from .segmenter import Segmenter
from .weights.load import load_weights


def build(  # noqa: PLR0913 (the model part of a recipe, and nothing else)
    encoder: str,
    decoder: str,
    *,
    bands: Sequence[Band],
    missing: Missing = "zero",
    normalize: Normalization = "dataset",
    num_classes: int,
    size: int,
    channels: int = 256,
    width: int | None = None,
    drop_path: float = 0.0,
    weights: str | None = None,
    weights_root: Path,
    protocol: str = "corrected",
) -> Segmenter:
    """Build a segmentation model on the current default device.

    On the meta device no weights are read, so that a recipe can be checked without memory or files.

    Args:
        encoder: Key of `ENCODERS`, or "timm/<name>".
        decoder: Key of `DECODERS`.
        bands: Bands of the dataset, in its order.
        normalize: Further normalization of the images; they are normalized by their dataset.
        missing: Value of the encoder's bands that the dataset lacks.
        num_classes: Number of classes, K.
        size: Side of the crops, pixels.
        channels: Width of the decoder.
        width: Channels of the encoder's finest level, for encoders with a free width.
        drop_path: Stochastic depth of the encoder, a share.
        weights: None for the published weights, "scratch", "hub", or a file below `weights_root`.
        weights_root: Folder of weights.
        protocol: "corrected", or "cryo-bench@1", "cryo-bench@3" for upstream's bands, levels and biases.

    Raises:
        UnknownName: The encoder or decoder does not exist.
        BandMismatch: The encoder needs bands that the dataset lacks.
        SpecError: The encoder does not support the size, or an option.
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
    if hasattr(backbone, "fit_size"):
        cast(Any, backbone).fit_size(size)
    levels = cast(Backbone, backbone)
    head = DECODERS[decoder](
        levels.channels, levels.strides, num_classes=num_classes, channels=channels
    )
    rescale: dict[str, Callable[[], nn.Module]] = {
        "image": ImageScale,
        "pretraining": partial(PretrainingScale, len(plan.slots)),
    }
    made = rescale[normalize]() if normalize in rescale else None
    return Segmenter(backbone, head, plan=plan, rescale=made)


def _knobs(card: Encoder, *, width: int | None, drop_path: float) -> dict[str, float]:
    """Return the options that are set.

    Raises:
        SpecError: The encoder lacks one of the options.
    """
    requested = {"width": width, "drop_path": drop_path or None}
    knobs = {name: value for name, value in requested.items() if value is not None}
    for name, value in knobs.items():
        if name not in card.knobs:
            message = (
                f"Encoder '{card.name}' has no model.{name}, got {value}. Leave it out, "
                f"or use an encoder that has it."
            )
            raise SpecError(message)
    return knobs
