"""Find scenes that belong together: one region, one piece of ground, or the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from scipy.cluster.hierarchy import DisjointSet

from .dataset import SceneFiles, Split

Box = tuple[float, float, float, float]
"""West, south, east and north, degrees."""
SLACK = 0.05  # of a side: boxes in degrees are a little larger than what they hold


class SceneIdentity(NamedTuple):
    """What tells whether a scene is related to another."""

    item: SceneFiles
    digest: str
    """Hash of the image's bytes."""
    box: Box | None
    """Where it lies; None: the file does not say."""


class Shared(NamedTuple):
    """What two parts of a split have in common."""

    parts: tuple[Split, Split]
    regions: tuple[str, ...]
    """Names of regions that are in both."""
    in_shared_regions: int
    """Scenes of the second part that lie in one of them."""
    copies: tuple[tuple[str, str], ...]
    """Ids of scenes whose images are the same, byte by byte."""
    overlaps: tuple[tuple[str, str], ...]
    """Ids of scenes that show the same ground."""

    def __bool__(self) -> bool:
        return bool(self.regions or self.copies or self.overlaps)


def find_shared(parts: Mapping[Split, Sequence[SceneIdentity]]) -> list[Shared]:
    """Return what each pair of parts shares; pairs that share nothing are left out."""
    found = []
    for a, b in combinations(parts, 2):
        regions = {k.item.region for k in parts[a]} & {k.item.region for k in parts[b]} - {None}
        names = tuple(sorted(name for name in regions if name is not None))
        by_digest = {k.digest: k.item.id for k in parts[a]}
        copies = [(by_digest[k.digest], k.item.id) for k in parts[b] if k.digest in by_digest]
        ids = {k.item.id for k in parts[a]}
        both = find_overlaps([*parts[a], *parts[b]])
        across = [pair for pair in both if (pair[0] in ids) != (pair[1] in ids)]
        ordered = [(x, y) if x in ids else (y, x) for x, y in across]
        inside = sum(k.item.region in regions for k in parts[b])
        found.append(Shared((a, b), names, inside, tuple(copies), tuple(sorted(ordered))))
    return [one for one in found if one]


def find_duplicates(scenes: Iterable[SceneIdentity]) -> list[tuple[str, str]]:
    """Return ids of scenes whose images are the same, byte by byte, each with the first of them."""
    first: dict[str, str] = {}
    return [
        (first[k.digest], k.item.id)
        for k in scenes
        if first.setdefault(k.digest, k.item.id) != k.item.id
    ]


def find_overlaps(scenes: Iterable[SceneIdentity]) -> list[tuple[str, str]]:
    """Return the ids of every two scenes that show the same ground.

    Boxes that only touch do not count, nor do those that overlap by less than `SLACK` of a side.
    """
    placed = sorted((k.box, k.item.id) for k in scenes if k.box is not None)
    found: list[tuple[str, str]] = []
    open_: list[tuple[Box, str]] = []
    for box, name in placed:  # from west to east: only those not yet passed can overlap
        open_ = [(other, one) for other, one in open_ if other[2] > box[0]]
        found += [(one, name) for other, one in open_ if _overlap(other, box)]
        open_.append((box, name))
    return found


def _overlap(a: Box, b: Box) -> bool:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width > SLACK * min(a[2] - a[0], b[2] - b[0]) and height > SLACK * min(
        a[3] - a[1], b[3] - b[1]
    )


def connected_groups(scenes: Sequence[SceneIdentity]) -> list[list[int]]:
    """Group scenes that are related, directly or through others; returns positions, in order.

    Related are scenes of one region, of the same bytes, or of overlapping ground.
    """
    position = {scene.item.id: i for i, scene in enumerate(scenes)}
    groups: DisjointSet[int] = DisjointSet(range(len(scenes)))
    first: dict[tuple[str, str], int] = {}
    for i, scene in enumerate(scenes):
        marks = [("bytes", scene.digest)]
        marks += [("region", scene.item.region)] if scene.item.region else []
        for mark in marks:
            groups.merge(first.setdefault(mark, i), i)
    for a, b in find_overlaps(scenes):
        groups.merge(position[a], position[b])
    return sorted(sorted(group) for group in groups.subsets())
