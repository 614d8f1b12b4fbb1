"""Read a part of a scene as if it were a scene, and say where it lies."""

from __future__ import annotations

from collections.abc import Callable

from .dataset import Scene, SceneFiles

Window = tuple[slice, slice]
"""Rows and columns of a scene."""


def read_window(
    read: Callable[..., Scene], item: SceneFiles, *, window: Window | None = None
) -> Scene:
    """Decode the window of a scene that `item` stands for, or a part of that window.

    Args:
        read: Decodes a scene or a window of it.
        item: A scene's files, and its window.
        window: Part of the item's window, counted from its corner; None: all of it.
    """
    if item.window is None:
        return read(item, window=window)
    return read(item, window=item.window if window is None else shift(window, item.window))


def shift(inner: Window, outer: Window) -> Window:
    """Return a window that is counted from the corner of another, counted from the scene's."""
    rows, columns = (
        slice(part.start + whole.start, min(part.stop + whole.start, whole.stop))
        for part, whole in zip(inner, outer, strict=True)
    )
    return rows, columns


def describe_window(window: Window | None) -> list[int] | None:
    """Return a window as numbers: first and last row and column, for a hash or a file."""
    if window is None:
        return None
    return [edge for side in window for edge in (side.start, side.stop)]


def parse_window(edges: list[int] | None) -> Window | None:
    """Return the window of the numbers that `describe_window` gave."""
    if edges is None:
        return None
    top, bottom, left, right = map(int, edges)
    return slice(top, bottom), slice(left, right)
