"""Write vector files of outlines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import shapely


def write_outlines(
    path: Path,
    shapes: Sequence[Any],
    *,
    crs: str = "EPSG:32632",
    layer: str | None = None,
    kind: str = "Polygon",
    **columns: Sequence[Any],
) -> Path:
    """Write a vector file, without geopandas; a file that is there gets a further layer."""
    fields = {name: np.array(values) for name, values in columns.items()}
    pyogrio.raw.write(
        path,
        shapely.to_wkb(np.array(shapes, dtype=object)),
        list(fields.values()),
        list(fields),
        geometry_type=kind,
        crs=crs,
        layer=layer,
        driver="KML" if path.suffix == ".kml" else None,
        append=path.exists(),
    )
    return path
