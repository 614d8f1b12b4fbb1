"""Find where on Earth a scene lies: its center, the direction of north, the shape of a pixel."""

from __future__ import annotations

import math
from typing import NamedTuple

from rasterio.io import DatasetReader
from rasterio.warp import transform

from ..errors import CryoError
from .alignment import GDAL_ERRORS
from .dataset import SceneFiles
from .safe_open import open_file

WGS84 = "EPSG:4326"
STEEPEST = 85.0  # degrees of latitude; nearer to a pole pixels in degrees are no wider strips
STEP = 1e-3  # degrees of latitude, about 111 m: the direction of north is that of so short a way


class Ground(NamedTuple):
    """Describe the place of a scene."""

    longitude: float
    """Of the center, degrees east."""
    latitude: float
    """Of the center, degrees north."""
    north: float
    """Direction of north in the image: degrees clockwise from up."""
    stretch: float = 1.0
    """Height of a pixel over its width on the ground; 2 for square degrees at 60 degrees north."""


def ground_of(item: SceneFiles) -> Ground | None:
    """Return the place of a scene; None where its file has no coordinates, or cannot be read."""
    try:
        with open_file(item.image, root=item.root) as file:
            if file.crs is None or file.transform.is_identity:
                return None
            rows, columns = item.window or (slice(0, file.height), slice(0, file.width))
            center = ((columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2)
            x, y = file.transform @ center
            (longitude,), (latitude,) = transform(file.crs, WGS84, [x], [y])
            step = STEP if latitude < 89 else -STEP
            (x,), (y,) = transform(WGS84, file.crs, [longitude], [latitude + step])
            right, down = ~file.transform @ (x, y)
            right, down = (right - center[0]) / step, (down - center[1]) / step
            stretch = _stretch(file, latitude)
    except (CryoError, *GDAL_ERRORS, OSError, ZeroDivisionError):
        return None
    if not all(map(math.isfinite, (longitude, latitude, right, down, stretch))):
        return None
    return Ground(longitude, latitude, math.degrees(math.atan2(right, -down)), stretch)


def _stretch(file: DatasetReader, latitude: float) -> float:
    """Return height over width of a pixel; a degree of longitude shrinks towards the poles."""
    t = file.transform
    squeeze = math.cos(math.radians(min(abs(latitude), STEEPEST))) if file.crs.is_geographic else 1
    return math.hypot(t.b * squeeze, t.e) / math.hypot(t.a * squeeze, t.d)
