"""Open files of outlines: choose the layer, and refuse what would be drawn at a wrong place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.crs import CRS
from rasterio.errors import CRSError

from ..config.vector_layer import VectorLayer
from ..errors import DataError
from .vector_zip import find_member, is_zipped, read_head

# The first bytes of each format: GDAL chooses a driver by content, and the VRT driver would open
# any other file or address that the content names.
_HEADS = {
    ".gpkg": (b"SQLite format 3\0",),
    ".shp": (b"\x00\x00\x27\x0a",),
    ".geojson": (b"{",),
    ".json": (b"{",),
    ".kml": (b"<?xml", b"<kml"),
}


def require_kind(path: Path) -> None:
    """Refuse a file that is missing, or whose content is not what its suffix says."""
    if not path.is_file():
        raise DataError(f"{path}: this file of outlines does not exist. Check `file` in the card.")
    if is_zipped(path):
        member = find_member(path, tuple(_HEADS))
        suffix, head = Path(member).suffix.lower(), read_head(path, member)
    else:
        suffix = path.suffix.lower()
        with path.open("rb") as file:
            head = file.read(4096)
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    right = any(head.startswith(start) for start in _HEADS[suffix])
    if not right or (suffix == ".kml" and b"<kml" not in head):
        raise DataError(
            f"{path}: the content is not what the suffix '{suffix}' says. "
            "Write the file again with QGIS or ogr2ogr."
        )


def source_of(path: Path) -> str:
    """Return a vector file as GDAL opens it: an archive's only one lies below /vsizip/."""
    if not is_zipped(path):
        return str(path)
    return f"/vsizip/{{{path.absolute()}}}/{find_member(path, tuple(_HEADS))}"


def describe_layer(path: Path, layer: VectorLayer) -> dict[str, Any]:
    """Return name, CRS and columns of the selected layer."""
    try:
        name = _choose_layer(path, layer.layer)
        info: dict[str, Any] = pyogrio.read_info(source_of(path), layer=name)
    except (DataSourceError, DataLayerError) as error:
        raise DataError(f"{path}: cannot read this vector file: {error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: a name of a layer or column is not UTF-8 ({error}). "
            "Write the file again with QGIS or ogr2ogr."
        ) from error
    return {"layer": name, "crs": info["crs"], "fields": [str(name) for name in info["fields"]]}


def _choose_layer(path: Path, wanted: str | None) -> str:
    """Return the requested layer, or the only one that holds features.

    Tables without geometry do not count, such as the styles that QGIS keeps in a GeoPackage.
    """
    names = [
        str(name) for name, geometry in pyogrio.list_layers(source_of(path)) if geometry is not None
    ]
    if wanted is not None:
        if wanted not in names:
            raise DataError(f"{path}: no layer named '{wanted}'. Layers: {', '.join(names)}.")
        return wanted
    filled = [name for name in names if pyogrio.read_info(source_of(path), layer=name)["features"]]
    if len(names) == 1 or len(filled) == 1:
        return (filled or names)[0]
    raise DataError(
        f"{path}: holds {len(names)} layers ({', '.join(names)}). Name one with --layer."
    )


def require_selection(path: Path, name: str, where: str) -> None:
    """Refuse a condition that no feature of the layer meets, wherever it lies."""
    *_, wkb, _ = pyogrio.raw.read(
        source_of(path), layer=name, columns=[], where=where, max_features=1
    )
    if not len(wkb):
        raise DataError(
            f"{path}: no feature meets the condition '{where}'. Correct `where`: dates are text "
            "such as '2015-01-01', and capitals count."
        )


def require_sane_bounds(path: Path, name: str, crs: CRS) -> None:
    """Refuse a layer in degrees whose features lie beyond them: none would be found near an image."""
    bounds = pyogrio.read_info(source_of(path), layer=name, force_total_bounds=True)["total_bounds"]
    if bounds is not None:
        require_degrees(path, np.array([shapely.box(*bounds)], dtype=np.object_), crs)


def read_shapes(path: Path, wkb: NDArray[np.object_]) -> NDArray[np.object_]:
    """Return the geometries of features.

    Raises:
        DataError: A geometry is damaged, or has infinite coordinates.
    """
    try:
        shapes: NDArray[np.object_] = shapely.from_wkb(wkb)
    except shapely.errors.GEOSException as error:
        raise DataError(
            f"{path}: a geometry cannot be read: {error}. Correct it in QGIS (Fix geometries)."
        ) from error
    bounds = shapely.bounds(shapes)
    wrong = np.isinf(bounds).any(axis=-1)
    if wrong.any():
        raise DataError(
            f"{path}: {int(wrong.sum())} features have infinite coordinates: they were reprojected "
            "from outside of their CRS's area. Write them again from the source."
        )
    return shapes


def crs_of(path: Path, words: str | None) -> CRS:
    """Return the CRS of a layer from its name or text.

    Raises:
        DataError: There is none, or PROJ does not know it.
    """
    if not words:
        raise DataError(
            f"{path}: the outlines name no CRS, so their place is unknown. "
            "Is the .prj file beside the .shp missing? Set the CRS with QGIS or ogr2ogr -a_srs."
        )
    try:
        return CRS.from_user_input(words)
    except CRSError as error:
        raise DataError(f"{path}: unknown CRS '{words[:80]}': {error}.") from error


def require_degrees(path: Path, shapes: NDArray[np.object_], crs: CRS) -> None:
    """Refuse coordinates that are no degrees under a CRS in degrees, such as GeoJSON in meters."""
    if not crs.is_geographic or not len(shapes):
        return
    west, south, east, north = np.nan_to_num(np.asarray(shapely.total_bounds(shapes), dtype=float))
    if min(west, south) < -361 or max(east, north) > 361 or max(-south, north) > 90.001:
        raise DataError(
            f"{path}: the outlines are in degrees by their CRS, and their coordinates reach from "
            f"{west:g} {south:g} to {east:g} {north:g}. Meters, or latitude before longitude? Set the "
            "right CRS: ogr2ogr -a_srs EPSG:... out.gpkg in.geojson."
        )


def require_split_at_date_line(path: Path, shapes: NDArray[np.object_], crs: CRS) -> None:
    """Refuse features in degrees that jump from one side of the date line to the other.

    Such an edge would be drawn the long way around the globe. Edges from 180 degrees west to 180
    degrees east do go around it, and along a pole, an edge is the pole itself.
    """
    if not crs.is_geographic or not len(shapes):
        return
    bounds = shapely.bounds(shapes)
    wide = shapes[np.nan_to_num(bounds[:, 2] - bounds[:, 0]) > 180]
    pieces = shapely.get_parts(wide)
    flat = shapely.get_dimensions(pieces) < 2
    lines = np.concatenate([shapely.get_rings(pieces[~flat]), pieces[flat]])
    points, of = shapely.get_coordinates(lines, return_index=True)
    meant = (np.abs(points[:, 1]) > 89.9) | (np.abs(points[:, 0]) > 179.9999)
    jumps = (np.abs(np.diff(points[:, 0])) > 180) & (of[1:] == of[:-1]) & ~(meant[1:] & meant[:-1])
    if jumps.any():
        raise DataError(
            f"{path}: features cross the date line in one piece: the longitude of an edge jumps by "
            f"more than 180 degrees ({int(jumps.sum())} edges). Split them: "
            "ogr2ogr -wrapdateline out.gpkg in.gpkg."
        )
