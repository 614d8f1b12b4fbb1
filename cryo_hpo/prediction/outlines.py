"""Outline the classes and fronts of a map, and measure areas."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data.map_area import class_areas_km2, class_pixels, date_of
from ..data.outlines import find_fronts, mean_within, read_outlines, write_outlines
from ..data.qgis_style import outline_style, write_style
from ..errors import SpecError, StorageError

BETWEEN = "|"  # of the two classes whose common edge is a front
COLUMNS = ("scene", "date", "map", "class", "value", "pixels", "share", "area_km2")


def outline_map(  # noqa: PLR0913 (a public call; all but two by name)
    mask: Path | str,
    out: Path | str,
    *,
    classes: Sequence[str],
    only: Sequence[str] = (),
    smallest_km2: float = 0.0,
    simplify_m: float = 0.0,
    confidence: Path | str | None = None,
    scene: str | None = None,
) -> dict[str, float]:
    """Write the polygons of a map to a GeoPackage, each with class, area, scene and date.

    A QGIS style in the map's colors (.qml) lies beside the file; with fronts, or where the map of the
    same name has that style, the styles are in the file.

    Args:
        mask: A georeferenced map of class numbers, such as `predict_scene` writes.
        out: The GeoPackage, .gpkg.
        classes: Name of each class number.
        only: Classes to outline, and fronts as "ice|ocean": the common edge of two classes, as
            lines with their length in a layer `fronts`; empty: all classes but the first, which is
            the background.
        smallest_km2: Polygons of a smaller area are left out of the file, not of the sums.
        simplify_m: Tolerance of the simplification, meters; 0: along the pixels. Fronts are
            simplified by at least one pixel.
        confidence: Raster of the probability of the predicted class, on the map's grid; its mean is
            the field `confidence` of each polygon. None: no such field.
        scene: Name of the mapped scene, and of its date; None: the map's name.

    Returns:
        Class -> its whole area on the ellipsoid, km2; front -> its length, km.

    Raises:
        SpecError: There is no such class.
        DataError: The map has no coordinates.
        StorageError: The file cannot be written.
    """
    mask, out = Path(mask), Path(out)
    scene = mask.stem if scene is None else scene
    pairs = [_front(name, classes) for name in only if name not in classes and BETWEEN in name]
    fronts_named = {name for name, _, _ in pairs}
    names = [name for name in only if name not in fronts_named] or list(classes[1:]) * (not pairs)
    values = [_value(name, classes) for name in names]
    edges = {number for _, *numbers in pairs for number in numbers}
    every = read_outlines(mask, sorted({*values, *edges}))
    chosen = np.isin(every.values, values)
    outlines = every._replace(
        shapes=every.shapes[chosen], values=every.values[chosen], areas_km2=every.areas_km2[chosen]
    )
    shares_style = out.with_suffix("") == mask.with_suffix("")  # the map's .qml has this name
    fronts = find_fronts(every, pairs, simplify_m=simplify_m) if pairs else None
    write_outlines(
        outlines,
        out,
        classes=classes,
        scene=scene,
        date=date_of(scene),
        confidence=None if confidence is None else mean_within(outlines, Path(confidence)),
        fronts=fronts,
        smallest_km2=smallest_km2,
        simplify_m=simplify_m,
        styles=fronts is not None or shares_style,
    )
    if not shares_style:
        write_style(out, outline_style(classes))
    sums = [float(np.sum(outlines.areas_km2[outlines.values == value])) for value in values]
    sizes = dict(zip(names, sums, strict=True))
    if fronts is not None:
        of_front = np.array(fronts.names, dtype=object)
        sizes |= {n: float(fronts.lengths_km[of_front == n].sum()) for n, _, _ in pairs}
    return sizes


def require_classes(only: Sequence[str], classes: Sequence[str]) -> None:
    """Refuse names to outline that are neither classes nor fronts between two of them.

    Raises:
        SpecError: There is no such class.
    """
    for name in only:
        if name in classes or BETWEEN not in name:
            _value(name, classes)
        else:
            _front(name, classes)


def require_table(path: Path) -> None:
    """Refuse a name that is not of a CSV file.

    Raises:
        SpecError: Tables cannot be written with this suffix.
    """
    if path.suffix.lower() != ".csv":
        raise SpecError(f"{path}: a table of areas must end in .csv, not '{path.suffix}'.")


def write_areas(
    maps: Sequence[tuple[Path | str, Path | str]], out: Path | str, *, classes: Sequence[str]
) -> Path:
    """Write a table of the areas of maps as CSV: a row for each scene and class.

    Columns: scene, date (in the scene's name; else empty), map, class, value, pixels, share (of the
    pixels with data) and area_km2 on the ellipsoid (empty where the map has no coordinates).

    Args:
        maps: Scene and map of each.
        out: The table.
        classes: Name of each class number.

    Raises:
        SpecError: The table's name does not end in .csv.
        StorageError: The file cannot be written.
    """
    require_table(Path(out))
    rows: list[tuple[object, ...]] = []
    for scene, mask in maps:
        pixels_K = class_pixels(Path(mask), len(classes))
        areas_K = class_areas_km2(Path(mask), len(classes))
        for value, name in enumerate(classes):
            share = pixels_K[value] / max(int(pixels_K.sum()), 1)
            area = "" if areas_K is None else f"{areas_K[value]:.9g}"
            place = (Path(scene).stem, date_of(Path(scene).stem) or "", str(mask))
            rows.append((*place, name, value, int(pixels_K[value]), f"{share:.6g}", area))
    out = Path(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    except OSError as error:
        message = f"{out}: the table must be writable: {error}. Free space, or choose another name."
        raise StorageError(message) from error
    return out


def _front(name: str, classes: Sequence[str]) -> tuple[str, int, int]:
    first, _, second = name.partition(BETWEEN)
    return name, _value(first, classes), _value(second, classes)


def _value(name: str, classes: Sequence[str]) -> int:
    """Return the number of a class.

    Raises:
        SpecError: There is no such class.
    """
    if name not in classes:
        message = f"There is no class '{name}' to outline. Classes: {', '.join(classes)}."
        raise SpecError(message)
    return list(classes).index(name)
