"""Compare the names that files give their layers with the bands they are used as."""

from __future__ import annotations

import re
from collections.abc import Sequence

FAMILIES = (
    ("COASTAL", "BLUE", "GREEN", "RED", "NIR", "SWIR", "SWIR1", "SWIR2"),
    ("VV", "VH", "HH", "HV"),
    ("DEM", "SLOPE"),
)
COLORS = {"B2": "BLUE", "B3": "GREEN", "B4": "RED", "B8": "NIR", "B11": "SWIR1", "B12": "SWIR2"}
"""Colors of Sentinel-2's numbers, which cards use without `sensor`."""
NUMBERED = re.compile(r"(?:SR_|ST_|TOA_)?B0*(\d+[AN]?)\b")
WAVELENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(nm|nanomet\w+|um|\u00b5m|\u03bcm|micromet\w+)\b", re.I)

Names = Sequence[str]
"""Names of one band: its sensor's own first, then that of the table of bands."""


def contradicts(names: Sequence[str], bands: Sequence[Names]) -> bool:
    """Return whether a file's layer names contradict the bands they are used as.

    Numbers of bands are compared with numbers and colors with colors: sensors number differently.

    Args:
        names: Descriptions of the layers in the file.
        bands: Names of each band, in the same order.
    """
    for name, band in zip(names, bands, strict=True):
        given = canonical(name)
        taken = _color(band) if _family(given) == 0 else _own(band[0])
        if given and given != taken and _family(given) == _family(taken):
            return True
    return False


def layer_numbers(names: Sequence[str], bands: Sequence[Names]) -> list[int]:
    """Return the layer, from 1, that a file names as each band; empty if one is missing or twice."""
    given = [canonical(name) for name in names]
    for targets in ([_own(band[0]) for band in bands], [_color(band) for band in bands]):
        if set(targets) <= set(given) and all(given.count(target) == 1 for target in targets):
            return [given.index(target) + 1 for target in targets]
    return []


def canonical(name: str) -> str:
    """Return the band in a layer's description, such as B4 for 'B04 red'; "" if none."""
    words = name.strip().upper()
    match = NUMBERED.match(words)
    if match:
        return f"B{match[1]}"
    first = re.split(r"[\s_:(,-]+", words)[0] if words else ""
    return first if any(first in family for family in FAMILIES) else ""


def wavelength_um(name: str) -> float | None:
    """Return the wavelength in a layer's description, micrometers: 0.49 for "490 nm"; None: none."""
    match = WAVELENGTH.search(name)
    if match is None:
        return None
    return float(match[1]) * (1e-3 if match[2].lower().startswith("n") else 1.0)


def _own(band: str) -> str:
    return canonical(band) or band


def _color(band: Names) -> str:
    """Return the color of a band: its name in the table, or the color of Sentinel-2's number."""
    name = band[-1]
    return COLORS.get(name, name) if len(band) == 1 else name


def _family(band: str) -> int:
    if NUMBERED.fullmatch(band):
        return len(FAMILIES)
    return next((i for i, family in enumerate(FAMILIES) if band in family), -1)
