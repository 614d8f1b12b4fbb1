"""Define the card that describes an encoder, and the protocol of its network."""

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
    """Protocol of an encoder's network, as decoder and optimizer use it.

    Attributes:
        channels: Channels of each level, fine to coarse.
        strides: Strides of the levels, input pixels per cell.
        num_layers: Number of layers that may have different learning rates.
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
    """Describe an encoder.

    Attributes:
        name: Key in `ENCODERS`.
        bands: Input bands in the order of pretraining; None if any bands are accepted.
        spectral: Whether bands are embedded by wavelength. A band without one is left out unless
            its sensor is in `coded`.
        coded: Sensors whose bands a spectral encoder takes at a wavelength that it fixes.
        groups: Groups of `bands`, each given whole or masked; empty if there are none.
        several_sensors: Whether radar bands have separate tokens: a sensor without any band in the
            dataset is then left out, and one with some gets all its bands.
        needs_all: Whether neither sensor can be left out.
        any_subset: Whether bands that a dataset lacks are left out instead of filled.
        gray: Bands filled with the only band of a dataset that has none of `bands`.
        multiple: Divisor of height and width, pixels.
        smallest: Least height and width, pixels.
        only_size: The only height and width, pixels; None if others are supported.
        native_size: Side of the pretraining images, pixels; None without pretraining.
        channels: Channels of each level; empty if only a build shows them.
        strides: Strides of the levels, input pixels per cell; empty if only a build shows them.
        parameters: Number of parameters at full size; None if only a build shows it.
        normalization: Normalization of the pretraining images; empty if there was none.
        weights: Published weights; None if there are none.
        source: Publication that describes the encoder.
        license: License of the code.
        weights_license: License of the published weights, or "not stated".
        knobs: Options of `build`, out of "width" and "drop_path".
        build: (bands, **knobs) -> `Backbone` with random weights; no network access, any device.
        cryo_bench: Options of `build` under the protocol "cryo-bench", whatever its revision.
        cryo_bench_bands: Value of `bands` under that protocol; None: unchanged.
        later: Further options from the second revision on.
        later_bands: Value of `bands` from the second revision on; None: as `cryo_bench_bands`.
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
    later: Mapping[str, Any] = field(default_factory=dict)
    later_bands: tuple[Band, ...] | None = None

    @property
    def takes_any(self) -> bool:
        """True if the encoder takes every band."""
        return self.bands is None and not self.spectral

    def takes(self, band: Band) -> bool:
        """Return whether an encoder without a list of bands takes this one."""
        return not self.spectral or band.center_um is not None or band.sensor in self.coded

    @property
    def default_size(self) -> int:
        """Side of a suitable crop, pixels: the native size (or 128) rounded down to `multiple`."""
        return (self.native_size or 128) // self.multiple * self.multiple

    def under(self, protocol: str) -> Encoder:
        """Return the card for a protocol: "corrected", or with the faults of "cryo-bench@1" or "@3".

        A changed card has no channels, strides and parameters: only a build shows them.
        """
        if not protocol.startswith("cryo-bench"):
            return self
        options, bands = dict(self.cryo_bench), self.cryo_bench_bands
        if protocol not in ("cryo-bench", "cryo-bench@1"):
            options, bands = {**options, **self.later}, self.later_bands or bands
        if not (options or bands):
            return self
        return replace(
            self,
            bands=bands or self.bands,
            build=partial(self.build, **options),
            channels=(),
            strides=(),
            parameters=None,
        )
