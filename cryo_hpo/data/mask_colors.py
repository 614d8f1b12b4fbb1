"""Read masks in colors: three layers, or one layer of indices into a palette."""

# C layers, H W pixels

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

Color = tuple[int, int, int]


def in_colors(
    path: Path, file: Any, layers_CHW: NDArray[Any], unseen_HW: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return a mask's colors, (3, H, W); a palette is looked up.

    Raises:
        DataError: Values are not colors of 8 bits.
    """
    palette = {} if len(layers_CHW) == 3 else palette_of(file)
    if not palette:
        _require_8_bits(path, layers_CHW, unseen_HW)
        known_CHW = np.where(unseen_HW, 0, layers_CHW).astype(np.uint8)
        return known_CHW if len(known_CHW) == 3 else np.repeat(known_CHW, 3, axis=0)
    table = np.zeros((max(palette) + 1, 3), dtype=np.uint8)
    for index, color in palette.items():
        table[index] = color[:3]
    known_HW = np.where(unseen_HW, 0, layers_CHW[0])
    beyond_HW = (known_HW < 0) | (known_HW >= len(table))
    if beyond_HW.any():
        raise DataError(
            f"{path}: the mask holds the value {known_HW[beyond_HW][0]:g}, and its palette has only "
            f"{len(table)} colors. Write the mask again, or name values instead of colors."
        )
    return np.moveaxis(table[known_HW], -1, 0)


def palette_of(file: Any) -> dict[int, Color]:
    """Return the palette of a mask of one layer; empty: it has none."""
    try:
        return dict(file.colormap(1))
    except ValueError:
        return {}


def _require_8_bits(path: Path, layers_CHW: NDArray[Any], unseen_HW: NDArray[np.bool_]) -> None:
    values = layers_CHW[:, ~unseen_HW]
    if not values.size or layers_CHW.dtype == np.uint8:
        return
    odd = values[~((values >= 0) & (values <= 255) & (values == np.floor(values)))]
    if odd.size:
        raise DataError(
            f"{path}: colors in `values` have 8 bits, from 0 to 255, and this mask holds the value "
            f"{odd.flat[0]:g} of {layers_CHW.dtype}. Write it in 8 bits, or name numbers in `values`."
        )


def hex_color(color: Sequence[int]) -> str:
    """Return a color as #rrggbb."""
    return "#" + "".join(f"{int(part):02x}" for part in color[:3])


def number_of(color: Sequence[int]) -> int:
    """Return a color as one number: 0x0000ff for blue."""
    red, green, blue = (int(part) for part in color[:3])
    return red << 16 | green << 8 | blue


def color_of(number: int) -> Color:
    """Return the color that a number stands for."""
    return number >> 16, number >> 8 & 255, number & 255


def as_numbers(colors_CHW: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return colors (3, H, W) as one number for each pixel, (H, W)."""
    red_HW, green_HW, blue_HW = colors_CHW.astype(np.int32)
    numbers_HW: NDArray[np.int32] = red_HW << 16 | green_HW << 8 | blue_HW
    return numbers_HW
