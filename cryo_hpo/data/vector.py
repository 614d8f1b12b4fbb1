"""Rasterize outlines: features of a vector file to class numbers on the grid of an image."""

# H W pixels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pyogrio.raw
import rasterio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.warp import transform, transform_bounds

from ..config.vector_layer import VectorLayer
from ..errors import DataError
from .alignment import GDAL_ERRORS, require_proj
from .dataset import IGNORE
from .safe_open import open_file
from .vector_file import (
    crs_of,
    describe_layer,
    read_shapes,
    require_degrees,
    require_kind,
    require_sane_bounds,
    require_selection,
    require_split_at_date_line,
    source_of,
)

MAX_NAMED = 5  # values in a message
WGS84 = "EPSG:4326"  # a text: a broken PROJ must not fail the import
SEGMENT_SHARE = 1 / 50  # of the feature's extent: edges are split, as they bend when reprojected
IGNORE_WORD = "ignore"
SAME_AREA = 1e-4  # of a polygon: a repair that changes less is not worth a word


class Grid(NamedTuple):
    """Hold the pixel grid of an image."""

    crs: CRS
    transform: Affine
    height: int
    width: int

    @classmethod
    def of(cls, image: Path) -> Grid:
        """Return the grid of a georeferenced image.

        Raises:
            DataError: The image cannot be read, or has no georeference.
        """
        with open_file(image) as file:
            grid = cls(file.crs, file.transform, file.height, file.width)
        if grid.crs is None or grid.transform.is_identity:
            raise DataError(
                f"{image}: outlines cannot be placed on an image without CRS and transform. "
                "Georeference the image, or give raster masks."
            )
        return grid


class Features(NamedTuple):
    """Hold the geometries of one layer on an image's CRS, with the class number of each."""

    geometries: NDArray[np.object_]
    codes: NDArray[np.uint8]
    ids: NDArray[np.int64]
    """Numbers of the features in their layer."""
    repaired: Mapping[int, str] = MappingProxyType({})
    """Number of each polygon whose area a repair changed -> what was wrong with it, and where."""


def rasterize_layers(
    layers: Sequence[tuple[Path, VectorLayer]], classes: Sequence[str], grid: Grid
) -> NDArray[np.uint8]:
    """Return the class of every pixel, (H, W): the first class where no feature is.

    Layers are drawn in their order, and features of a layer in the order of the file: a later one
    covers an earlier one. Holes of a polygon show what lies below them.

    Args:
        layers: Vector files, and how to read each.
        classes: Class names; the index is the class number.
        grid: Pixel grid of the image.

    Raises:
        DataError: A file is missing or damaged, does not match its suffix, has no CRS, or has
            a feature without a class or without an area.
    """
    mask_HW = np.zeros((grid.height, grid.width), dtype=np.uint8)
    for path, layer in layers:
        features = read_features(path, layer, classes, grid)
        mask_HW = draw_features(mask_HW, features, grid, all_touched=layer.all_touched)
    return mask_HW


def draw_features(
    mask_HW: NDArray[np.uint8], features: Features, grid: Grid, *, all_touched: bool
) -> NDArray[np.uint8]:
    """Return a mask with the features of a layer drawn over it, (H, W)."""
    if not len(features.geometries):
        return mask_HW
    shapes = zip(features.geometries, features.codes.tolist(), strict=True)
    drawn_HW = rasterize(
        ((shape, code + 1) for shape, code in shapes),  # 0 is "not drawn": class 0 may be drawn
        out_shape=mask_HW.shape,
        transform=grid.transform,
        all_touched=all_touched,
        dtype=np.int16,
    )
    return np.where(drawn_HW > 0, drawn_HW - 1, mask_HW).astype(np.uint8)


