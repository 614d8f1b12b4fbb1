"""Measure the areas of the classes of a map on the ellipsoid, and find its date."""

# H W pixels, K classes, N blocks

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.windows import Window

from .safe_open import open_file
from .vector import area_km2

BLOCK = 64  # pixels; within one, all pixels have the same area
# The first date of a name: of Sentinel and Landsat products, the one of acquisition.
DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")


def date_of(name: str) -> str | None:
    """Return the first date in a scene's name, as 2024-01-31; None where there is none."""
    match = DATE.search(name)
    return f"{match[1]}-{match[3]}-{match[4]}" if match else None


def class_pixels(path: Path, num_classes: int) -> NDArray[np.int64]:
    """Return the number of pixels of each class of a map, (K,)."""
    counts_K = np.zeros(num_classes, dtype=np.int64)
    with open_file(path) as file:
        for window in _windows(file.shape, rows=BLOCK, columns=file.width):
            counts_K += np.bincount(file.read(1, window=window).ravel(), minlength=256)[
                :num_classes
            ]
    return counts_K


def class_areas_km2(path: Path, num_classes: int) -> NDArray[np.float64] | None:
    """Return the area of each class of a map on the ellipsoid, (K,), km2.

    The area of a block of pixels is that of its four corners on the ellipsoid, shared equally by
    its pixels.

    Returns:
        None where the map has no coordinates.
    """
    with open_file(path) as file:
        if file.crs is None or file.transform.is_identity:
            return None
        windows = list(_windows(file.shape, rows=BLOCK, columns=BLOCK))
        areas_N = area_km2(np.array([_corners(file, w) for w in windows], dtype=object), file.crs)
        total_K = np.zeros(num_classes)
        for window, area in zip(windows, areas_N, strict=True):
            counts = np.bincount(file.read(1, window=window).ravel(), minlength=256)[:num_classes]
            total_K += area / (window.height * window.width) * counts
    return total_K


def _windows(size: tuple[int, int], *, rows: int, columns: int) -> Iterator[Window]:
    for top in range(0, size[0], rows):
        for left in range(0, size[1], columns):
            width, height = min(columns, size[1] - left), min(rows, size[0] - top)
            yield Window(left, top, width, height)


def _corners(file: Any, window: Window) -> Any:
    left, top = window.col_off, window.row_off
    right, bottom = left + window.width, top + window.height
    places = ((left, top), (right, top), (right, bottom), (left, bottom))
    return shapely.Polygon([file.transform @ place for place in places])
