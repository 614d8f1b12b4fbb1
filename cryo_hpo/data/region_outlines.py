"""Find the region of each scene on the ground: the outline that covers most of it names it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyogrio.raw
import shapely
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.crs import CRS
from rasterio.warp import transform_bounds

from ..config.region_outlines import RegionOutlines
from ..config.site import expand_path
from ..config.vector_layer import VectorLayer
from ..errors import DataError
from .alignment import GDAL_ERRORS, Grid, grid_of, require_proj
from .safe_open import open_file
from .vector import as_key, densify, only_areas, project
from .vector_file import (
    crs_of,
    describe_layer,
    read_shapes,
    require_degrees,
    require_kind,
    require_split_at_date_line,
    source_of,
)

SHOWN = 3  # scenes in a message; the others are counted
ROOM = 0.05  # around a scene, of its sides: outlines are cut there before they are reprojected
EDGE_POINTS = 51  # by which the curved edges of a scene on another coordinate system are found
SMALLEST_SHARE = 1e-6  # of a scene; outlines that only touch it have less by rounding


class Outlines(NamedTuple):
    """Hold the areas of a vector file, each with the name of its region ("": none)."""

    crs: CRS
    tree: shapely.STRtree
    names: tuple[str, ...]


def regions_on_ground(
    name: str, outlines: RegionOutlines, root: Path, scenes: Mapping[str, tuple[Path, Path | None]]
) -> dict[str, str]:
    """Return id -> region of every scene.

    Args:
        name: Name of the dataset, for messages.
        outlines: File, and the column that names regions.
        root: Folder of the dataset.
        scenes: Id -> image, and the folder that its VRTs must not leave.

    Raises:
        DataError: The file cannot be used, or scenes lie in no region, in several about equally, or
            nowhere known.
    """
    path = root / expand_path(outlines.file, os.environ, named="region_outlines.file")
    require_kind(path)
    stat = path.stat()
    areas = _read(path, outlines, (stat.st_size, stat.st_mtime_ns))
    shares = {
        scene: _shares(path, areas, _grid(image, inside))
        for scene, (image, inside) in scenes.items()
    }
    _require_region(name, path, outlines, shares)
    return {scene: next(iter(covered)) for scene, covered in shares.items()}


@lru_cache(maxsize=4)
def _read(path: Path, outlines: RegionOutlines, _state: tuple[int, int]) -> Outlines:
    """Read all areas of a layer; the same file is read once in a process."""
    layer = VectorLayer(file=path.name, layer=outlines.layer, label="region")
    info = describe_layer(path, layer)
    crs, fields = crs_of(path, info["crs"]), info["fields"]
    if outlines.attribute not in fields:
        raise DataError(
            f"{path}: no column named '{outlines.attribute}' (`attribute` of the card's "
            f"`region_outlines`). Columns: {', '.join(fields)}."
        )
    try:
        _, _, wkb, values = pyogrio.raw.read(
            source_of(path), layer=info["layer"], columns=[outlines.attribute], force_2d=True
        )
    except (DataSourceError, DataLayerError, ValueError) as error:
        raise DataError(f"{path}: cannot read its features: {error}.") from error
    shapes = read_shapes(path, wkb)
    require_degrees(path, shapes, crs)
    require_split_at_date_line(path, shapes, crs)
    shapes = only_areas(shapely.make_valid(shapes))
    keep = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    keep &= shapely.get_dimensions(shapes) == 2
    if not keep.any():
        raise DataError(f"{path}: holds no areas, so no scene lies in a region. Give polygons.")
    names = tuple(_name(value) for value, kept in zip(values[0], keep, strict=True) if kept)
    return Outlines(crs, shapely.STRtree(shapes[keep]), names)


def _name(value: object) -> str:
    missing = value is None or value != value  # a number that is not there is NaN
    return "" if missing else as_key(value).strip()


def _grid(image: Path, root: Path | None) -> Grid:
    with open_file(image, root=root) as file:
        grid = grid_of(file)
    if grid.points is not None:
        grid = Grid(grid.points_crs, grid.points, grid.shape)
    has_crs = grid.crs is not None and (grid.crs.is_geographic or grid.crs.is_projected)
    if grid.transform is None or not has_crs:
        raise DataError(
            f"{image}: `region_outlines` places scenes by their coordinates, and this image has no "
            "CRS and transform. Georeference it, or find regions in ids with `region`."
        )
    return grid


def _shares(path: Path, areas: Outlines, grid: Grid) -> dict[str, float]:
    """Return region -> share of the scene that its outlines cover, the largest first."""
    scene = shapely.Polygon(np.column_stack(grid.corners)[[0, 1, 3, 2]])
    covered: dict[str, list[shapely.Geometry]] = {}
    for box in _search_boxes(path, areas.crs, grid, scene):
        hits = sorted(areas.tree.query(box, predicate="intersects").tolist())
        near = shapely.intersection(areas.tree.geometries[hits], box)
        placed = only_areas(shapely.make_valid(project(densify(near), areas.crs, grid.crs)))
        for number, shape in zip(hits, shapely.intersection(placed, scene), strict=True):
            covered.setdefault(areas.names[number], []).append(shape)
    # Outlines of one region may overlap, such as those of several years.
    shares = {
        name: float(shapely.area(shapely.union_all(shapes))) / scene.area
        for name, shapes in covered.items()
    }
    real = [(name, share) for name, share in shares.items() if share > SMALLEST_SHARE]
    return dict(sorted(real, key=lambda pair: (-pair[1], pair[0])))


def _search_boxes(
    path: Path, crs: CRS, grid: Grid, scene: shapely.Polygon
) -> Iterator[shapely.Geometry]:
    """Yield a scene's box on the CRS of the outlines; in degrees, wherever 0 to 360 may put it."""
    try:
        west, south, east, north = transform_bounds(
            grid.crs, crs, *scene.bounds, densify_pts=EDGE_POINTS
        )
    except GDAL_ERRORS as error:
        require_proj()
        raise DataError(
            f"{path}: the outlines' coordinate system is not tied to the globe as the scenes' is. "
            "Set the right one with QGIS or ogr2ogr -a_srs."
        ) from error
    east += 360.0 * (crs.is_geographic and west > east)  # across the date line
    up, side = ROOM * (north - south), ROOM * (east - west)
    for turn in (-360.0, 0.0, 360.0) if crs.is_geographic else (0.0,):
        left, right = west - side + turn, east + side + turn
        yield shapely.box(left, south - up, right, north + up)


