"""Write the names of scenes and blocks into a map of a split, where they can be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from ...data.footprints import Corners, Footprint

SIZES_PT = (7.0, 5.0)  # of letters: the smaller ones where the larger do not all fit
MOST = 600  # names of a map; more would not fit
HOW_TO_FIND = "r0c2: the block in row 0, column 2 of its scene, counted from the upper left corner"


class Name(NamedTuple):
    """Hold a name on a map, and the outline that it belongs to."""

    text: Text
    outline: Corners
    is_inside: bool
    """False: it stands above its outline, and only its width must fit."""


def write_names(axes: Any, prints: Sequence[Footprint]) -> list[Name]:
    """Write the names of blocks and scenes into a map; scenes that hold blocks have theirs above."""
    outlines = {(text, tuple(map(tuple, corners))): inside for text, corners, inside in _of(prints)}
    if len(outlines) > MOST:
        return []
    return [
        _write(axes, text, np.array(corners), is_inside=inside)
        for (text, corners), inside in outlines.items()
    ]


def keep_legible(figure: Figure, names: Sequence[Name]) -> list[str]:
    """Remove the names that do not fit their outlines in a figure; return those that stay."""
    if names:
        figure.draw_without_rendering()  # lays the axes out
    for size in SIZES_PT:
        for name in names:
            name.text.set_fontsize(size)
        if all(map(_fits, names)):
            break
    legible = [name for name in names if _fits(name)]
    for name in names:
        if name not in legible:
            name.text.remove()
    return [name.text.get_text() for name in legible]


def _of(prints: Sequence[Footprint]) -> Iterator[tuple[str, Corners, bool]]:
    several = len({footprint.scene for footprint in prints}) > 1
    for footprint in prints:
        yield footprint.block or footprint.scene, footprint.corners, True
        if footprint.block and several:
            yield footprint.scene, footprint.whole, False


def _write(axes: Any, text: str, outline: Corners, *, is_inside: bool) -> Name:
    """Write a name into the middle of its outline, or above the middle of its upper edge."""
    x, y = outline.mean(axis=0) if is_inside else outline[:2].mean(axis=0)
    written = axes.text(
        x,
        y,
        text,
        ha="center",
        va="center" if is_inside else "bottom",
        path_effects=[withStroke(linewidth=1.5, foreground="white")],
    )
    written.set_in_layout(False)
    return Name(written, outline, is_inside)


def _fits(name: Name) -> bool:
    """Return whether a name is no wider, and inside no taller, than the box around its outline."""
    assert name.text.axes is not None
    width, height = np.ptp(name.text.axes.transData.transform(name.outline), axis=0)
    box = name.text.get_window_extent()
    return bool(box.width <= width and (box.height <= height or not name.is_inside))
