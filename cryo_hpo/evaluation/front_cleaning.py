"""Clean a mapped front before it is measured, as CaFFe does with maps of zones.

Source: Gourmelon et al. 2022, doi:10.5194/essd-14-4287-2022, and the authors' code (MIT license),
whose values on maps of any shape `tests/evaluation/test_front_cleaning.py` holds these steps against.
"""

# H W pixels

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SHORTEST_M = 750.0  # mapped fronts up to this length are left out
EIGHT = np.ones((3, 3), bool)  # pixels that share a corner belong together

Mask = NDArray[np.bool_]


def fill_and_keep_largest(
    map_HW: NDArray[np.uint8], *, inside: int, outside: int
) -> NDArray[np.uint8]:
    """Return a map whose class inside is one patch without holes; its other patches are outside.

    For the front of ocean towards glacier: gaps in the ocean are ocean, and only the largest ocean
    is one.

    Args:
        map_HW: Map of one scene.
        inside: Class number of the pixels of the front.
        outside: Class number of their neighbors.
    """
    others_HW = map_HW != inside
    filled_HW = np.where(others_HW & ~_largest(others_HW), np.uint8(inside), map_HW)
    inside_HW = filled_HW == inside
    stray_HW = inside_HW & ~_largest(inside_HW)
    return np.where(stray_HW, np.uint8(outside), filled_HW)


def drop_short(front_HW: Mask, *, gsd_m: float) -> Mask:
    """Return a front without its connected parts of 750 m and less, (H, W).

    The length of a part is its number of pixels times their side.

    Args:
        front_HW: Pixels of the front.
        gsd_m: Side of a pixel, meters.
    """
    parts_HW, _ = ndimage.label(front_HW, EIGHT)
    is_long = np.bincount(parts_HW.ravel()) > SHORTEST_M / gsd_m
    is_long[0] = False  # what is no front
    kept: Mask = is_long[parts_HW]
    return kept


def _largest(mask_HW: Mask) -> Mask:
    """Return the largest patch of a mask; the first one where several are."""
    patches_HW, number = ndimage.label(mask_HW, EIGHT)
    if not number:
        return mask_HW
    sizes = np.bincount(patches_HW.ravel())
    largest: Mask = patches_HW == 1 + sizes[1:].argmax()
    return largest
