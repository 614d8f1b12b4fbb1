"""Find scenes that belong together: one region, one piece of ground, or the same bytes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from scipy.cluster.hierarchy import DisjointSet

from .dataset import SceneFiles, Split

Box = tuple[float, float, float, float]
"""West, south, east and north, degrees."""
SLACK = 0.05  # of a side: boxes in degrees are a little larger than what they hold


class SceneIdentity(NamedTuple):
    """Hold the identity of a scene, by which related scenes are found."""

    item: SceneFiles
    digest: str
    """Hash of the image's bytes."""
    box: Box | None
    """Bounding box of the scene; None: the file gives no position."""
    crs: str = ""
    """Coordinate reference system; "": none."""
    native: Box | None = None
    """Bounding box in the units of `crs`."""
    corners: tuple[float, ...] = ()
    """x of the corners of the first and the last row, then y, in the units of the file; empty: unknown."""

    @property
    def has_place(self) -> bool:
        """Whether the file gives the position of the scene."""
        return self.box is not None or self.native is not None


class Shared(NamedTuple):
    """Hold the overlap between two parts of a split."""

    parts: tuple[Split, Split]
    regions: tuple[str, ...]
    """Names of regions that occur in both parts."""
    in_shared_regions: int
    """Scenes of the second part that lie in one of these regions."""
    copies: tuple[tuple[str, str], ...]
    """Ids of scenes whose images are the same, byte by byte."""
    overlaps: tuple[tuple[str, str], ...]
    """Ids of scenes that show the same ground."""

    def __bool__(self) -> bool:
        return bool(self.regions or self.copies or self.overlaps)


def find_shared(parts: Mapping[Split, Sequence[SceneIdentity]]) -> list[Shared]:
    """Return the overlap of each pair of parts; pairs without overlap are left out."""
    overlaps = []
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
        overlaps.append(Shared((a, b), names, inside, tuple(copies), tuple(sorted(ordered))))
    return [overlap for overlap in overlaps if overlap]


def find_shared_acquisitions(
    pattern: str, parts: Mapping[Split, Sequence[SceneFiles]]
) -> Iterator[tuple[Split, Split, int]]:
    """Yield (part, other, scenes of `other`) cut from a satellite scene that `part` has too.

    Args:
        pattern: Regular expression whose group is the satellite scene in an image's name.
        parts: Scenes of each part.
    """
    names = {part: [_acquisition(pattern, item) for item in items] for part, items in parts.items()}
    for a, b in combinations(parts, 2):
        acquisitions = set(names[a]) - {None}
        number = sum(name in acquisitions for name in names[b])
        if number:
            yield a, b, number


def _acquisition(pattern: str, item: SceneFiles) -> str | None:
    match = re.search(pattern, item.image.stem)
    return match[1] if match else None


def find_duplicates(scenes: Iterable[SceneIdentity]) -> list[tuple[str, str]]:
    """Return ids of scenes whose images are the same, byte by byte, each with the first of them."""
    first: dict[str, str] = {}
    return [
        (first[k.digest], k.item.id)
        for k in scenes
        if first.setdefault(k.digest, k.item.id) != k.item.id
    ]


def find_overlaps(scenes: Iterable[SceneIdentity]) -> list[tuple[str, str]]:
    """Return the ids of every pair of scenes that show the same ground.

    Scenes of one coordinate system are compared in it, others in degrees: the box in degrees of a
    tile near a pole is far larger than the tile. Boxes that only touch do not count, nor do those
    that overlap by less than `SLACK` of a side.
    """
    by_crs: dict[str, list[tuple[Box, str, str]]] = defaultdict(list)
    in_degrees: list[tuple[Box, str, str]] = []
    for scene in scenes:
        if scene.native is not None:
            by_crs[scene.crs].append((scene.native, scene.item.id, scene.crs))
        if scene.box is not None:
            boxes = _across_the_date_line(scene.box)
            in_degrees += [(box, scene.item.id, scene.crs) for box in boxes]
    pairs = [(a, b) for group in by_crs.values() for a, b, _, _ in _sweep(group)]
    if len(by_crs) != 1 or any(not crs for _, _, crs in in_degrees):
        pairs += [(a, b) for a, b, x, y in _sweep(in_degrees) if x != y or not x]
    return list(dict.fromkeys(pair for pair in pairs if pair[0] != pair[1]))


def _sweep(placed: list[tuple[Box, str, str]]) -> Iterator[tuple[str, str, str, str]]:
    """Yield ids and coordinate systems of overlapping boxes, from west to east."""
    open_: list[tuple[Box, str, str]] = []
    for box, name, crs in sorted(placed):  # only boxes not yet passed can overlap
        open_ = [other for other in open_ if other[0][2] > box[0]]
        for other_box, other, other_crs in open_:
            if _overlap(other_box, box):
                yield other, name, other_crs, crs
        open_.append((box, name, crs))


def _across_the_date_line(box: Box) -> list[Box]:
    """Split a box in degrees at the date line: one box, or one on each side of 180 degrees."""
    west, south, east, north = box
    if west <= east:
        return [box]
    return [(west, south, 180.0, north), (-180.0, south, east, north)]


def _overlap(a: Box, b: Box) -> bool:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width > SLACK * min(a[2] - a[0], b[2] - b[0]) and height > SLACK * min(
        a[3] - a[1], b[3] - b[1]
    )


def connected_groups(scenes: Sequence[SceneIdentity]) -> list[list[int]]:
    """Group scenes that are related, directly or through others; return positions, in order.

    Scenes are related if they share a region, their bytes, or overlapping ground.
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
