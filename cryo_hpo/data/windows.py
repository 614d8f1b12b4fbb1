"""Read windows of scenes as if they were scenes, and describe them."""

from __future__ import annotations

from collections.abc import Callable

from .dataset import Scene, SceneFiles

Window = tuple[slice, slice]
"""Rows and columns of a scene."""


def read_window(
    read: Callable[..., Scene], item: SceneFiles, *, window: Window | None = None
) -> Scene:
    """Decode an item's window of a scene, or a part of that window.

    Args:
        read: Decodes a scene or a window of it.
        item: Files of a scene, with its window.
        window: Part of the item's window, relative to its corner; None: all of it.
    """
    if item.window is None:
        return read(item, window=window)
    return read(item, window=item.window if window is None else shift(window, item.window))


def shift(inner: Window, outer: Window) -> Window:
    """Convert a window relative to the corner of another into one relative to the scene's."""
    rows, columns = (
        slice(part.start + whole.start, min(part.stop + whole.start, whole.stop))
        for part, whole in zip(inner, outer, strict=True)
    )
    return rows, columns


def describe_window(window: Window | None) -> list[int] | None:
    """Return a window as numbers, first and last row and column, for a hash or a file."""
    if window is None:
        return None
    return [edge for side in window for edge in (side.start, side.stop)]


def parse_window(edges: list[int] | None) -> Window | None:
    """Return the window from the numbers of `describe_window`."""
    if edges is None:
        return None
    top, bottom, left, right = map(int, edges)
    return slice(top, bottom), slice(left, right)
