"""Write outlines as a mask on the grid of an image, and count which of them lie on it."""

# H W pixels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pyogrio
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import RasterioError

from ..config.vector_layer import VectorLayer
from ..errors import DataError
from .dataset import IGNORE
from .safe_open import open_file
from .vector import Features, Grid, draw_features, rasterize_layers, read_features
from .vector_file import crs_of, describe_layer, source_of

SOURCE = "CRYO_HPO_OUTLINES"  # tag of a drawn mask: the file of its outlines
NUMBERS = [str(number) for number in range(256)]  # names of classes


class Extent(NamedTuple):
    """Hold the box around some outlines."""

    west: float
    south: float
    east: float
    north: float
    crs: CRS

    def __str__(self) -> str:
        digits = 4 if self.crs.is_geographic else 0
        west, south, east, north = (f"{edge:.{digits}f}" for edge in self[:4])
        return f"from {west} {south} to {east} {north} in {self.crs.to_string()[:40]}"


class Outlines(NamedTuple):
    """Describe the outlines of a layer that its condition selects."""

    ids: frozenset[int]
    extent: Extent | None
    """None: no outline has a place."""


class DrawnMask(NamedTuple):
    """Describe a mask of outlines.

    Attributes:
        file: The mask.
        share: Share of pixels that are neither 0 nor outside of the digitized area.
        ids: Outlines that reach into the image.
        cut: Number of those that reach beyond its edge.
        extent: Box around those outlines; None: there are none.
        contested: Share of pixels in outlines of several classes; the last in the file counts.
        repaired: Number of each of those whose area a repair changed -> what was wrong with it.
    """

    file: Path
    share: float
    ids: frozenset[int]
    cut: int
    extent: Extent | None
    contested: float = 0.0
    repaired: Mapping[int, str] = MappingProxyType({})


def refuse_replacing(masks: Sequence[Path]) -> None:
    """Refuse to replace files that were not drawn from outlines, such as masks drawn by hand.

    Raises:
        DataError: Such a file has the name of a mask.
    """
    for mask in masks:
        if mask.exists() and not _is_drawn(mask):
            raise DataError(
                f"{mask}: this file is there already, and is no mask that was drawn from outlines: it is "
                "not replaced. Give another folder to --out, or remove the file."
            )


def _is_drawn(mask: Path) -> bool:
    try:
        with open_file(mask) as file:
            return SOURCE in file.tags()
    except DataError:
        return False


def find_outlines(path: Path, layer: VectorLayer) -> Outlines:
    """Return which outlines a layer selects, wherever they lie, and their extent.

    Raises:
        DataError: See `vector_file.describe_layer`.
    """
    info = describe_layer(path, layer)
    crs = crs_of(path, info["crs"])
    ids, bounds_4N = pyogrio.read_bounds(source_of(path), layer=info["layer"], where=layer.where)
    return Outlines(frozenset(ids.tolist()), _extent(bounds_4N.T, crs))


def write_mask(
    outlines: Path, layer: VectorLayer, image: Path, mask: Path, *, within: Path | None = None
) -> DrawnMask:
    """Write outlines as a GeoTIFF mask on an image's grid; classes are named by numbers.

    Args:
        outlines: Vector file.
        layer: How to read it; its labels are the numbers "0" to "255".
        image: Georeferenced image.
        mask: File to write.
        within: Vector file of the area that was digitized; pixels outside are 255, no label.

    Raises:
        DataError: See `rasterize_layers`; or the mask would replace the image, or cannot be written.
    """
    if mask.absolute() == image.absolute():
        raise DataError(f"{mask}: the mask would replace the image. Give another folder to --out.")
    grid = Grid.of(image)
    features = read_features(outlines, layer, NUMBERS, grid)
    blank_HW = np.zeros((grid.height, grid.width), dtype=np.uint8)
    mask_HW = draw_features(blank_HW, features, grid, all_touched=layer.all_touched)
    drawn_HW = mask_HW > 0
    if within is not None:
        area = VectorLayer(file=within.name, label="1")
        outside_HW = rasterize_layers([(within, area)], ["0", "1"], grid) == 0
        mask_HW[outside_HW] = IGNORE
        drawn_HW &= ~outside_HW
    _write(mask, mask_HW, grid, source=outlines.name)
    contested = _contested(features, grid, all_touched=layer.all_touched)
    ids, cut, extent = _on_image(features, grid)
    repaired = {number: why for number, why in features.repaired.items() if number in ids}
    return DrawnMask(mask, float(drawn_HW.mean()), ids, cut, extent, contested, repaired)


def _contested(features: Features, grid: Grid, *, all_touched: bool) -> float:
    """Return the share of pixels that lie in outlines of several classes."""
    codes = np.unique(features.codes)
    blank_HW = np.zeros((grid.height, grid.width), dtype=np.uint8)
    times_HW = blank_HW
    for code in codes if len(codes) > 1 else ():
        own = features.codes == code
        ones = np.ones(int(own.sum()), dtype=np.uint8)
        of_class = Features(features.geometries[own], ones, features.ids[own])
        times_HW = times_HW + draw_features(blank_HW, of_class, grid, all_touched=all_touched)
    return float((times_HW > 1).mean())


def _write(mask: Path, mask_HW: NDArray[np.uint8], grid: Grid, *, source: str) -> None:
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "compress": "deflate"}
    place = {"crs": grid.crs, "transform": grid.transform}
    try:
        mask.parent.mkdir(parents=True, exist_ok=True)
        size = {"height": grid.height, "width": grid.width}
        with rasterio.open(mask, "w", **profile, **place, **size) as file:
            file.write(mask_HW, 1)
            file.update_tags(**{SOURCE: source})
    except (OSError, RasterioError) as error:
        raise DataError(f"{mask}: cannot write this mask: {error}. Free space.") from error


def _on_image(features: Features, grid: Grid) -> tuple[frozenset[int], int, Extent | None]:
    """Return the features that reach into an image, how many its edge cuts, and their extent."""
    corners = [(0, 0), (grid.width, 0), (grid.width, grid.height), (0, grid.height)]
    image = shapely.Polygon([grid.transform @ corner for corner in corners])
    on = shapely.intersects(features.geometries, image)
    inside = shapely.covered_by(features.geometries[on], image)
    extent = _extent(shapely.bounds(features.geometries[on]), grid.crs)
    return frozenset(features.ids[on].tolist()), int((~inside).sum()), extent


def _extent(bounds_N4: NDArray[np.float64], crs: CRS) -> Extent | None:
    # GDAL gives an empty outline the bounds 0, 0, 0, 0.
    placed_N4 = bounds_N4[np.isfinite(bounds_N4).all(axis=1) & bounds_N4.any(axis=1)]
    if not len(placed_N4):
        return None
    west, south = placed_N4[:, :2].min(axis=0).tolist()
    east, north = placed_N4[:, 2:].max(axis=0).tolist()
    return Extent(west, south, east, north, crs)
