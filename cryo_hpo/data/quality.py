"""Read the quality layer of a scene: which pixels are clouds, shadows or missing."""

# H W pixels

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from ..config.band_files import QualityLayer
from ..errors import DataError
from .alignment import Grid, grid_of, same_grid
from .safe_open import open_file


def read_poor(
    rule: QualityLayer,
    path: Path,
    image: Grid,
    window: tuple[slice, slice] | None,
    *,
    root: Path | None = None,
) -> NDArray[np.bool_]:
    """Return which pixels a quality layer leaves out, (H, W), on the image's grid.

    Pixels that the layer does not cover are left out too.

    Args:
        rule: Content that is left out.
        path: The layer.
        image: Grid of the image.
        window: Rows and columns of the image; None: all.
        root: Folder that VRTs must not leave.

    Raises:
        DataError: The layer is damaged, no layer of whole numbers, or lies on another grid and
            has no coordinates.
    """
    place = None if window is None else Window.from_slices(*window, *image.shape)
    with open_file(path, root=root) as file:
        if file.count != 1 or np.dtype(file.dtypes[0]).kind not in "iu":
            raise DataError(
                f"{path}: a quality layer holds one layer of whole numbers, this file has "
                f"{file.count} of {file.dtypes[0]}. Correct `quality` in the card."
            )
        own = grid_of(file)
        if same_grid(image, own):
            return _poor(rule, file.read(1, window=place))
        if image.crs is None or own.crs is None or image.transform is None or own.transform is None:
            raise DataError(
                f"{path}: this quality layer has {own.shape[0]} x {own.shape[1]} pixels, its image "
                f"{image.shape[0]} x {image.shape[1]}, and they have no coordinates to compare. "
                "Write both on one grid."
            )
        height, width = image.shape
        grid = {"crs": image.crs, "transform": image.transform, "height": height, "width": width}
        how = {"resampling": Resampling.nearest, "src_nodata": None, "add_alpha": True}
        with WarpedVRT(file, **grid, **how) as warped:
            poor_HW = _poor(rule, warped.read(1, window=place))
            poor_HW |= warped.read(2, window=place) == 0
            return poor_HW


def _poor(rule: QualityLayer, values_HW: NDArray[np.integer]) -> NDArray[np.bool_]:
    if rule.ignored_bits:
        poor_HW: NDArray[np.bool_] = (values_HW & rule.ignored_bits) != 0
        return poor_HW
    return np.isin(values_HW, rule.ignored_values)
