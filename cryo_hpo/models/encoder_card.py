"""What an encoder is: the card that describes one, and the protocol it serves."""

# B batch, C channels, H W pixels

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn

from ..bands import Band
from .weights.published import Weights


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
        bands: In the order it takes them, that of its pretraining; None if it takes any.
        spectral: It reads bands by their wavelength, and takes none without,
        coded: but for those of these sensors, for which it has a code of its own.
        groups: If not empty, `bands` come in these groups: each is given whole or masked.
        several_sensors: Whether radar bands have tokens of their own beside the others: a sensor of
            which a dataset has no band is then left out, another gets all its bands.
        needs_all: Whether neither sensor can be left out.
        any_subset: Whether bands that a dataset lacks are left out instead of filled.
        gray: The bands that stand in for the only band of a dataset that has none of `bands`.
        multiple: Height and width must divide by this, pixels.
        smallest: Least height and width, pixels.
        only_size: The only height and width, pixels; None if it takes others.
        native_size: Of its pretraining images, pixels; None if there was no pretraining.
        channels: Of each level; empty where only a build tells.
        strides: Of each level, input pixels per cell; empty where only a build tells.
        parameters: Numbers in it at full size; None where only a build tells.
        normalization: Of its images in pretraining; empty if there was none.
        weights: Published ones; None if there are none.
        source: Where it is described.
        license: Of the code.
        weights_license: Of the published weights; "not stated" where its authors do not say.
        knobs: Which of "width" and "drop_path" its `build` takes.
        build: (bands, **knobs) to a `Backbone` with random weights; no network, any device.
        cryo_bench: What `build` is given under the protocol "cryo-bench".
        cryo_bench_bands: `bands` under that protocol, where they differ.
    """

    name: str
    bands: tuple[Band, ...] | None
    spectral: bool = False
    coded: frozenset[str] = frozenset()
    groups: tuple[tuple[Band, ...], ...] = ()
    several_sensors: bool = False
    needs_all: bool = False
    any_subset: bool = False
    gray: tuple[Band, ...] = ()
    multiple: int
    smallest: int
    only_size: int | None = None
    native_size: int | None
    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    parameters: int | None = None
    normalization: str = ""
    weights: Weights | None
    source: str
    license: str
    weights_license: str = ""
    knobs: frozenset[str]
    build: Callable[..., nn.Module]
    cryo_bench: Mapping[str, Any] = field(default_factory=dict)
    cryo_bench_bands: tuple[Band, ...] | None = None

    @property
    def takes_any(self) -> bool:
        """Whether there is no band that it cannot take."""
        return self.bands is None and not self.spectral

    def takes(self, band: Band) -> bool:
        """Return whether an encoder without a list of bands takes this one."""
        return not self.spectral or band.center_um is not None or band.sensor in self.coded

    @property
    def default_size(self) -> int:
        """Side of a crop that suits the encoder, pixels: near its native one, if it has any."""
        return (self.native_size or 128) // self.multiple * self.multiple

    def under(self, protocol: str) -> Encoder:
        """Return the card as a protocol has it: "corrected", or "cryo-bench" with its faults.

        Levels and strides of the card are then those of a build, which may differ.
        """
        if protocol != "cryo-bench" or not (self.cryo_bench or self.cryo_bench_bands):
            return self
        return replace(
            self,
            bands=self.cryo_bench_bands or self.bands,
            build=partial(self.build, **self.cryo_bench),
            channels=(),
            strides=(),
            parameters=None,
        )
