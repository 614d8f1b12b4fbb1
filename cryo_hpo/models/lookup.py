"""Find encoders by name, in the table or in timm ("timm/<name>"), and check their crop sizes."""

# B batch, C channels, H W pixels

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache, partial
from itertools import pairwise
from typing import cast

import timm
import torch
from torch import nn

from ..bands import Band, find_band
from ..errors import SpecError, UnknownName
from .backbones.timm import TimmBackbone, timm_facts, timm_weights
from .encoder_card import Backbone, Encoder
from .zoo.table import ENCODERS

__all__ = ["ENCODERS", "Backbone", "Encoder", "check_size", "find_encoder"]

TIMM = "timm/"


def check_size(encoder: str, size: int) -> None:
    """Check that an encoder supports square crops of a size.

    Raises:
        UnknownName: There is no such encoder.
        SpecError: The size is not supported; the message names the nearest ones that are.
    """
    card = find_encoder(encoder)
    if card.only_size is not None and size != card.only_size:
        message = (
            f"data.crop must be {card.only_size} for encoder '{encoder}', got {size}. "
            "Its positions are fixed; a model without such positions takes other sizes."
        )
        raise SpecError(message)
    if size % card.multiple or size < card.smallest:
        below = size // card.multiple * card.multiple
        nearest = sorted({max(near, card.smallest) for near in (below, below + card.multiple)})
        least = f", at least {card.smallest}," if card.smallest > card.multiple else ""
        message = (
            f"data.crop must be a multiple of {card.multiple}{least} for encoder '{encoder}', "
            f"got {size}. Nearest: {', '.join(map(str, nearest))}."
        )
        raise SpecError(message)
    if not _keeps_promise(encoder, size):
        own = card.default_size
        remedy = "Take another encoder." if size == own else f"Its own size is {own}."
        message = (
            f"Encoder '{encoder}' must return maps at strides that divide each other, as it "
            f"announces them; on crops of {size} pixels it does not. {remedy}"
        )
        raise SpecError(message)


@cache
def _keeps_promise(encoder: str, size: int) -> bool:
    """Return whether an encoder, run on the meta device, gives maps at the announced strides."""
    card = find_encoder(encoder)
    bands = next(iter(card.groups), card.bands) or card.gray or (find_band("GREY"),)
    with torch.device("meta"):
        module = card.build(bands).eval()
        image = torch.empty(1, len(bands), size, size)
    try:
        maps = module(image)
    except (RuntimeError, ValueError, AssertionError):  # each family has its own error for a size
        return False
    backbone = cast(Backbone, module)
    promised = [
        (channels, size // stride, size // stride)
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]
    divide = all(coarse % fine == 0 for fine, coarse in pairwise(backbone.strides))
    return divide and [tuple(level.shape[1:]) for level in maps] == promised


def find_encoder(name: str, *, protocol: str = "corrected") -> Encoder:
    """Return the card of an encoder, from the table or made from timm's metadata.

    Args:
        name: Key of `ENCODERS`, or "timm/<name>".
        protocol: Under "cryo-bench@1" or "@3" the card has upstream's bands, levels and faults.

    Raises:
        UnknownName: Neither has the encoder; the message names similar ones.
    """
    if name in ENCODERS:
        return ENCODERS[name].under(protocol)
    if name.startswith(TIMM) and _in_timm(name.removeprefix(TIMM)):
        return _timm_card(name.removeprefix(TIMM))
    near = get_close_matches(name.removeprefix(TIMM), timm.list_models(), n=3)
    raise UnknownName(name, [*ENCODERS, *(TIMM + model for model in near)], what="encoder")


def _in_timm(name: str) -> bool:
    model, _, tag = name.partition(".")
    return bool(timm.is_model(model)) and (not tag or name in timm.list_pretrained(f"{model}.*"))


def _timm_card(name: str) -> Encoder:
    facts = timm_facts(name)
    return Encoder(
        name=TIMM + name,
        bands=None,
        multiple=facts.multiple if facts.any_size else 1,
        smallest=2 * facts.multiple,
        only_size=None if facts.any_size else facts.native_size,
        native_size=facts.native_size,
        weights=timm_weights(name),
        source=f"https://huggingface.co/{facts.repository}" if facts.repository else "timm",
        license=facts.license,
        knobs=frozenset({"drop_path"} if facts.drop_path else ()),
        build=partial(_build_timm, name),
    )


def _build_timm(name: str, bands: Sequence[Band], *, drop_path: float = 0.0) -> nn.Module:
    return TimmBackbone(name, len(bands), drop_path=drop_path)
