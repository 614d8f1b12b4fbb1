"""The one reader of all datasets: windows of rasters to pixels and labels, every value checked."""

# C bands, H W pixels

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from ..errors import DataError
from .dataset import IGNORE, Scene, SceneFiles

Place = tuple[slice, slice]
"""Rows and columns of a scene."""

# Read in one piece, a PNG that is cut off gives whatever is in memory, and no error.
GDAL = {"GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterSchema:
    """What the files of a dataset may hold.

    Attributes:
        name: Of the dataset.
        bands: Names of an image's layers.
        classes: Names; the index is the mask value.
        codes: (mask value, class or `IGNORE`) of every other legal mask value.
        nan: Pixels without a number: refuse the file, or ignore those pixels.
        spare: Whether layers after those of `bands` are left out instead of refused.
    """

    name: str
    bands: tuple[str, ...]
    classes: tuple[str, ...]
    codes: tuple[tuple[int, int], ...] = ()
    nan: Literal["refuse", "ignore"] = "refuse"
    spare: bool = False

    @property
    def rules(self) -> str:
        """Return all that decides what a file is read as, besides names, as text."""
        return f"codes={self.codes} nan={self.nan} spare={self.spare}"

    @property
    def allowed(self) -> str:
        """Return the legal mask values and what they mean, for a message."""
        named = [f"{value} ({name})" for value, name in enumerate(self.classes)]
        meant = [
            f"{value} ({'ignore' if to == IGNORE else self.classes[to]})"
            for value, to in self.codes
        ]
        return ", ".join(named) + "".join(f" and {one}" for one in meant)


def read(legend: RasterSchema, item: SceneFiles, *, window: Place | None = None) -> Scene:
    """Decode one scene, or a window of it; pixels without data are 0 and ignored.

    Raises:
        DataError: A file is damaged, or holds what the legend says it cannot.
    """
    number = len(legend.bands)
    image_CHW, absent_HW = _layers(
        item.image,
        number=number,
        spare=legend.spare,
        window=window,
        law=f"an image of '{legend.name}' holds {number} bands ({' '.join(legend.bands)})",
        remedy="List every layer in 'bands', in the file's order.",
    )
    mask_HW = read_mask(legend, item, window=window)
    if image_CHW.shape[1:] != mask_HW.shape:
        (height, width), (mask_height, mask_width) = image_CHW.shape[1:], mask_HW.shape
        raise DataError(
            f"{item.mask}: a mask must be as large as its image of {height} x {width} pixels, "
            f"this one has {mask_height} x {mask_width}. Resample it to nearest neighbours."
        )
    absent_HW |= _not_finite(legend, item.image, image_CHW, absent_HW)
    image_CHW[:, absent_HW] = 0
    mask_HW[absent_HW] = IGNORE
    return Scene(item.id, image_CHW, mask_HW)


def read_mask(
    legend: RasterSchema, item: SceneFiles, *, window: Place | None = None
) -> NDArray[np.uint8]:
    """Decode the labels of a scene alone, (H, W); 255 is ignored.

    Raises:
        DataError: The file is damaged, or holds a value that the legend does not know.
    """
    labels_CHW, _ = _layers(
        item.mask,
        number=1,
        spare=False,
        window=window,
        law="a mask holds one layer of class numbers",
        remedy="Write class numbers, not colours.",
    )
    return _labels(legend, item.mask, labels_CHW[0])


def read_size(path: Path) -> tuple[int, int]:
    """Return height and width of a raster, pixels.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                return int(file.height), int(file.width)
    except RasterioError as error:
        raise damaged(path, error) from error


def footprint(path: Path, window: Place | None = None) -> tuple[float, float, float, float] | None:
    """Return west, south, east and north of a raster in degrees; None: it does not say."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                if file.crs is None or file.transform.is_identity:
                    return None
                rows, columns = window or (slice(0, file.height), slice(0, file.width))
                corners = product((columns.start, columns.stop), (rows.start, rows.stop))
                xs, ys = zip(*(file.transform @ corner for corner in corners), strict=True)
                around = (min(xs), min(ys), max(xs), max(ys))
                bounds = transform_bounds(file.crs, "EPSG:4326", *around)
    except RasterioError:
        return None
    west, south, east, north = bounds
    return west, south, east, north


def _layers(
    path: Path, *, number: int, spare: bool, window: Place | None, law: str, remedy: str
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the pixels (C, H, W), and where the file says that there are none (H, W)."""
    try:
        with warnings.catch_warnings(), rasterio.Env(**GDAL):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                alpha = file.count == number + 1 and file.colorinterp[-1] == ColorInterp.alpha
                enough = file.count >= number if spare else file.count == number + alpha
                if not enough or np.dtype(file.dtypes[0]).kind not in "iuf":
                    raise DataError(
                        f"{path}: {law}, this file has {file.count} layers of "
                        f"{file.dtypes[0]}. {remedy}"
                    )
                place = None if window is None else Window.from_slices(*window, *file.shape)
                pixels_CHW = file.read(list(range(1, number + 1)), window=place)
                layers = range(1, number + 1)
                return pixels_CHW, absent(file, layers, alpha=alpha, place=place)
    except RasterioError as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> DataError:
    """Return what to say of a raster that cannot be read."""
    return DataError(
        f"{path}: a raster must be readable to its last pixel: "
        f"{str(error.__cause__ or error).rstrip('.')}. "
        "Was it copied completely?"
    )


def absent(
    file: Any, layers: Sequence[int], *, alpha: bool, place: Window | None
) -> NDArray[np.bool_]:
    """Return the pixels without data by the file's own account: nodata, mask or transparency.

    Args:
        file: An open raster.
        layers: Which of its layers count, from 1.
        alpha: Whether its last layer is transparency.
        place: Part of the file; None: all of it.
    """
    shape = file.shape if place is None else (int(place.height), int(place.width))
    absent_HW: NDArray[np.bool_] = np.zeros(shape, dtype=np.bool_)
    if alpha:
        absent_HW |= file.read(file.count, window=place) == 0
    # Four layers of 8 bits are written as RGBA by default: then the last band is no transparency.
    if {MaskFlags.nodata, MaskFlags.per_dataset} & set(file.mask_flag_enums[0]) and (
        MaskFlags.alpha not in file.mask_flag_enums[0]
    ):
        absent_CHW = file.read_masks(list(layers), window=place) == 0
        # 0 in one band is a dark pixel, even where the file calls 0 nodata; -9999 is none.
        absent_HW |= absent_CHW.all(axis=0) if file.nodata == 0 else absent_CHW.any(axis=0)
    return absent_HW


def _not_finite(
    legend: RasterSchema, path: Path, image_CHW: NDArray[Any], absent_HW: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    bad_HW: NDArray[np.bool_] = ~np.isfinite(image_CHW).all(axis=0) & ~absent_HW
    if legend.nan == "refuse" and bad_HW.any():
        raise DataError(
            f"{path}: pixels must be finite, {int(bad_HW.sum())} of {bad_HW.size} are NaN or "
            "infinite. Write `nan: ignore` in the card to leave them out of loss and score."
        )
    return bad_HW


def _labels(legend: RasterSchema, path: Path, labels_HW: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the labels as classes, and 255 where they are ignored."""
    legal_HW = (
        (labels_HW >= 0) & (labels_HW < len(legend.classes)) & (labels_HW == np.floor(labels_HW))
    )
    mask_HW = np.where(legal_HW, labels_HW, IGNORE).astype(np.uint8)
    for value, meant in legend.codes:
        coded_HW = labels_HW == value
        mask_HW[coded_HW] = meant
        legal_HW |= coded_HW
    if legend.nan == "ignore":
        legal_HW |= ~np.isfinite(labels_HW)  # they are IGNORE already
    wrong = labels_HW[~legal_HW]
    if wrong.size:
        raise DataError(
            f"{path}: the mask holds the value {wrong[0]:g} ({wrong.size} pixels are wrong); "
            f"'{legend.name}' allows {legend.allowed}. Was it resampled with interpolation?"
        )
    return mask_HW
