"""Outline the classes of a map, and measure their areas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data.outlines import read_outlines, write_outlines
from ..errors import SpecError


def outline_map(
    mask: Path | str,
    out: Path | str,
    *,
    classes: Sequence[str],
    only: Sequence[str] = (),
    smallest_km2: float = 0.0,
    simplify_m: float = 0.0,
) -> dict[str, float]:
    """Write the polygons of a map to a GeoPackage, each with class, area and scene.

    Args:
        mask: A georeferenced map of class numbers, such as `predict_scene` writes.
        out: The GeoPackage, .gpkg.
        classes: Name of each class number.
        only: Classes to outline; empty: all but the first, which is the background.
        smallest_km2: Polygons of a smaller area are left out of the file, not of the sums.
        simplify_m: Tolerance of the simplification, meters; 0: along the pixels.

    Returns:
        Class -> its whole area on the ellipsoid, km2.

    Raises:
        SpecError: There is no such class.
        DataError: The map has no coordinates.
        StorageError: The file cannot be written.
    """
    mask, names = Path(mask), tuple(only) or tuple(classes[1:])
    wrong = [name for name in names if name not in classes]
    if wrong:
        message = f"There is no class '{wrong[0]}' to outline. Classes: {', '.join(classes)}."
        raise SpecError(message)
    values = [list(classes).index(name) for name in names]
    outlines = read_outlines(mask, values)
    write_outlines(
        outlines,
        Path(out),
        classes=classes,
        scene=mask.stem,
        smallest_km2=smallest_km2,
        simplify_m=simplify_m,
    )
    sums = [float(np.sum(outlines.areas_km2[outlines.values == value])) for value in values]
    return dict(zip(names, sums, strict=True))
