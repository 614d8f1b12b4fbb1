"""Place windows over an image, and weight their pixels where they overlap."""

# H W pixels of the image, S side of a window

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..errors import SpecError


def windows(length_hw: tuple[int, int], *, size: int, overlap: int) -> list[tuple[int, int]]:
    """Return the top left corners of windows that cover an image, row by row.

    Neighbors share at least `overlap` pixels; the last window of a row or column ends where
    the image ends. Along a side shorter than a window there is one window, at 0: the caller pads.

    Args:
        length_hw: Height and width of the image, pixels.
        size: Side of a window, pixels.
        overlap: Pixels shared by neighboring windows, 0 <= overlap < size.

    Raises:
        SpecError: A length or the overlap is outside its range.
    """
    _check(size, overlap=overlap)
    if min(length_hw) < 1:
        raise SpecError(f"An image needs at least one pixel on each side, got {length_hw}.")
    tops, lefts = (_starts(length, size=size, stride=size - overlap) for length in length_hw)
    return [(top, left) for top in tops for left in lefts]


def grid(length_hw: tuple[int, int], *, size: int) -> list[tuple[int, int]]:
    """Return the top left corners of tiles side by side, row by row; the last ones end at the edge.

    Cryo-Bench cuts the scenes of CaFFe like this: pixels that the last tiles share with neighbors
    count twice in its scores. Along a side shorter than a tile there is one tile, at 0.
    """
    tops, lefts = ([*range(0, length - size, size), max(length - size, 0)] for length in length_hw)
    return [(top, left) for top in tops for left in lefts]


def blend(size: int, *, overlap: int) -> NDArray[np.float32]:
    """Return the weight of each pixel of a window, (S, S): 1 inside, falling towards the edges.

    A pixel near the edge of a window lacks context on one side, so the neighbor that has it
    nearer to its middle counts for more. Weights are positive everywhere: the edge of an image
    is covered by one window only.

    Args:
        size: Side of a window, pixels.
        overlap: Width of the taper, pixels, 0 <= overlap < size; 0 gives 1 everywhere.

    Raises:
        SpecError: The size or the overlap is outside its range.

    Source:
        Taper: Tukey (cosine-tapered) window, Harris 1978, doi:10.1109/PROC.1978.10837.
    """
    _check(size, overlap=overlap)
    # Half a pixel in, so that the first weight is above 0.
    distance = (np.arange(size) + 0.5) / max(overlap, 0.5)
    ramp = np.sin(np.pi / 2 * np.minimum(distance, 1)) ** 2
    line = ramp * ramp[::-1]
    return np.outer(line, line).astype(np.float32)


def _starts(length: int, *, size: int, stride: int) -> list[int]:
    last = max(length - size, 0)
    number = math.ceil(last / stride) + 1
    return [int(start) for start in np.linspace(0, last, number).round()]


def _check(size: int, *, overlap: int) -> None:
    if size < 1:
        raise SpecError(f"A window must be at least 1 pixel wide, got {size}.")
    if not 0 <= overlap < size:
        raise SpecError(
            f"Overlap must be at least 0 and less than the window's {size} pixels, got {overlap}."
        )
