"""Compare the grids of an image and its mask, and warp a mask to its image's grid."""

# H W pixels

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import CRSError, RasterioError
from rasterio.transform import Affine, from_gcps
from rasterio.warp import reproject, transform, transform_bounds

from ..errors import DataError
from .dataset import IGNORE
from .safe_open import open_file

Box = tuple[float, float, float, float]
"""West, south, east and north."""
SAME_PX = 0.01  # coordinates written as text lose digits
HALF_PX = 0.5 + SAME_PX  # pixel-is-point against pixel-is-area
EDGE_POINTS = 33  # by which the curved edges of a window on another coordinate system are found
MARGIN_PX = 16  # around them
GDAL_ERRORS = (RasterioError, CRSError, CPLE_BaseError, ValueError)
METERS_PER_DEGREE = 111_320.0


class Grid(NamedTuple):
    """Hold the pixel grid of a raster."""

    crs: CRS | None
    transform: Affine | None
    """None: the raster has no transform."""
    shape: tuple[int, int]
    points: Affine | None = None
    """Transform fitted to ground control points, where they alone give the place."""
    points_crs: CRS | None = None

    @property
    def gsd_m(self) -> float | None:
        """Side of a square with the area of a pixel, meters; None if unknown."""
        meters = self._meters_per_unit()
        if meters is None or self.transform is None:
            return None
        return math.sqrt(abs(self.transform.determinant)) * math.sqrt(math.prod(meters))

    @property
    def pixel_m(self) -> tuple[float, float] | None:
        """Width and height of a pixel on the ground, meters; None if unknown."""
        meters = self._meters_per_unit()
        if meters is None or self.transform is None:
            return None
        t, (x, y) = self.transform, meters
        return math.hypot(t.a * x, t.d * y), math.hypot(t.b * x, t.e * y)

    def _meters_per_unit(self) -> tuple[float, float] | None:
        """Return the meters of a unit of the first and of the second coordinate; None if unknown."""
        if self.transform is None or self.crs is None:
            return None
        if self.crs.is_geographic:  # a degree of longitude shrinks with the cosine of the latitude
            height, width = self.shape
            latitude = (self.transform @ (width / 2, height / 2))[1]
            return METERS_PER_DEGREE * abs(math.cos(math.radians(latitude))), METERS_PER_DEGREE
        try:
            meters = float(self.crs.linear_units_factor[1])
        except (CRSError, ValueError, IndexError):
            return None
        return meters, meters

    @property
    def corners(self) -> tuple[list[float], list[float]]:
        """Coordinates of the outer corners."""
        assert self.transform is not None
        height, width = self.shape
        corners = [(0, 0), (width, 0), (0, height), (width, height)]
        xs, ys = zip(*(self.transform @ corner for corner in corners), strict=True)
        return list(xs), list(ys)


class Place(NamedTuple):
    """Hold the bounding box of a raster on the ground."""

    degrees: Box | None
    """In degrees; None: the coordinate system is not tied to the globe."""
    crs: str
    """Empty where the raster itself is in degrees."""
    native: Box | None
    """In the units of `crs`; None where that is degrees."""
    corners: tuple[float, ...] = ()
    """x, then y, of the corners of the first and the last row, in the units of the raster."""


def grid_of(file: Any) -> Grid:
    """Return the grid of an open raster; coordinate systems that PROJ cannot read count as none."""
    try:
        crs = file.crs
    except CRSError:
        crs = None
    if not file.transform.is_identity:
        return Grid(crs or None, file.transform, file.shape)
    points, points_crs = file.gcps
    fitted = from_gcps(points) if len(points) >= 3 else None
    return Grid(crs or None, None, file.shape, fitted, points_crs if fitted else None)


