"""Write the areas and fronts of a map as polygons and lines, for GIS programs."""

# N polygons, H W pixels

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
from rasterio.features import rasterize, shapes
from rasterio.transform import Affine
from rasterio.windows import Window

from ..errors import DataError, SpecError, StorageError
from ..storage.atomic import replacing
from .qgis_style import outline_style
from .safe_open import open_file
from .vector import area_km2, length_km

SUFFIX = ".gpkg"
# Meters of one degree of latitude on a sphere of 6,371 km: 2 pi 6371000 / 360.
METERS_PER_DEGREE = 111_195.0
ROWS = 512  # of a raster read at a time
FRONTS = "fronts"  # layer of the lines


class Outlines(NamedTuple):
    """Hold the polygons of a map.

    Attributes:
        shapes: Polygons, in the map's CRS.
        values: Class number of each.
        areas_km2: Area of each on the ellipsoid.
        crs: Coordinate reference system.
        pixel: Side of a pixel in the units of the CRS.
    """

    shapes: NDArray[np.object_]
    values: NDArray[np.int64]
    areas_km2: NDArray[np.float64]
    crs: CRS
    pixel: float


class Fronts(NamedTuple):
    """Hold the common edges of pairs of classes.

    Attributes:
        shapes: Lines, in the map's CRS.
        names: "ice|ocean" of each.
        values: Number of the first class of each.
        lengths_km: Length of each on the ellipsoid, as it is simplified.
    """

    shapes: NDArray[np.object_]
    names: tuple[str, ...]
    values: NDArray[np.int64]
    lengths_km: NDArray[np.float64]


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
        crs, pixel = file.crs, float(np.hypot(file.transform.a, file.transform.d))
    polygons = np.array([shape for shape, _ in pairs], dtype=np.object_)
    numbers = np.array([value for _, value in pairs], dtype=np.int64)
    return Outlines(polygons, numbers, area_km2(polygons, crs), crs, pixel)


def _polygons(file: Any, values: frozenset[int]) -> Iterator[tuple[Any, int]]:
    for geometry, value in shapes(rasterio.band(file, 1), transform=file.transform):
        if int(value) in values:
            yield shapely.geometry.shape(geometry), int(value)


def mean_within(outlines: Outlines, raster: Path) -> NDArray[np.float64]:
    """Return the mean of a raster's first layer within each polygon, (N,); nan where it has none.

    Args:
        outlines: Polygons of a map.
        raster: Layer of numbers on the map's grid.
    """
    num = len(outlines.shapes)
    sums_N, counts_N = np.zeros(num + 1), np.zeros(num + 1)
    tree = shapely.STRtree(outlines.shapes)
    with open_file(raster) as file:
        for top in range(0, file.height, ROWS):
            window = Window(0, top, file.width, min(ROWS, file.height - top))
            place = file.transform @ Affine.translation(0, top)
            corners = [place @ at for at in ((0, 0), (window.width, window.height))]
            numbers = tree.query(shapely.box(*np.ravel(corners)))
            if not len(numbers):
                continue
            values_HW = file.read(1, window=window)
            inside_HW = rasterize(
                [(outlines.shapes[n], int(n) + 1) for n in numbers],
                out_shape=values_HW.shape,
                transform=place,
                dtype="int32",
            )
            known_HW = np.isfinite(values_HW)
            ids, values = inside_HW[known_HW], values_HW[known_HW]
            sums_N += np.bincount(ids, weights=values, minlength=num + 1)
            counts_N += np.bincount(ids, minlength=num + 1)
    means_N: NDArray[np.float64] = np.full(num, np.nan)
    np.divide(sums_N[1:], counts_N[1:], out=means_N, where=counts_N[1:] > 0)
    return means_N


def find_fronts(
    outlines: Outlines, pairs: Sequence[tuple[str, int, int]], *, simplify_m: float = 0.0
) -> Fronts:
    """Return the common edges of pairs of classes as lines.

    Args:
        outlines: Polygons of both classes of every pair.
        pairs: Name, and the two class numbers.
        simplify_m: Tolerance of the simplification, meters, at least one pixel: along the sides of
            pixels a slanted line is up to 41 % too long.
    """
    lines: list[Any] = []
    names: list[str] = []
    values: list[int] = []
    tolerance = max(simplify_m / _meters(outlines.crs), outlines.pixel)
    for name, first, second in pairs:
        edges = [
            shapely.boundary(shapely.union_all(outlines.shapes[outlines.values == value]))
            for value in (first, second)
        ]
        shared = shapely.line_merge(_lines(shapely.intersection(*edges)))
        parts = shapely.get_parts(shapely.simplify(shared, tolerance))
        lines += parts.tolist()
        names += [name] * len(parts)
        values += [first] * len(parts)
    fronts = np.array(lines, dtype=np.object_)
    return Fronts(
        fronts, tuple(names), np.array(values, dtype=np.int64), length_km(fronts, outlines.crs)
    )


def _lines(shape: Any) -> Any:
    """Return only the lines of an intersection, which may touch in points too."""
    parts = shapely.get_parts(shape)
    lines = parts[shapely.get_dimensions(parts) == 1]
    return shapely.multilinestrings(lines) if len(lines) else shapely.MultiLineString()


