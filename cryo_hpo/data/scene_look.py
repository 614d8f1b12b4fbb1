"""Look at one scene: what image and mask hold, and what they declare."""

# C bands, H W pixels

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.windows import Window
from scipy import ndimage

from ..errors import DataError
from .alignment import grid_of
from .mask_colors import number_of, palette_of
from .mask_labels import read_values
from .nodata import declared_nodata
from .safe_open import open_file

MAX_SIDE = 2048  # pixels read of a scene in each direction, at full resolution
MAX_VALUES = 64  # distinct values above which a file is not a mask


@dataclass(frozen=True, slots=True)
class SceneLook:
    """Hold what `Fingerprint` sums up, of one image and its mask."""

    size: tuple[int, int]
    bands: int
    names: tuple[str, ...]
    dtype: str
    percentiles: tuple[float, float]
    nodata: float | None
    crs: str
    gsd_m: float | None
    pixel_m: tuple[float, float] | None
    mask: Path
    values: Counter[float]
    fill: Counter[float]
    """Values that the mask declares as nodata."""
    diameters: list[float]
    alpha: bool
    unnumbered: float
    finest: int | None = None
    """Number of the band with the smallest pixels, if the bands' grids differ."""


def look_at(image: Path, mask: Path, *, colors: bool) -> SceneLook:
    """Open an image and its mask; of a large scene, the middle.

    Args:
        image: A raster of all bands, or the first band's.
        mask: Its mask.
        colors: Whether colors are the values of masks.

    Raises:
        DataError: A file cannot be read, pixels are no real numbers, or the mask is an image.
    """
    with open_file(image) as file:
        _refuse_complex(image, file)
        window = center_of(file.height, file.width)
        alpha = file.count in (2, 4) and file.colorinterp[-1] == ColorInterp.alpha
        pixels_CHW = file.read(list(range(1, file.count + 1 - alpha)), window=window)
        facts: dict[str, Any] = {
            "size": (file.height, file.width),
            "bands": file.count,
            "names": tuple(name or "" for name in file.descriptions),
            "dtype": file.dtypes[0],
            "nodata": file.nodata,
            "crs": file.crs.to_string() if file.crs else "",
            "gsd_m": grid_of(file).gsd_m,
            "pixel_m": grid_of(file).pixel_m,
        }
    finite = pixels_CHW[np.isfinite(pixels_CHW) & (pixels_CHW != facts["nodata"])]
    low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 0.0)
    with open_file(mask) as file:
        place = Window.from_slices(*center_of(file.height, file.width))
        labels_HW, unseen_HW = read_values(mask, file, place, colors=colors)
        nodata = _color_of_nodata(file) if colors else declared_nodata(file, 1)
    values = _count_values(mask, labels_HW[~unseen_HW])
    fill = Counter({value: n for value, n in values.items() if value == nodata})
    return SceneLook(
        **facts,
        percentiles=(float(low), float(high)),
        mask=mask,
        values=values - fill,
        fill=fill,
        diameters=_measure_objects(labels_HW, ~unseen_HW),
        alpha=alpha,
        unnumbered=_share_unnumbered(pixels_CHW, facts["nodata"]),
    )


def add_bands(look: SceneLook, files: Sequence[Path], names: tuple[str, ...]) -> SceneLook:
    """Return the look at the first band, with what the other bands' files add.

    Raises:
        DataError: A file cannot be read.
    """
    shapes, dtypes, ranges, grids, unnumbered = [], [], [], [], [look.unnumbered]
    for path in files:
        with open_file(path) as file:
            pixels_HW = file.read(1, window=center_of(file.height, file.width))
            seen = pixels_HW[np.isfinite(pixels_HW) & (pixels_HW != declared_nodata(file, 1))]
            ranges.append(np.percentile(seen, (1, 99)) if seen.size else np.zeros(2))
            shapes.append((file.height, file.width))
            unnumbered.append(_share_unnumbered(pixels_HW[None], declared_nodata(file, 1)))
            dtypes.append(file.dtypes[0])
            grids.append(grid_of(file))
    finest = int(np.argmax([height * width for height, width in shapes]))
    low, high = np.min([r[0] for r in ranges]), np.max([r[1] for r in ranges])
    return replace(
        look,
        size=shapes[finest],
        bands=len(files),
        names=names,
        dtype=np.result_type(*dtypes).name,
        percentiles=(float(low), float(high)),
        gsd_m=grids[finest].gsd_m,
        pixel_m=grids[finest].pixel_m,
        unnumbered=max(unnumbered),
        finest=finest if len(set(shapes)) > 1 else None,
    )


def _color_of_nodata(file: Any) -> int | None:
    """Return the color of a mask's declared nodata value, as a number."""
    nodata = declared_nodata(file, 1)
    if nodata is None or not 0 <= nodata <= 255:
        return None
    palette = palette_of(file) if file.count == 1 else {}
    return number_of(palette.get(int(nodata), (0, 0, 0)) if palette else [int(nodata)] * 3)


def _refuse_complex(path: Path, file: Any) -> None:
    """Refuse pixels that are no real numbers, such as single-look complex radar."""
    odd = [name for name in file.dtypes if np.dtype(name).kind not in "iuf"]
    if odd:
        raise DataError(
            f"{path}: pixels must be real numbers, these are {odd[0]}. Write what the model should "
            "see, such as the amplitude in decibels."
        )


def _count_values(mask: Path, labels: NDArray[Any]) -> Counter[float]:
    values, counts = np.unique(labels, return_counts=True)
    require_few(str(mask), len(values))
    return Counter(dict(zip(values.astype(float).tolist(), counts.tolist(), strict=True)))


def require_few(where: str, values: int) -> None:
    """Refuse more values than a mask of classes can have.

    Raises:
        DataError: There are more than `MAX_VALUES`.
    """
    if values > MAX_VALUES:
        raise DataError(
            f"{where}: {values} different values are too many for classes. Is this an image, or "
            "a mask that was resampled with interpolation, smoothed at edges, or compressed as JPEG?"
        )


def _measure_objects(labels_HW: NDArray[Any], seen_HW: NDArray[np.bool_]) -> list[float]:
    """Return the diameters of connected patches that are not the most frequent value.

    The diameter of a patch is that of a circle of equal area: 2 sqrt(area / pi).
    """
    values, counts = np.unique(labels_HW[seen_HW], return_counts=True)
    if not values.size:
        return []
    patches_HW, number = ndimage.label((labels_HW != values[counts.argmax()]) & seen_HW)
    areas = np.bincount(patches_HW.ravel())[1 : number + 1]
    return [float(2 * np.sqrt(area / np.pi)) for area in areas if area >= 4]


def center_of(height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the center of a scene, at most `MAX_SIDE` pixels wide and high."""
    top, left = max(0, (height - MAX_SIDE) // 2), max(0, (width - MAX_SIDE) // 2)
    return (top, min(height, top + MAX_SIDE)), (left, min(width, left + MAX_SIDE))


def _share_unnumbered(pixels_CHW: NDArray[Any], nodata: float | None) -> float:
    """Return the share of pixels that are NaN or infinite in a band; a declared NaN is no fault."""
    odd_HW = ~np.isfinite(pixels_CHW).all(axis=0)
    declared = nodata is not None and math.isnan(nodata)
    return float((np.isinf(pixels_CHW).any(axis=0) if declared else odd_HW).mean())