def read_features(path: Path, layer: VectorLayer, classes: Sequence[str], grid: Grid) -> Features:
    """Read one layer: the features near the image, on its CRS, with the class number of each.

    Raises:
        DataError: See `rasterize_layers`.
    """
    require_kind(path)
    info = describe_layer(path, layer)
    name, crs = str(info["layer"]), crs_of(path, info["crs"])
    require_sane_bounds(path, name, crs)
    columns = [] if layer.attribute is None else [layer.attribute]
    if layer.attribute is not None and layer.attribute not in info["fields"]:
        raise DataError(
            f"{path}: no column named '{layer.attribute}'. Columns: {', '.join(info['fields'])}."
        )
    box = _search_box(path, grid, crs, layer.buffer_m)
    try:
        _, ids, wkb, values = pyogrio.raw.read(
            source_of(path),
            layer=name,
            columns=columns,
            where=layer.where,
            bbox=box,
            force_2d=True,
            return_fids=True,
        )
    except (DataSourceError, DataLayerError, ValueError) as error:
        raise DataError(f"{path}: cannot read its features: {error}.") from error
    if layer.where is not None and not len(wkb):
        require_selection(path, name, layer.where)
    codes = _codes(path, layer, classes, values[0] if columns else [None] * len(wkb))
    shapes = read_shapes(path, wkb)
    geometries = _place(path, shapes, crs, layer, grid)
    keep = ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
    return Features(geometries[keep], codes[keep], ids[keep], _faults(shapes, ids))


def _faults(shapes: NDArray[np.object_], ids: NDArray[np.int64]) -> dict[int, str]:
    """Return what is wrong with each polygon whose area a repair changes: a ring may touch itself."""
    wrong = np.flatnonzero(~(shapely.is_valid(shapes) | shapely.is_missing(shapes)))
    areas, repaired = shapely.area(shapes[wrong]), shapely.area(shapely.make_valid(shapes[wrong]))
    wrong = wrong[np.abs(areas - repaired) > SAME_AREA * repaired]
    reasons = shapely.is_valid_reason(shapes[wrong])
    return dict(zip(ids[wrong].tolist(), reasons.tolist(), strict=True))


def area_km2(geometries: NDArray[np.object_], crs: CRS) -> NDArray[np.float64]:
    """Return the area of each polygon in square kilometers.

    Every polygon is projected to the Lambert azimuthal equal-area projection around its own
    center, on the ellipsoid.

    Source: Snyder, "Map Projections: A Working Manual", USGS Professional Paper 1395, 1987, ch. 24.
    """
    return np.array([_area_km2(geometry, crs) for geometry in geometries], dtype=np.float64)


def _area_km2(geometry: Any, crs: CRS) -> float:
    lon, lat = (axis[0] for axis in transform(crs, WGS84, *_center(geometry)))
    local = CRS.from_proj4(f"+proj=laea +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m")
    return float(shapely.area(project(densify(geometry), crs, local))) / 1e6


def length_km(geometries: NDArray[np.object_], crs: CRS) -> NDArray[np.float64]:
    """Return the length of each line in kilometers, projected as in `area_km2`."""
    return np.array([_length_km(geometry, crs) for geometry in geometries], dtype=np.float64)


def _length_km(geometry: Any, crs: CRS) -> float:
    lon, lat = (axis[0] for axis in transform(crs, WGS84, *_center(geometry)))
    local = CRS.from_proj4(f"+proj=aeqd +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m")
    return float(shapely.length(project(densify(geometry), crs, local))) / 1e3


def _center(geometry: Any) -> tuple[list[float], list[float]]:
    west, south, east, north = shapely.bounds(geometry)
    return [(west + east) / 2], [(south + north) / 2]


def _search_box(
    path: Path, grid: Grid, crs: CRS, buffer_m: float
) -> tuple[float, float, float, float]:
    """Return the image's box on the CRS of the outlines, with a margin for the buffer.

    Raises:
        DataError: The outlines' CRS is a local one.
    """
    corners = rasterio.transform.array_bounds(grid.height, grid.width, grid.transform)
    try:
        west, south, east, north = transform_bounds(grid.crs, crs, *corners, densify_pts=51)
    except GDAL_ERRORS as error:
        require_proj()
        raise DataError(
            f"{path}: the outlines' CRS ({_first_line(crs.to_wkt())}) is not tied to the globe as the "
            "image's is, so they cannot be placed. Set the right one with QGIS or ogr2ogr -a_srs."
        ) from error
    room_x, room_y = 0.05 * (east - west), 0.05 * (north - south)
    if buffer_m:
        meters = 111_000.0 * 0.05 if crs.is_geographic else 1.0  # a degree of longitude at 87 deg
        room_x, room_y = room_x + buffer_m / meters, room_y + buffer_m / meters
    return west - room_x, south - room_y, east + room_x, north + room_y


