"""Group scenes that lie on one grid of pixels, such as the dates of a time series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .dataset import SceneFiles
from .leakage import SceneIdentity

SAME_PX = 0.05  # corners nearer than that are one: coordinates written as text lose digits


class Stack(NamedTuple):
    """Hold scenes that lie on one grid: a pixel shows the same ground in each of them."""

    scenes: tuple[int, ...]
    """Positions of the scenes."""
    items: tuple[SceneFiles, ...]
    size: tuple[int, int]


def stack_scenes(scenes: Sequence[SceneIdentity], sizes: Sequence[tuple[int, int]]) -> list[Stack]:
    """Group scenes of one coordinate system, size and place; others are stacks of one.

    Args:
        scenes: Identities of the scenes.
        sizes: Height and width of each, pixels.
    """
    by_grid: dict[object, list[int]] = {}
    for i, (scene, size) in enumerate(zip(scenes, sizes, strict=True)):
        by_grid.setdefault(_grid_key(scene, size) or i, []).append(i)
    return [
        Stack(tuple(same), tuple(scenes[i].item for i in same), sizes[same[0]])
        for same in by_grid.values()
    ]


def _grid_key(scene: SceneIdentity, size: tuple[int, int]) -> object:
    """Return what scenes of one grid have in common; None: the scene has no place."""
    if not scene.corners:
        return None
    xs = scene.corners[: len(scene.corners) // 2]
    side = (max(xs) - min(xs)) / size[1] or 1.0
    return scene.crs, size, tuple(round(place / side / SAME_PX) for place in scene.corners)
