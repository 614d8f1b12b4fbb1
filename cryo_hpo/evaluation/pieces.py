"""Cut scenes into tiles, group tiles of one size, and count the windows that cover them."""

# H W pixels
from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from .tiling import grid, windows

if TYPE_CHECKING:
    from ..data.cache import Scenes

Place = tuple[slice, slice]  # rows and columns of a scene
Piece = tuple[int, Place]  # number of a scene, and a place in it


class Window(NamedTuple):
    """Describe how scenes are cut."""

    size: int
    """Side of a window, pixels."""
    overlap: int
    """Pixels shared by neighboring windows, 0 <= overlap < size."""
    tile: int | None = None
    """Side of the tiles that larger scenes are cut into, pixels; each is a separate image."""
    bf16: bool = False
    """Whether the model runs in bf16; blending is always in float32."""


def chunk_pieces(scenes: Scenes, window: Window, *, batch: int) -> Iterator[list[Piece]]:
    """Yield neighboring pieces of one size, as many as fill a forward pass together."""
    for shape, run in _runs(scenes, window):
        number = number_of_windows(shape, size=window.size, overlap=window.overlap)
        step = max(1, batch // number)
        for start in range(0, len(run), step):
            yield run[start : start + step]


def count_windows(scenes: Scenes, window: Window) -> int:
    """Return the number of windows that cover all scenes."""
    return sum(
        len(run) * number_of_windows(shape, size=window.size, overlap=window.overlap)
        for shape, run in _runs(scenes, window)
    )


def _runs(scenes: Scenes, window: Window) -> Iterator[tuple[tuple[int, int], list[Piece]]]:
    """Yield neighboring pieces of one size, and that size."""
    pieces = [(i, place) for i in range(len(scenes)) for place in _places(scenes.sizes[i], window)]
    for shape, run in groupby(pieces, key=lambda piece: _shape(*piece[1])):
        yield shape, list(run)


def number_of_windows(length_hw: tuple[int, int], *, size: int, overlap: int) -> int:
    """Return the number of windows that cover an image of some height and width."""
    full = (max(length_hw[0], size), max(length_hw[1], size))
    return len(windows(full, size=size, overlap=overlap))


def _places(size_hw: tuple[int, int], window: Window) -> list[Place]:
    if window.tile is None:
        return [(slice(0, size_hw[0]), slice(0, size_hw[1]))]
    sides = [min(window.tile, side) for side in size_hw]
    corners = grid(size_hw, size=window.tile)
    return [(slice(t, t + sides[0]), slice(u, u + sides[1])) for t, u in corners]


def _shape(rows: slice, columns: slice) -> tuple[int, int]:
    return rows.stop - rows.start, columns.stop - columns.start