def _require_region(
    name: str, path: Path, outlines: RegionOutlines, shares: Mapping[str, Mapping[str, float]]
) -> None:
    """Refuse scenes that lie in no region, or in several about equally."""
    missing = [scene for scene, covered in shares.items() if not next(iter(covered), "")]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(shares)} scenes of '{name}' lie in no outline that has "
            f"a value in '{outlines.attribute}' (first: {', '.join(sorted(missing)[:SHOWN])}). Add "
            "outlines or values, or leave the scenes out."
        )
    unclear = {
        scene: covered
        for scene, covered in shares.items()
        if _lead(covered) < outlines.majority or _is_tie(covered)
    }
    if unclear:
        first = "; ".join(f"{scene}: {_words(unclear[scene])}" for scene in sorted(unclear)[:SHOWN])
        raise DataError(
            f"{path}: {len(unclear)} of {len(shares)} scenes of '{name}' lie in several regions, and "
            f"none has {100 * outlines.majority:.0f} % of their outlined ground ({first}). Name a "
            "column of larger areas, correct the outlines, or lower `majority` in `region_outlines`."
        )


def _lead(covered: Mapping[str, float]) -> float:
    """Return the share of the largest region in a scene's outlined ground."""
    return max(covered.values()) / sum(covered.values())


def _is_tie(covered: Mapping[str, float]) -> bool:
    first, second, *_ = (*covered.values(), 0.0)
    return second > first * (1 - SMALLEST_SHARE)


def _words(covered: Mapping[str, float]) -> str:
    whole = sum(covered.values())
    named = [
        f"'{name}' {100 * share / whole:.0f} %" for name, share in list(covered.items())[:SHOWN]
    ]
    return ", ".join([*named, *["..."] * (len(covered) > SHOWN)])
