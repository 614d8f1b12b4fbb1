"""Define the bands of sensors, their wavelengths, and how bands feed the inputs of encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from .errors import UnknownName

Missing = Literal["zero", "mean", "nearest", "refuse"]


@dataclass(frozen=True, slots=True)
class Band:
    """Describe one layer of an image.

    Attributes:
        name: Key in `BANDS`.
        center_um: Central wavelength in micrometers; None if unknown or meaningless.
        sensor: "sentinel-2", "sar" (radar backscatter), "optical" (another camera),
            "thermal", "terrain", or "ancillary" (a layer that no encoder has learned from).
    """

    name: str
    center_um: float | None
    sensor: str


# Source: ESA, Sentinel-2 MSI spectral characteristics, central wavelengths of Sentinel-2A.
_SENTINEL_2 = {
    "B1": 0.4427,
    "B2": 0.4924,
    "B3": 0.5598,
    "B4": 0.6646,
    "B5": 0.7041,
    "B6": 0.7405,
    "B7": 0.7828,
    "B8": 0.8328,
    "B8A": 0.8647,
    "B9": 0.9451,
    "B10": 1.3735,
    "B11": 1.6137,
    "B12": 2.2024,
}
# Other cameras differ by tens of nanometers; these are typical centers of the colors.
_OPTICAL = {"BLUE": 0.48, "GREEN": 0.56, "RED": 0.66, "NIR": 0.85, "PAN": 0.59, "GREY": None}

BANDS: dict[str, Band] = {
    **{name: Band(name, center, "sentinel-2") for name, center in _SENTINEL_2.items()},
    # SAR is amplitude whose polarization is mixed or unknown.
    **{name: Band(name, None, "sar") for name in ("VV", "VH", "HH", "HV", "SAR")},
    **{name: Band(name, center, "optical") for name, center in _OPTICAL.items()},
    "TIR": Band("TIR", 10.9, "thermal"),  # Source: Landsat 8 TIRS band 10, 10.6 to 11.2 um
    "DEM": Band("DEM", None, "terrain"),
    "SLOPE": Band("SLOPE", None, "terrain"),
    # Coherence of radar pairs, a water index, and layers that are not further documented.
    **{
        name: Band(name, None, "ancillary")
        for name in ("COH", "NDWI", "AUX1", "AUX2", "AUX3", "AUX4")
    },
}
"""Every band a dataset or an encoder may name."""


def find_band(name: str) -> Band:
    """Return a band of the table.

    Raises:
        UnknownName: The table has no such band.
    """
    if name not in BANDS:
        raise UnknownName(name, known=BANDS, what="band")
    return BANDS[name]


class Slot(NamedTuple):
    """Describe one input of an encoder."""

    band: Band
    """The band that the encoder reads here."""
    layer: int | None
    """The layer of the dataset's images that is used; None: the dataset has none for this band."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandPlan:
    """Assign the layers of a dataset's images to the inputs of an encoder.

    Attributes:
        have: The dataset's bands, in the order of its layers.
        slots: The encoder's inputs, in its order.
        missing: How a slot without a layer is filled. Images are normalized before, so "zero" is
            the dataset's mean; "mean" is the mean, pixel by pixel, of the layers in use; "nearest"
            and "refuse" mean that there is no such slot.
        masked: Bands of the encoder that the plan omits: they get no input.
    """

    have: tuple[Band, ...]
    slots: tuple[Slot, ...]
    missing: Missing = "zero"
    masked: tuple[Band, ...] = ()

    @property
    def bands(self) -> tuple[Band, ...]:
        """The bands that the encoder's inputs are treated as."""
        return tuple(slot.band for slot in self.slots)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers in use, each once."""
        return tuple(sorted({slot.layer for slot in self.slots if slot.layer is not None}))

    @property
    def gaps(self) -> tuple[int, ...]:
        """The slots without a layer."""
        return tuple(i for i, slot in enumerate(self.slots) if slot.layer is None)

    @property
    def unused(self) -> tuple[Band, ...]:
        """The dataset's bands that the encoder does not use."""
        return tuple(band for i, band in enumerate(self.have) if i not in self.layers)

    @property
    def as_given(self) -> bool:
        """Whether the encoder takes the images unchanged."""
        return [slot.layer for slot in self.slots] == list(range(len(self.have)))

    def __str__(self) -> str:
        """Format the plan as `B1=zero B2 B3 B4=RED`: each slot, with its fill if not its own band."""
        return " ".join(
            slot.band.name if fill == slot.band.name else f"{slot.band.name}={fill}"
            for slot in self.slots
            for fill in [self.fill(slot)]
        )

    def fill(self, slot: Slot) -> str:
        """Return the name of a slot's fill."""
        return self.missing if slot.layer is None else self.have[slot.layer].name
