"""Find the side of a pixel on the ground of every scene of a split."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from .facts import read_facts

if TYPE_CHECKING:
    from .cache import Scenes
    from .dataset import Dataset

SQUARE = 1.05  # longer over shorter side up to which a pixel passes as square


def pixel_sizes(dataset: Dataset, scenes: Scenes) -> tuple[float | None, ...]:
    """Return the side of a pixel of each scene, meters; None where it is unknown.

    Of a pixel that is no square it is the side of a square of that area. It is that of the file's coordinates, else the one in the scene's name (`Dataset.gsd_in_name`),
    else the dataset's.

    Raises:
        StorageError: The facts of the decoded scenes are missing or damaged.
    """
    by_file = {facts.id: facts.gsd_m for facts in read_facts(scenes.folder)}
    return tuple(
        by_file.get(scene) or _named(dataset.gsd_in_name, scene) or dataset.gsd_m
        for scene in scenes.ids
    )


def describe_oblong(pixel_m: tuple[float, float] | None) -> str:
    """Return width and height of a pixel and which number is taken for both; "" if it is square."""
    if pixel_m is None or max(pixel_m) <= SQUARE * min(pixel_m):
        return ""
    width, height = pixel_m
    side = math.sqrt(width * height)
    return (
        f"pixels are {width:.4g} m wide and {height:.4g} m high, {side:.4g} m is the side of a square of "
        "that area"
    )


def _named(pattern: str, scene: str) -> float | None:
    match = re.search(pattern, scene) if pattern else None
    return float(match[1]) if match else None
