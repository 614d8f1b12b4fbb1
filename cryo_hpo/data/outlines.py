"""Write the areas of a map as polygons, with class and area, for GIS programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyogrio.raw
import rasterio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataSourceError
from rasterio.crs import CRS
from rasterio.features import shapes

from ..errors import DataError, SpecError, StorageError
from ..storage.atomic import replacing
from .safe_open import open_file
from .vector import area_km2

SUFFIX = ".gpkg"
# Meters of one degree of latitude on a sphere of 6,371 km: 2 pi 6371000 / 360.
METERS_PER_DEGREE = 111_195.0


class Outlines(NamedTuple):
    """Hold the polygons of a map.

    Attributes:
        shapes: Polygons, in the map's CRS.
        values: Class number of each.
        areas_km2: Area of each on the ellipsoid.
        crs: Coordinate reference system.
    """

    shapes: NDArray[np.object_]
    values: NDArray[np.int64]
    areas_km2: NDArray[np.float64]
    crs: CRS


def require_suffix(path: Path) -> None:
    """Refuse a name that is not of a GeoPackage.

    Raises:
        SpecError: Outlines cannot be written with this suffix.
    """
    if path.suffix.lower() != SUFFIX:
        raise SpecError(f"{path}: outlines must end in {SUFFIX} (GeoPackage), not '{path.suffix}'.")


def require_coordinates(raster: Path) -> None:
    """Refuse a raster whose pixels have no coordinates.

    Raises:
        DataError: The raster has no CRS or transform, or cannot be read.
    """
    with open_file(raster) as file:
        if file.crs is None or file.transform.is_identity:
            message = (
                f"{raster}: outlines have coordinates, and this raster has none. Georeference the "
                "scene, or leave out --vector."
            )
            raise DataError(message)


def read_outlines(mask: Path, values: Sequence[int]) -> Outlines:
    """Return the polygons of connected pixels (by edges) of some classes of a map.

    Args:
        mask: A map of class numbers, georeferenced.
        values: Class numbers to outline.

    Raises:
        DataError: The map has no CRS.
    """
    require_coordinates(mask)
    with open_file(mask) as file:
        pairs = list(_polygons(file, frozenset(values)))
        crs = file.crs
    polygons = np.array([shape for shape, _ in pairs], dtype=np.object_)
    numbers = np.array([value for _, value in pairs], dtype=np.int64)
    return Outlines(polygons, numbers, area_km2(polygons, crs), crs)


def _polygons(file: Any, values: frozenset[int]) -> Iterator[tuple[Any, int]]:
    for geometry, value in shapes(rasterio.band(file, 1), transform=file.transform):
        if int(value) in values:
            yield shapely.geometry.shape(geometry), int(value)


def write_outlines(
    outlines: Outlines,
    path: Path,
    *,
    classes: Sequence[str],
    scene: str,
    smallest_km2: float = 0.0,
    simplify_m: float = 0.0,
) -> int:
    """Write polygons with `class`, `value`, `area_km2` and `scene`, and return their number.

    Args:
        outlines: Polygons of a map; areas are theirs, before they are simplified.
        path: A GeoPackage, .gpkg.
        classes: Name of each class number.
        scene: Name of the scene, for the table.
        smallest_km2: Polygons of a smaller area are left out.
        simplify_m: Tolerance of the simplification, meters; neighbors keep their common edges
            (`shapely.coverage_simplify`: triangles up to this squared are taken off). 0: as the
            pixels are.

    Raises:
        StorageError: The file cannot be written.
    """
    kept = outlines.areas_km2 >= smallest_km2
    polygons, values = outlines.shapes[kept], outlines.values[kept]
    if simplify_m and len(polygons):
        degrees = METERS_PER_DEGREE if outlines.crs.is_geographic else 1.0
        polygons = shapely.coverage_simplify(polygons, simplify_m / degrees)
    fields: Mapping[str, NDArray[Any]] = {
        "class": np.array([classes[value] for value in values], dtype=object),
        "value": values,
        "area_km2": outlines.areas_km2[kept],
        "scene": np.array([scene] * len(values), dtype=object),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as draft:
            file = draft.with_suffix(SUFFIX)  # GDAL warns of other names
            _write(file, polygons, fields, crs=outlines.crs, layer=path.stem)
            file.replace(draft)
    except (OSError, DataSourceError) as error:
        message = f"{path}: outlines must be writable: {error}. Free space, or choose another name."
        raise StorageError(message) from error
    return len(polygons)


def _write(
    file: Path,
    polygons: NDArray[np.object_],
    fields: Mapping[str, NDArray[Any]],
    *,
    crs: CRS,
    layer: str,
) -> None:
    pyogrio.raw.write(
        str(file),
        shapely.to_wkb(polygons),
        field_data=list(fields.values()),
        fields=np.array(list(fields), dtype=object),
        geometry_type="Polygon",
        crs=crs.to_wkt(),
        driver="GPKG",
        layer=layer,
    )
