"""Outline the scenes and blocks of each part: on the ground, else in pixels of their scene."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform

from .alignment import GDAL_ERRORS, Grid, grid_of
from .dataset import SceneFiles, Split
from .safe_open import open_file

WGS84 = "EPSG:4326"  # a text: a broken PROJ must not fail the import

Corners = NDArray[np.float64]
"""x and y of the upper left, upper right, lower right and lower left corner, (4, 2)."""


class Footprint(NamedTuple):
    """Hold the outline of a scene, or of a block of one."""

    part: Split
    corners: Corners
    """Of what the part holds."""
    whole: Corners
    """Of the scene that it was cut from; the rest of it is a gap, or has no label."""
    scene: str = ""
    """Name of the scene."""
    block: str = ""
    """Name of the block in its scene, such as r0c2: row 0, column 2 from the upper left; "": whole."""


class Frame(NamedTuple):
    """Hold footprints that are drawn on common axes."""

    title: str
    unit: str
    """km, degrees or pixels."""
    footprints: tuple[Footprint, ...]
    crs: str = ""
    """Coordinate reference system of the axes; "": none."""


class _Outline(NamedTuple):
    item: SceneFiles
    part: Split
    grid: Grid


def frames_of(parts: Mapping[Split, Sequence[SceneFiles]]) -> list[Frame]:
    """Return the footprints of all parts: one frame of ground, and one for each divided scene without place.

    Scenes on one coordinate system keep it; those on several are placed in degrees. Whole scenes
    without a place have no outline and are left out.

    Raises:
        DataError: A file cannot be read.
    """
    grids: dict[Path, Grid] = {}  # blocks of one scene share its file
    placed: list[_Outline] = []
    unplaced: list[_Outline] = []
    for part, items in parts.items():
        for item in items:
            if item.image not in grids:
                grids[item.image] = _grid(item)
            outline = _Outline(item, part, grids[item.image])
            has_place = outline.grid.transform is not None and outline.grid.crs
            (placed if has_place else unplaced).append(outline)
    frames = [_ground(placed)] if placed else []
    return [*frames, *_pixels(unplaced)]


def _grid(item: SceneFiles) -> Grid:
    with open_file(item.image, root=item.root) as file:
        grid = grid_of(file)
    return grid if grid.points is None else Grid(grid.points_crs, grid.points, grid.shape)


def _ground(outlines: Sequence[_Outline]) -> Frame:
    systems = {outline.grid.crs for outline in outlines}
    crs = next(iter(systems))
    assert crs is not None
    if len(systems) > 1 or crs.is_geographic or not crs.is_projected:
        return _in_degrees(outlines)
    km = float(crs.linear_units_factor[1]) / 1000
    prints = tuple(_footprint(outline, outline.grid.transform, scale=km) for outline in outlines)
    return Frame("ground", "km", prints, crs.to_string()[:40])


def _in_degrees(outlines: Sequence[_Outline]) -> Frame:
    prints = []
    for outline in outlines:
        print_ = _footprint(outline, outline.grid.transform)
        try:
            corners, whole = (
                _to_degrees(c, outline.grid.crs) for c in (print_.corners, print_.whole)
            )
        except GDAL_ERRORS:
            continue  # a local grid has no place on the globe
        prints.append(print_._replace(corners=corners, whole=whole))
    longitudes = np.concatenate([p.whole[:, 0] for p in prints]) if prints else np.zeros(1)
    if np.ptp(longitudes) > np.ptp(longitudes % 360):  # across 180 degrees
        prints = [
            p._replace(corners=_eastward(p.corners), whole=_eastward(p.whole)) for p in prints
        ]
    return Frame("ground", "degrees", tuple(prints), WGS84)


def _to_degrees(corners: Corners, crs: CRS | None) -> Corners:
    return np.column_stack(transform(crs, WGS84, *corners.T))


def _eastward(corners: Corners) -> Corners:
    return np.column_stack([corners[:, 0] % 360, corners[:, 1]])


def _pixels(outlines: Sequence[_Outline]) -> Iterator[Frame]:
    """Yield a frame for each scene without a place that is divided into blocks."""
    by_scene: dict[str, list[_Outline]] = defaultdict(list)
    for outline in outlines:
        if outline.item.window is not None:
            by_scene[outline.item.id.rpartition("@")[0]].append(outline)
    for name, blocks in by_scene.items():
        yield Frame(name, "pixels", tuple(_footprint(outline, None) for outline in blocks))


def _footprint(outline: _Outline, affine: object, *, scale: float = 1.0) -> Footprint:
    height, width = outline.grid.shape
    rows, columns = outline.item.window or (slice(0, height), slice(0, width))
    inner = _corners(affine, rows.start, rows.stop, columns.start, columns.stop)
    whole = _corners(affine, 0, height, 0, width) * scale
    return Footprint(outline.part, inner * scale, whole, *_names_of(outline.item))


def _names_of(item: SceneFiles) -> tuple[str, str]:
    """Return the names of a scene and of the block that was cut from it."""
    if item.window is None:
        return item.id, ""
    scene, _, block = item.id.rpartition("@")
    return scene, block


def _corners(affine: object, top: float, bottom: float, left: float, right: float) -> Corners:
    pixels = [(left, top), (right, top), (right, bottom), (left, bottom)]
    if affine is None:
        return np.array(pixels, dtype=np.float64)
    return np.array([affine @ corner for corner in pixels], dtype=np.float64)  # type: ignore[operator]


def count_by_region(
    parts: Mapping[Split, Sequence[SceneFiles]],
) -> dict[str, dict[Split, int]]:
    """Return region -> part -> number of scenes; scenes without a region are under ""."""
    counts: dict[str, dict[Split, int]] = defaultdict(lambda: dict.fromkeys(parts, 0))
    for part, items in parts.items():
        for item in items:
            counts[item.region or ""][part] += 1
    return dict(sorted(counts.items()))