def compare(image: Grid, mask: Grid) -> tuple[bool, str]:
    """Return whether a mask must be warped to its image's grid, and a warning.

    Raises:
        DataError: The two cannot be compared; the message lacks the file.
    """
    if image.transform is None or mask.transform is None:
        if image.shape != mask.shape:
            raise _other_size(image, mask)
        return False, _compare_unplaced(image, mask)
    equal = image.shape == mask.shape
    if image.crs is None or mask.crs is None or image.crs == mask.crs:
        apart = _distance_px(image, mask.corners) if equal else math.inf
        return _judge(image, mask, apart, "")
    as_numbers = _distance_px(image, mask.corners) if equal else math.inf
    try:
        corners = transform(mask.crs, image.crs, *mask.corners)
        apart = _distance_px(image, corners) if equal else math.inf
    except GDAL_ERRORS as error:
        require_proj()
        if as_numbers > SAME_PX:
            raise DataError(
                f"the coordinate systems of image and mask cannot be compared ({error}). Write both "
                "in one, or remove the mask's."
            ) from error
        return False, "the mask has another coordinate system (CRS) at the same coordinates"
    if apart <= SAME_PX:
        return False, ""
    return _judge(image, mask, apart, " in another coordinate system (CRS)")


def _compare_unplaced(image: Grid, mask: Grid) -> str:
    """Return a warning about an image and a mask of one size, of which at least one has no transform.

    Raises:
        DataError: One has only ground control points, by which it does not lie on the other's grid.
    """
    for points, placed, what in ((image, mask, "image"), (mask, image, "mask")):
        if points.points is None or placed.transform is None:
            continue
        fitted = Grid(points.points_crs, points.points, points.shape)
        if fitted.crs != placed.crs or _distance_px(fitted, placed.corners) > HALF_PX:
            other = "mask" if what == "image" else "image"
            raise DataError(
                f"the {what} has its place by ground control points, and the {other} lies on a map "
                f"grid that does not fit them. Rectify the {what} (gdalwarp -tps), or write both on "
                "one grid."
            )
    placed, other = (image, "mask") if mask.transform is None else (mask, "image")
    turned = placed.transform
    if turned is None or (turned.e < 0 and not turned.b and not turned.d):
        return ""
    how = "from south to north" if not turned.b and not turned.d else "turned"
    own = "image" if other == "mask" else "mask"
    return (
        f"the {own} is stored {how}, and the {other} has no coordinates: rows are paired as they are "
        "stored; look at `cryo-hpo data show`"
    )


def same_grid(first: Grid, second: Grid) -> bool:
    """Return whether two rasters lie on one grid; without coordinates, of one size."""
    if first.shape != second.shape:
        return False
    if first.transform is None or second.transform is None:
        return True
    return first.crs == second.crs and _distance_px(first, second.corners) <= SAME_PX


def warp_labels(labels_HW: NDArray[np.uint8], mask: Grid, image: Grid) -> NDArray[np.uint8]:
    """Return labels on the image's grid, nearest neighbor; 255 where the mask does not reach.

    Raises:
        DataError: No labeled pixel of the mask lies on the image; the message lacks the file.
    """
    crs = image.crs or mask.crs or CRS.from_epsg(3857)
    warped_HW = np.full(image.shape, IGNORE, dtype=np.uint8)
    reproject(
        labels_HW,
        warped_HW,
        src_transform=mask.transform,
        src_crs=mask.crs or crs,
        dst_transform=image.transform,
        dst_crs=crs,
        src_nodata=IGNORE,
        dst_nodata=IGNORE,
        resampling=Resampling.nearest,
    )
    return warped_HW


def window_grid(grid: Grid, rows: slice, columns: slice) -> Grid:
    """Return the grid of a part of a raster."""
    top, bottom, _ = rows.indices(grid.shape[0])
    left, right, _ = columns.indices(grid.shape[1])
    moved = grid.transform and grid.transform @ Affine.translation(left, top)
    return Grid(grid.crs, moved, (bottom - top, right - left))


def covering_window(mask: Grid, target: Grid) -> tuple[slice, slice]:
    """Return rows and columns of a mask that hold all of a grid's ground, with a margin.

    At least one pixel, where the mask shows other ground.
    """
    assert mask.transform is not None
    assert target.transform is not None
    height, width = target.shape
    columns = np.linspace(0, width, EDGE_POINTS).tolist()
    rows = np.linspace(0, height, EDGE_POINTS).tolist()
    edges = [(x, y) for x in columns for y in (0, height)] + [
        (x, y) for x in (0, width) for y in rows
    ]
    xs, ys = zip(*(target.transform @ edge for edge in edges), strict=True)
    if mask.crs and target.crs and mask.crs != target.crs:
        xs, ys = transform(target.crs, mask.crs, xs, ys)
    inverse = ~mask.transform
    left, top = zip(*(inverse @ place for place in zip(xs, ys, strict=True)), strict=True)
    return _span(top, mask.shape[0]), _span(left, mask.shape[1])


