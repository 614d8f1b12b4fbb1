"""Find the places that scenes show: by their georeference, else by words and dates in their ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .alignment import place_of
from .dataset import SceneFiles
from .id_words import Regions, Series, find_regions, find_series
from .leakage import SceneIdentity, connected_groups
from .region_split import PARTS
from .stacks import stack_scenes


class Places(NamedTuple):
    """Hold the places that scenes show."""

    regions: Regions = Regions()
    """By the ids: words that they begin with; where files tell no place, what is left without dates."""
    series: Series = Series()
    """Fewer than three places on several dates by the ids, where files tell no place; else empty."""
    grounds: int | None = None
    """Opened scenes that share no ground, overlapping ones counted once; None: an image tells no place."""
    one_grid: bool = True
    """Whether opened scenes of the same ground lie on one grid."""


def find_places(
    ids: Sequence[str], images: Sequence[Path], sizes: Sequence[tuple[int, int]]
) -> Places:
    """Return the places of scenes.

    Args:
        ids: Ids of all scenes.
        images: Images that were opened.
        sizes: Height and width of each, pixels.
    """
    grounds, one_grid = _count_grounds(images, sizes)
    regions = find_regions(ids)
    if regions.names or grounds is not None:
        return Places(regions, Series(), grounds, one_grid)
    series = find_series(ids)
    if len(series.places) < len(PARTS):
        return Places(regions, series)
    what = f"ids with dates name {len(series.places)} places"
    return Places(Regions(series.places, series.place, what))


def _count_grounds(
    images: Sequence[Path], sizes: Sequence[tuple[int, int]]
) -> tuple[int | None, bool]:
    """Return how many grounds images show, and whether those of the same ground lie on one grid."""
    scenes = []
    for number, image in enumerate(images):
        place = place_of(image)
        if place is None:
            return None, True
        item = SceneFiles(str(number), None, image, image)
        scenes.append(SceneIdentity(item, str(number), *place))
    grounds = len(connected_groups(scenes))
    return grounds, len(stack_scenes(scenes, sizes)) == grounds
