"""What a sensor's bands are called and where in the spectrum they lie; picking bands by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import BandMismatch, UnknownName


@dataclass(frozen=True, slots=True)
class Band:
    """One layer of an image.

    Attributes:
        name: Key in `BANDS`.
        centre_um: Central wavelength in micrometres; None where it is unknown or has no meaning.
        sensor: "sentinel-2", "sar" (radar backscatter), "optical" (another camera),
            "thermal", "terrain", or "ancillary" (a layer that no encoder has learned from).
    """

    name: str
    centre_um: float | None
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
# Other cameras differ by tens of nanometres; these are the usual middles of the colours.
_OPTICAL = {"BLUE": 0.48, "GREEN": 0.56, "RED": 0.66, "NIR": 0.85, "PAN": 0.59, "GREY": None}

BANDS: dict[str, Band] = {
    **{name: Band(name, centre, "sentinel-2") for name, centre in _SENTINEL_2.items()},
    # SAR is amplitude whose polarisation is mixed or not told.
    **{name: Band(name, None, "sar") for name in ("VV", "VH", "HH", "HV", "SAR")},
    **{name: Band(name, centre, "optical") for name, centre in _OPTICAL.items()},
    "TIR": Band("TIR", 10.9, "thermal"),  # Source: Landsat 8 TIRS band 10, 10.6 to 11.2 um
    "DEM": Band("DEM", None, "terrain"),
    "SLOPE": Band("SLOPE", None, "terrain"),
    # Coherence of radar pairs, a water index, and layers whose publication does not say more.
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


def select(have: Sequence[Band], want: Sequence[Band]) -> tuple[int, ...]:
    """Return where in `have` each band of `want` is, in the order of `want`.

    Raises:
        BandMismatch: `have` lacks a band of `want`.
    """
    names = [band.name for band in have]
    missing = [band.name for band in want if band.name not in names]
    if missing:
        message = (
            f"Bands {' '.join(band.name for band in want)} are needed; "
            f"{' '.join(missing)} not among {' '.join(names) or 'no bands'}. "
            "Add the missing layers, or use an encoder that takes any band."
        )
        raise BandMismatch(message)
    return tuple(names.index(band.name) for band in want)