def _first_line(text: str) -> str:
    return text.splitlines()[0][:60]


def _codes(
    path: Path, layer: VectorLayer, classes: Sequence[str], values: Sequence[Any]
) -> NDArray[np.uint8]:
    """Return the class number of every feature."""
    if layer.label is not None:
        return np.full(len(values), _code(layer.label, classes), dtype=np.uint8)
    names = [as_key(value) for value in values]
    unknown = sorted({name for name in names if name not in layer.labels})
    if unknown:
        shown = ", ".join(map(repr, unknown[:MAX_NAMED]))
        raise DataError(
            f"{path}: {len(unknown)} values of column '{layer.attribute}' have no class "
            f"({shown}). Give a number to each: --class VALUE=NUMBER, 255 for no label."
        )
    return np.array([_code(layer.labels[name], classes) for name in names], dtype=np.uint8)


def as_key(value: Any) -> str:
    """Return a column's value as YAML writes it: 1.0 and 1 are the same key."""
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value)


def _code(label: str, classes: Sequence[str]) -> int:
    return IGNORE if label == IGNORE_WORD else list(classes).index(label)


def _place(
    path: Path, shapes: NDArray[np.object_], crs: CRS, layer: VectorLayer, grid: Grid
) -> NDArray[np.object_]:
    """Return the shapes on the image's CRS, valid, and grown by the buffer."""
    flat = (shapely.get_dimensions(shapes) < 2) & ~shapely.is_missing(shapes)
    if flat.any() and not layer.buffer_m:
        raise DataError(
            f"{path}: {int(flat.sum())} features are lines or points, which cover no pixel. "
            "Give --buffer-m, the distance in meters to either side that a label reaches."
        )
    require_degrees(path, shapes, crs)
    require_split_at_date_line(path, shapes, crs)
    shapes = np.where(flat, shapes, only_areas(shapely.make_valid(shapes)))
    if layer.buffer_m:
        local = _local_crs(grid)
        grown = shapely.buffer(project(densify(shapes), crs, local), layer.buffer_m)
        placed: NDArray[np.object_] = project(grown, local, grid.crs)
    else:
        placed = project(densify(shapes), crs, grid.crs)
    return placed


def only_areas(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Return only the areas of repaired polygons: a spike becomes a line, which would be drawn."""

    def areas(shape: Any) -> Any:
        if shape is None or shape.geom_type != "GeometryCollection":
            return shape
        return shapely.union_all(
            [part for part in shape.geoms if shapely.get_dimensions(part) == 2]
        )

    repaired: NDArray[np.object_] = np.empty(len(shapes), dtype=np.object_)
    repaired[:] = [areas(shape) for shape in shapes]
    return repaired


def _local_crs(grid: Grid) -> CRS:
    """Return a projection in meters around the image, in which a buffer has its true width."""
    x, y = grid.transform @ (grid.width / 2, grid.height / 2)
    lon, lat = (axis[0] for axis in transform(grid.crs, WGS84, [x], [y]))
    return CRS.from_proj4(f"+proj=aeqd +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m")


def densify(shapes: Any) -> Any:
    """Split long edges: a straight edge on one CRS is a curve on another."""
    west, south, east, north = np.moveaxis(np.asarray(shapely.bounds(shapes)), -1, 0)
    extent = np.nan_to_num(np.maximum(east - west, north - south))
    return shapely.segmentize(shapes, np.maximum(extent * SEGMENT_SHARE, 1e-12))


def project(shapes: Any, source: CRS, target: CRS) -> Any:
    """Return geometries on another coordinate system, point by point."""
    if source == target:
        return shapes

    def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(transform(source, target, points[:, 0], points[:, 1]))

    return shapely.transform(shapes, move)
