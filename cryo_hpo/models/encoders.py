"""What an encoder is: the card that describes one, and the protocol it serves.

The table is a dict of cards; any other name is looked up in timm under "timm/<name>".
"""

# B batch, C channels, H W pixels

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, partial
from itertools import chain, pairwise
from typing import Protocol, cast

import timm
import torch
from torch import Tensor, nn

from ..bands import Band, find_band
from ..errors import SpecError, UnknownName
from .galileo import GROUPS, Galileo, galileo_weights
from .timm_backbone import TimmBackbone, timm_facts, timm_weights
from .unet import UNet
from .weights import Weights

TIMM = "timm/"


class Backbone(Protocol):
    """What a decoder and the optimizer need of an encoder.

    Attributes:
        channels: Of each level, fine to coarse.
        strides: Of each level; input pixels per cell.
        num_layers: Layers that may learn at different rates.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    num_layers: int

    def __call__(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the levels, fine to coarse."""
        ...

    def layer_of(self, parameter_name: str) -> int:
        """Return the layer of a parameter, 0 the stem and num_layers - 1 the last."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """The card of an encoder.

    Attributes:
        name: Key in `ENCODERS`.
        bands: In the order it takes them; None if it takes any.
        spectral: It reads bands by their wavelength, and takes none without,
        coded: but for those of these sensors, for which it has a code of its own.
        groups: If not empty, `bands` come in these groups: each is given whole or masked.
        grey: The bands that stand in for the only band of a dataset that has none of `bands`.
        multiple: Height and width must divide by this, pixels.
        smallest: Least height and width, pixels.
        only_size: The only height and width, pixels; None if it takes others.
        native_size: Of its pretraining images, pixels; None if there was no pretraining.
        weights: Published ones; None if there are none.
        source: Where it is described.
        licence: Of code and weights.
        knobs: Which of "width" and "drop_path" its `build` takes.
        build: (bands, **knobs) to a `Backbone` with random weights; no network, any device.
    """

    name: str
    bands: tuple[Band, ...] | None
    spectral: bool = False
    coded: frozenset[str] = frozenset()
    groups: tuple[tuple[Band, ...], ...] = ()
    grey: tuple[Band, ...] = ()
    multiple: int
    smallest: int
    only_size: int | None = None
    native_size: int | None
    weights: Weights | None
    source: str
    licence: str
    knobs: frozenset[str]
    build: Callable[..., nn.Module]

    @property
    def takes_any(self) -> bool:
        """Whether there is no band that it cannot take."""
        return self.bands is None and not self.spectral

    def takes(self, band: Band) -> bool:
        """Return whether an encoder without a list of bands takes this one."""
        return not self.spectral or band.centre_um is not None or band.sensor in self.coded

    @property
    def default_size(self) -> int:
        """Side of a crop that suits the encoder, pixels: near its native one, if it has any."""
        return (self.native_size or 128) // self.multiple * self.multiple


def check_size(encoder: str, size: int) -> None:
    """Make sure that an encoder takes square crops of this side.

    Raises:
        UnknownName: There is no such encoder.
        SpecError: It does not; the message names the nearest sizes it takes.
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
    """Run an encoder on the meta device and compare its maps with what it announces."""
    card = find_encoder(encoder)
    bands = next(iter(card.groups), card.bands) or (find_band("GREY"),)
    with torch.device("meta"):
        module = card.build(bands).eval()
        image = torch.empty(1, len(bands), size, size)
    try:
        maps = module(image)
    except (RuntimeError, ValueError, AssertionError):  # each family refuses sizes its own way
        return False
    backbone = cast(Backbone, module)
    promised = [
        (channels, size // stride, size // stride)
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]
    divide = all(coarse % fine == 0 for fine, coarse in pairwise(backbone.strides))
    return divide and [tuple(level.shape[1:]) for level in maps] == promised


def find_encoder(name: str) -> Encoder:
    """Return the card of an encoder, from the table or made of what timm knows.

    Raises:
        UnknownName: Neither has it; the message names what is near.
    """
    if name in ENCODERS:
        return ENCODERS[name]
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
        licence=facts.licence,
        knobs=frozenset({"drop_path"} if facts.drop_path else ()),
        build=partial(_build_timm, name),
    )


def _build_timm(name: str, bands: Sequence[Band], *, drop_path: float = 0.0) -> nn.Module:
    return TimmBackbone(name, len(bands), drop_path=drop_path)


def _build_unet(bands: Sequence[Band], *, width: int = 64) -> nn.Module:
    return UNet(len(bands), width=width)


def _build_galileo(bands: Sequence[Band], *, drop_path: float = 0.0) -> nn.Module:
    names = {band.name for band in bands}
    given = [group for group, members in GROUPS.items() if names.issuperset(members)]
    return Galileo(given, drop_path=drop_path)


# NDVI is made of two bands before they are normalised, and datasets come normalised.
_GALILEO_GROUPS = tuple(
    tuple(map(find_band, names)) for group, names in GROUPS.items() if group != "NDVI"
)

ENCODERS: dict[str, Encoder] = {
    "unet": Encoder(
        name="unet",
        bands=None,
        multiple=16,
        smallest=16,
        native_size=None,
        weights=None,
        source="doi:10.1007/978-3-319-24574-4_28",
        licence="Apache-2.0",
        knobs=frozenset({"width"}),
        build=_build_unet,
    ),
    "galileo-nano": Encoder(
        name="galileo-nano",
        bands=tuple(chain.from_iterable(_GALILEO_GROUPS)),
        groups=_GALILEO_GROUPS,
        grey=tuple(map(find_band, GROUPS["S2_RGB"])),
        multiple=8,
        smallest=16,
        native_size=96,
        weights=galileo_weights(),
        source="arXiv:2502.09356",
        licence="MIT",
        knobs=frozenset({"drop_path"}),
        build=_build_galileo,
    ),
}