def write_outlines(  # noqa: PLR0913 (all but two by name)
    outlines: Outlines,
    path: Path,
    *,
    classes: Sequence[str],
    scene: str,
    date: str | None = None,
    confidence: NDArray[np.float64] | None = None,
    fronts: Fronts | None = None,
    smallest_km2: float = 0.0,
    simplify_m: float = 0.0,
    styles: bool = False,
) -> int:
    """Write polygons, and a layer of fronts; return the number of polygons.

    Polygons have `class`, `value`, `area_km2`, `confidence`, `scene` and `date`, fronts `class`
    (both), `value`, `length_km`, `scene` and `date`.

    Args:
        outlines: Polygons of a map; areas are theirs, before they are simplified.
        path: A GeoPackage, .gpkg.
        classes: Name of each class number.
        scene: Name of the scene, for the table.
        date: Date of the scene, 2024-01-31; None: unknown, and an empty text.
        confidence: Mean probability of the class in each polygon; None: no such field.
        fronts: Lines; None: no such layer.
        smallest_km2: Polygons of a smaller area are left out.
        simplify_m: Tolerance of the simplification, meters; neighbors keep their common edges
            (`shapely.coverage_simplify`: triangles up to this squared are taken off). 0: as the
            pixels are.
        styles: Whether the QGIS styles are in the file, in a table `layer_styles`; it makes readers
            ask which layer they are to read.

    Raises:
        StorageError: The file cannot be written.
    """
    kept = outlines.areas_km2 >= smallest_km2
    polygons, values = outlines.shapes[kept], outlines.values[kept]
    if simplify_m and len(polygons):
        polygons = shapely.coverage_simplify(polygons, simplify_m / _meters(outlines.crs))
    origin = {"scene": scene, "date": date or ""}
    fields: dict[str, NDArray[Any]] = {
        "class": np.array([classes[value] for value in values], dtype=object),
        "value": values,
        "area_km2": outlines.areas_km2[kept],
        **({} if confidence is None else {"confidence": confidence[kept]}),
        **_repeated(origin, len(values)),
    }
    layers: list[tuple[str, NDArray[np.object_], Mapping[str, NDArray[Any]], str]]
    name = f"{path.stem}-polygons" if path.stem.lower() == FRONTS else path.stem
    layers = [(name, polygons, fields, "Polygon")]
    if fronts is not None:
        lines: dict[str, NDArray[Any]] = {
            "class": np.array(fronts.names, dtype=object),
            "value": fronts.values,
            "length_km": fronts.lengths_km,
            **_repeated(origin, len(fronts.values)),
        }
        layers.append((FRONTS, fronts.shapes, lines, "LineString"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as draft:
            file = draft.with_suffix(SUFFIX)  # GDAL warns of other names
            try:
                for number, (layer, shapes, table, kind) in enumerate(layers):
                    _write(
                        file,
                        shapes,
                        table,
                        layer=layer,
                        kind=kind,
                        crs=outlines.crs,
                        append=number > 0,
                    )
                if styles:
                    _write_styles(file, classes, [(layer, kind) for layer, _, _, kind in layers])
                file.replace(draft)
            finally:
                file.unlink(missing_ok=True)
    except (OSError, DataSourceError) as error:
        message = f"{path}: outlines must be writable: {error}. Free space, or choose another name."
        raise StorageError(message) from error
    return len(polygons)


def _repeated(values: Mapping[str, str], number: int) -> dict[str, NDArray[Any]]:
    return {name: np.array([value] * number, dtype=object) for name, value in values.items()}


def _meters(crs: CRS) -> float:
    """Return the length of one unit of a CRS, meters."""
    return METERS_PER_DEGREE if crs.is_geographic else 1.0


def _write(  # noqa: PLR0913 (all but three by name)
    file: Path,
    shapes: NDArray[np.object_],
    fields: Mapping[str, NDArray[Any]],
    *,
    layer: str,
    kind: str,
    crs: CRS,
    append: bool,
) -> None:
    pyogrio.raw.write(
        str(file),
        shapely.to_wkb(shapes),
        field_data=list(fields.values()),
        fields=np.array(list(fields), dtype=object),
        geometry_type=kind,
        crs=crs.to_wkt(),
        driver="GPKG",
        layer=layer,
        append=append,
    )


def _write_styles(file: Path, classes: Sequence[str], layers: Sequence[tuple[str, str]]) -> None:
    """Write the table in which QGIS looks for the style of each layer of a GeoPackage."""
    number = len(layers)
    styles = [
        outline_style(classes, geometry="fill" if kind == "Polygon" else "line")
        for _, kind in layers
    ]
    empty = np.array([""] * number, dtype=object)
    table: dict[str, NDArray[Any]] = {
        "f_table_catalog": empty,
        "f_table_schema": empty,
        "f_table_name": np.array([layer for layer, _ in layers], dtype=object),
        "f_geometry_column": np.array(["geom"] * number, dtype=object),
        "styleName": np.array(["classes"] * number, dtype=object),
        "styleQML": np.array(styles, dtype=object),
        "styleSLD": empty,
        "useAsDefault": np.array([True] * number),
        "description": empty,
        "owner": empty,
        "ui": empty,
        "update_time": np.array([np.datetime64("now", "ms")] * number),  # QGIS orders by it
    }
    pyogrio.raw.write(
        str(file),
        None,
        field_data=list(table.values()),
        fields=np.array(list(table), dtype=object),
        geometry_type=None,
        driver="GPKG",
        layer="layer_styles",
        append=True,
        layer_options={"FID": "id"},
    )
