"""Define the bands of sensors, their wavelengths, and how bands feed the inputs of encoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
        label: The sensor's own name of the band, where it differs: B5 of Landsat 8 is NIR.
    """

    name: str
    center_um: float | None
    sensor: str
    label: str = field(default="", compare=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which a file may call the band: the sensor's own first."""
        return (self.label, self.name) if self.label else (self.name,)


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
_OPTICAL = {
    "COASTAL": 0.443,
    "BLUE": 0.48,
    "GREEN": 0.56,
    "RED": 0.66,
    "NIR": 0.85,
    "SWIR1": 1.61,
    "SWIR2": 2.20,
    "PAN": 0.59,
    "GREY": None,
}

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
        raise UnknownName(name, valid=BANDS, what="band")
    return BANDS[name]


class SensorBand(NamedTuple):
    """Describe a band as its sensor numbers it."""

    name: str
    """Name in `BANDS`, or one of its own."""
    center_um: float | None
    pixel_m: float
    """Side of a pixel as distributed, meters."""


_TM = {"B1": "BLUE", "B2": "GREEN", "B3": "RED", "B4": "NIR", "B5": "SWIR1", "B7": "SWIR2"}


def _landsat(names: Mapping[str, str], centers: Mapping[str, float]) -> dict[str, SensorBand]:
    return {
        own: SensorBand(names[own], center, 15.0 if names[own] == "PAN" else 30.0)
        for own, center in centers.items()
    }


# Source of the Landsat centers: USGS, "What are the band designations for the Landsat
# satellites?", middles of the ranges. Thermal bands are distributed at 30 m.
_LANDSAT_TM = _landsat(
    {**_TM, "B6": "TIR"},
    {"B1": 0.485, "B2": 0.56, "B3": 0.66, "B4": 0.83, "B5": 1.65, "B6": 11.45, "B7": 2.215},
)
_LANDSAT_ETM = _landsat(
    {**_TM, "B6": "TIR", "B8": "PAN"},
    {
        "B1": 0.485,
        "B2": 0.56,
        "B3": 0.66,
        "B4": 0.835,
        "B5": 1.65,
        "B6": 11.45,
        "B7": 2.22,
        "B8": 0.71,
    },
)
_LANDSAT_OLI = _landsat(
    {
        "B1": "COASTAL",
        "B2": "BLUE",
        "B3": "GREEN",
        "B4": "RED",
        "B5": "NIR",
        "B6": "SWIR1",
        "B7": "SWIR2",
        "B8": "PAN",
        "B9": "CIRRUS",
        "B10": "TIR",
        "B11": "TIR2",
    },
    {
        "B1": 0.44,
        "B2": 0.48,
        "B3": 0.56,
        "B4": 0.655,
        "B5": 0.865,
        "B6": 1.61,
        "B7": 2.20,
        "B8": 0.59,
        "B9": 1.37,
        "B10": 10.895,
        "B11": 12.005,
    },
)
# Source: ESA, Sentinel-2 MSI spatial resolutions.
_PIXEL_M = {10.0: "B2 B3 B4 B8", 20.0: "B5 B6 B7 B8A B11 B12", 60.0: "B1 B9 B10"}
SENSORS: Mapping[str, Mapping[str, SensorBand]] = {
    "sentinel-1": {name: SensorBand(name, None, 10.0) for name in ("VV", "VH", "HH", "HV")},
    "sentinel-2": {
        name: SensorBand(name, center, side)
        for name, center in _SENTINEL_2.items()
        for side, names in _PIXEL_M.items()
        if name in names.split()
    },
    "landsat-4": _LANDSAT_TM,
    "landsat-5": _LANDSAT_TM,
    "landsat-7": _LANDSAT_ETM,
    "landsat-8": _LANDSAT_OLI,
    "landsat-9": _LANDSAT_OLI,
    # Source: ASTER Users Handbook, version 2, middles of the ranges.
    "aster": {
        "B1": SensorBand("GREEN", 0.56, 15.0),
        "B2": SensorBand("RED", 0.66, 15.0),
        "B3N": SensorBand("NIR", 0.81, 15.0),
        "B4": SensorBand("SWIR1", 1.65, 30.0),
        "B6": SensorBand("SWIR2", 2.205, 30.0),
        "B13": SensorBand("TIR", 10.6, 90.0),
    },
    # Source: NASA, MODIS specifications, middles of the ranges.
    "modis": {
        "B1": SensorBand("RED", 0.645, 250.0),
        "B2": SensorBand("NIR", 0.8585, 250.0),
        "B3": SensorBand("BLUE", 0.469, 500.0),
        "B4": SensorBand("GREEN", 0.555, 500.0),
        "B6": SensorBand("SWIR1", 1.64, 500.0),
        "B7": SensorBand("SWIR2", 2.13, 500.0),
        "B31": SensorBand("TIR", 11.03, 1000.0),
    },
    # Source: Planet, "PlanetScope: Understanding Planet instruments", middles of the ranges.
    "planetscope-4": {
        "B1": SensorBand("BLUE", 0.485, 3.0),
        "B2": SensorBand("GREEN", 0.545, 3.0),
        "B3": SensorBand("RED", 0.63, 3.0),
        "B4": SensorBand("NIR", 0.82, 3.0),
    },
    "planetscope-8": {
        "B1": SensorBand("COASTAL", 0.4415, 3.0),
        "B2": SensorBand("BLUE", 0.49, 3.0),
        "B3": SensorBand("GREEN1", 0.531, 3.0),
        "B4": SensorBand("GREEN", 0.565, 3.0),
        "B5": SensorBand("YELLOW", 0.61, 3.0),
        "B6": SensorBand("RED", 0.665, 3.0),
        "B7": SensorBand("REDEDGE", 0.705, 3.0),
        "B8": SensorBand("NIR", 0.865, 3.0),
    },
}
"""The bands of each sensor by the numbers that its files use."""
# Ranges in which a band of an unknown camera is one of the colors, micrometers: those of Landsat,
# from TM's and OLI's edges.
COLOR_RANGES_UM = {
    "COASTAL": (0.42, 0.45),
    "BLUE": (0.45, 0.52),
    "GREEN": (0.52, 0.60),
    "RED": (0.62, 0.69),
    "NIR": (0.76, 0.91),
    "SWIR1": (1.55, 1.75),
    "SWIR2": (2.07, 2.36),
    "TIR": (10.3, 12.6),
}


def bands_of_sensor(
    names: tuple[str, ...], sensor: str | Mapping[str, float] | None
) -> tuple[Band, ...]:
    """Return the bands that a sensor's own names mean.

    Args:
        names: Names as the files of the sensor use them, or names of `BANDS`.
        sensor: Key of `SENSORS`; or the center of each band, micrometers, of a sensor that is not
            there; None: names are those of `BANDS` (Sentinel-2 numbers, colors, polarizations).

    Raises:
        UnknownName: A sensor or a band is unknown.
    """
    if sensor is None:
        return tuple(map(find_band, names))
    if isinstance(sensor, str):
        if sensor not in SENSORS:
            raise UnknownName(sensor, valid=SENSORS, what="sensor")
        return tuple(_numbered(name, SENSORS[sensor]) for name in names)
    return _by_wavelength(names, sensor)


def _numbered(name: str, table: Mapping[str, SensorBand]) -> Band:
    """Return a band by its sensor's number, or by the name of a band that the sensor has no number for."""
    own = table.get(name)
    if own is None:
        if name in BANDS and name not in _SENTINEL_2:
            return next(
                (_of(key, other) for key, other in table.items() if other.name == name), BANDS[name]
            )
        raise UnknownName(name, valid=table, what="band of this sensor")
    return _of(name, own)


def _of(number: str, own: SensorBand) -> Band:
    kind = BANDS[own.name].sensor if own.name in BANDS else "optical"
    if own.name.startswith("TIR"):
        kind = "thermal"
    return Band(own.name, own.center_um, kind, label="" if own.name == number else number)


def _by_wavelength(names: tuple[str, ...], centers: Mapping[str, float]) -> tuple[Band, ...]:
    """Name bands of an unknown camera by their wavelengths: of two in one range, the more central."""
    best: dict[str, str] = {}
    for name in names:
        for color, (low, high) in COLOR_RANGES_UM.items():
            center = centers.get(name, 0.0)
            rival = centers[best[color]] if color in best else float("inf")
            if low <= center <= high and abs(center - (low + high) / 2) < abs(
                rival - (low + high) / 2
            ):
                best[color] = name
    colors = {name: color for color, name in best.items()}
    bands = []
    for name in names:
        if name not in centers:
            bands.append(find_band(name))
            continue
        color = colors.get(name, name)
        kind = "thermal" if color == "TIR" else "optical"
        bands.append(Band(color, centers[name], kind, label="" if color == name else name))
    return tuple(bands)


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
