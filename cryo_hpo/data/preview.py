"""Render a scene for viewing: true color or gray, contrast stretched."""

# C bands, H W pixels

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bands import Band
from .dataset import IGNORE

COLORED = (("B4", "B3", "B2"), ("RED", "GREEN", "BLUE"))
LONGEST = 384  # pixels a side of a map that a report shows
CLIP = (2, 98)  # percentiles of a scene that become black and white


def render_scene(
    bands: Sequence[Band], image_CHW: NDArray[Any], mask_HW: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Return true color, (H, W, 3), if the bands allow it, else the first band, (H, W); 0..1.

    Args:
        bands: Band names in the order of the image's layers.
        image_CHW: Pixels in any unit.
        mask_HW: Labels; ignored pixels do not affect the contrast.
    """
    names = [band.name for band in bands]
    trio = next((trio for trio in COLORED if set(trio) <= set(names)), None)
    chosen = [names.index(name) for name in trio] if trio else [0]
    layers = [_stretched(image_CHW[i], mask_HW) for i in chosen]
    return np.stack(layers, axis=-1) if trio else layers[0]


def thumbnail(picture: NDArray[Any], longest: int) -> NDArray[Any]:
    """Shrink a picture or mask to at most `longest` pixels a side, by skipping pixels."""
    step = -(-max(picture.shape[:2]) // longest)
    return picture[::step, ::step]


def _stretched(band_HW: NDArray[Any], mask_HW: NDArray[np.uint8]) -> NDArray[np.float64]:
    labeled = band_HW[mask_HW != IGNORE]
    # Scenes that are mostly unlabeled are stretched by all of their pixels.
    return stretch(band_HW, labeled if 2 * labeled.size > band_HW.size else band_HW)


def stretch(band_HW: NDArray[Any], values: NDArray[Any] | None = None) -> NDArray[np.float64]:
    """Return a band between 0 and 1; pixels that are no numbers are 0.

    Args:
        band_HW: Pixels in any unit.
        values: Pixels that decide the contrast; None: those of the band.
    """
    counted = (band_HW if values is None else values).astype(np.float64)
    counted = counted[np.isfinite(counted)]
    low, high = np.percentile(counted, CLIP) if counted.size else (0.0, 1.0)
    scaled = (band_HW.astype(np.float64) - low) / max(high - low, 1e-9)
    stretched: NDArray[np.float64] = np.nan_to_num(scaled, nan=0.0).clip(0, 1)
    return stretched