def _span(places: Sequence[float], length: int) -> slice:
    """Return the range of pixels between the lowest and the highest place, within a side."""
    if not all(map(math.isfinite, places)):
        return slice(0, length)  # beyond the horizon of a projection: all of it
    start = min(max(math.floor(min(places)) - MARGIN_PX, 0), length - 1)
    return slice(start, max(min(math.ceil(max(places)) + MARGIN_PX, length), start + 1))


def place_of(
    path: Path, *, root: Path | None = None, window: tuple[slice, slice] | None = None
) -> Place | None:
    """Return the place of a raster or a window of it; None: no georeference, or damaged.

    Raises:
        DataError: PROJ, which converts coordinates, is broken.
    """
    try:
        with open_file(path, root=root) as file:
            grid = grid_of(file) if window is None else window_grid(grid_of(file), *window)
    except DataError:
        return None
    if grid.points is not None and window is None:
        grid = Grid(grid.points_crs, grid.points, grid.shape)
    if grid.crs is None or grid.transform is None:
        require_proj()
        return None
    if not (grid.crs.is_geographic or grid.crs.is_projected):
        return None  # a local grid: another with the same definition may lie anywhere
    xs, ys = grid.corners
    native = (min(xs), min(ys), max(xs), max(ys))
    if grid.crs.is_geographic and grid.crs.units_factor[0].lower().startswith("degree"):
        return Place(_on_globe(native), "", None, (*xs, *ys))
    try:
        degrees = transform_bounds(grid.crs, CRS.from_epsg(4326), *native)
    except GDAL_ERRORS:
        require_proj()
        return Place(None, grid.crs.to_wkt(), native, (*xs, *ys))
    west, south, east, north = degrees
    return Place((west, south, east, north), grid.crs.to_wkt(), native, (*xs, *ys))


def _on_globe(box: Box) -> Box:
    """Return a box in degrees with its west side in -180 to 180; west > east: across 180 degrees."""
    west, south, east, north = box
    if east - west >= 360:
        return (-180.0, south, 180.0, north)
    begin = (west + 180) % 360 - 180
    end = begin + (east - west)
    return (begin, south, end if end <= 180 else end - 360, north)


def require_proj() -> None:
    """Check that PROJ finds its database.

    Raises:
        DataError: PROJ does not find it.
    """
    try:
        CRS.from_epsg(4326)
    except CRSError as error:
        set_to = {
            name: os.environ[name] for name in ("PROJ_LIB", "PROJ_DATA") if name in os.environ
        }
        raise DataError(
            f"PROJ cannot read its database of coordinate systems ({error}). "
            f"PROJ_LIB and PROJ_DATA are set to {set_to or 'nothing'}; unset both."
        ) from error


def _distance_px(image: Grid, corners: tuple[list[float], list[float]]) -> float:
    """Return the largest distance of corners from the image's, in its pixels."""
    assert image.transform is not None
    inverse = ~image.transform
    height, width = image.shape
    own = [(0, 0), (width, 0), (0, height), (width, height)]
    apart = 0.0
    for x, y, (column, row) in zip(*corners, own, strict=True):
        moved = inverse @ (x, y)
        apart = max(apart, abs(moved[0] - column), abs(moved[1] - row))
    return apart if math.isfinite(apart) else math.inf


def _judge(image: Grid, mask: Grid, apart: float, system: str) -> tuple[bool, str]:
    if apart <= SAME_PX:
        return False, ""
    if apart <= HALF_PX:
        return False, (
            "image and mask are not aligned: by their coordinates they lie up to half a pixel "
            f"apart{system}; labels are used as they lie"
        )
    what = "of another size or pixel size"
    if image.shape == mask.shape:
        what = "shifted against its image, turned, or of another pixel size"
    return True, f"the mask is {what}{system}: it was warped to its image's grid (nearest neighbor)"


def _other_size(image: Grid, mask: Grid) -> DataError:
    (height, width), (mask_height, mask_width) = image.shape, mask.shape
    return DataError(
        f"a mask must be as large as its image of {height} x {width} pixels, this one has "
        f"{mask_height} x {mask_width}. Resample the mask to the image's grid with "
        "nearest-neighbor interpolation."
    )
