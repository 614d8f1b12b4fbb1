"""Find the side of a pixel on the ground of every scene of a split."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .facts import read_facts

if TYPE_CHECKING:
    from .cache import Scenes
    from .dataset import Dataset


def pixel_sizes(dataset: Dataset, scenes: Scenes) -> tuple[float | None, ...]:
    """Return the side of a pixel of each scene, meters; None where it is unknown.

    It is that of the file's coordinates, else the one in the scene's name (`Dataset.gsd_in_name`),
    else the dataset's.

    Raises:
        StorageError: The facts of the decoded scenes are missing or damaged.
    """
    by_file = {facts.id: facts.gsd_m for facts in read_facts(scenes.folder)}
    return tuple(
        by_file.get(scene) or _named(dataset.gsd_in_name, scene) or dataset.gsd_m
        for scene in scenes.ids
    )


def _named(pattern: str, scene: str) -> float | None:
    match = re.search(pattern, scene) if pattern else None
    return float(match[1]) if match else None
