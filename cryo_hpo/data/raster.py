"""Decode scenes: windows of rasters to pixels and labels, every value checked."""

# C bands, H W pixels

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from ..errors import DataError, count_of
from .alignment import (
    GDAL_ERRORS,
    Grid,
    compare,
    covering_window,
    grid_of,
    warp_labels,
    window_grid,
)
from .band_stack import BandFiles, open_bands
from .dataset import IGNORE, Scene, SceneFiles, SceneHeader
from .layer_names import contradicts, layer_numbers
from .mask_labels import RasterSchema, read_labels, read_palette
from .nodata import find_absent
from .quality import read_poor
from .safe_open import open_file

# Source: ESA, Sentinel-2 products specification, processing baseline 04.00 of 2022-01-25: digital
# numbers are 1000 higher, so that dark pixels stay above 0.
BASELINE = re.compile(r"S2[A-D]_MSIL[12][AC]_.*?_N(\d{4})_")
BASELINE_OFFSET = -1000.0
RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
Place = tuple[slice, slice]
"""Rows and columns of a scene."""


def read_scene(schema: RasterSchema, item: SceneFiles, *, window: Place | None = None) -> Scene:
    """Decode one scene, or a window of it; pixels without data are 0 and ignored.

    A mask whose coordinates differ from its image's is warped to the image's
    grid with nearest neighbors.

    Raises:
        DataError: A file is damaged, or holds what the schema does not allow.
    """
    image_CHW, absent_HW, header, grid = _read_image(schema, item, window)
    mask_HW, notes, palette = _read_mask(schema, item, grid, window)
    absent_HW |= _not_finite(schema, item.image, image_CHW, absent_HW)
    image_CHW[:, absent_HW] = 0
    mask_HW[absent_HW] = IGNORE
    if item.quality is not None and schema.quality is not None:
        mask_HW[read_poor(schema.quality, item.quality, grid, window, root=item.root)] = IGNORE
    header = header._replace(notes=(*header.notes, *notes), palette=palette)
    return Scene(item.id, image_CHW, mask_HW, header, absent_HW)


def read_size(path: Path, *, root: Path | None = None) -> tuple[int, int]:
    """Return height and width of a raster, pixels.

    Raises:
        DataError: The file cannot be read.
    """
    with open_file(path, root=root) as file:
        return int(file.height), int(file.width)


def _read_image(
    schema: RasterSchema, item: SceneFiles, window: Place | None
) -> tuple[NDArray[Any], NDArray[np.bool_], SceneHeader, Grid]:
    """Return pixels (C, H, W), which of them have no data (H, W), the header, and the grid."""
    with open_image(schema, item) as file:
        layers, alpha, notes = _choose_layers(schema, item.image, file)
        place = None if window is None else Window.from_slices(*window, *file.shape)
        image_CHW = read_layers(file, layers, place)
        absent_HW = find_absent(
            file, image_CHW, layers, alpha=alpha, window=place, nodata=schema.nodata
        )
        header, grid = header_of(file, layers)._replace(notes=notes), grid_of(file)
    if schema.scale == "apply":
        image_CHW = apply_scale(image_CHW, header.scales, header.offsets)
    return image_CHW, absent_HW, header, grid


def open_image(schema: RasterSchema, item: SceneFiles) -> AbstractContextManager[Any]:
    """Open an image, or the files of its bands as one.

    Raises:
        DataError: A file is damaged, or bands do not lie on one grid.
    """
    if not item.band_files:
        return open_file(item.image, root=item.root)
    files = BandFiles(item.band_files, item.image, schema.resampling)
    return open_bands(files, root=item.root)


def _choose_layers(
    schema: RasterSchema, path: Path, file: Any
) -> tuple[Sequence[int], bool, tuple[str, ...]]:
    """Return the layers of the bands, whether a further one is transparency, and warnings.

    Layers that the file itself names as all of the bands are used by their names.

    Raises:
        DataError: The file has other layers.
    """
    number = len(schema.bands)
    alpha = file.count == number + 1 and file.colorinterp[-1] == ColorInterp.alpha
    enough = file.count >= number if schema.spare else file.count == number + alpha
    named = layers_by_name(schema.band_names, file) if schema.by_name else []
    if not (enough or named) or {np.dtype(name).kind for name in file.dtypes} - set("iuf"):
        raise DataError(
            f"{path}: an image of '{schema.name}' holds {count_of(number, 'band')} "
            f"({' '.join(schema.bands)}), this file has {count_of(file.count, 'layer')} of "
            f"{file.dtypes[0]}. List every layer in 'bands', in the file's order."
        )
    usual = list(range(1, number + 1))
    if not named or named == usual:
        return usual, alpha, ()
    remedy = "`layer_names: ignore` if the names are wrong"
    return named, alpha, (describe_names(schema.bands, file, named, remedy=remedy),)


def describe_names(bands: Sequence[str], file: Any, layers: Sequence[int], *, remedy: str) -> str:
    """Return the warning that layers are read by their names in the file, in another order."""
    names = " ".join(names_of(file, range(1, file.count + 1)))
    return (
        f"the file calls its layers {names}: bands {' '.join(bands)} are read by these names, from "
        f"layers {', '.join(map(str, layers))}, not in their order ({remedy})"
    )


def layers_by_name(bands: Sequence[Sequence[str]], file: Any) -> list[int]:
    """Return the layers, from 1, that a file names as the bands; empty if their order fits, or none do.

    Args:
        bands: All names of each band, the sensor's own first.
        file: An open raster.
    """
    names = names_of(file, range(1, file.count + 1))
    same = len(names) == len(bands)
    if not any(names) or (same and not contradicts(names, bands)):
        return []
    return layer_numbers(names, bands)


def common_type(file: Any, layers: Sequence[int]) -> str:
    """Return the data type that holds the values of some layers, from 1: those of a VRT may differ."""
    return np.result_type(*(np.dtype(file.dtypes[layer - 1]) for layer in layers)).name


def read_layers(file: Any, layers: Sequence[int], window: Window | None) -> NDArray[Any]:
    """Return layers of an open raster, from 1, in a data type that holds them all, (C, H, W)."""
    if len({file.dtypes[layer - 1] for layer in layers}) == 1:
        pixels_CHW: NDArray[Any] = file.read(list(layers), window=window)
        return pixels_CHW
    dtype = common_type(file, layers)
    return np.stack([file.read(layer, window=window).astype(dtype) for layer in layers])


def header_of(file: Any, layers: Sequence[int]) -> SceneHeader:
    """Return the metadata of some layers of an open raster, counted from 1."""
    names, grid = names_of(file, layers), grid_of(file)
    return SceneHeader(
        dtype=common_type(file, layers),
        scales=tuple(float(file.scales[layer - 1]) for layer in layers),
        offsets=_offsets(file, layers),
        names=names if any(names) else (),
        gsd_m=grid.gsd_m,
        pixel_m=grid.pixel_m,
    )


def _offsets(file: Any, layers: Sequence[int]) -> tuple[float, ...]:
    """Return the offsets that a file declares, or that Sentinel-2's baseline in its path implies."""
    offsets = tuple(float(file.offsets[layer - 1]) for layer in layers)
    baseline = BASELINE.search(str(file.name))
    untagged = not any(offsets) and all(file.scales[layer - 1] == 1 for layer in layers)
    if baseline is None or int(baseline[1]) < 400 or not untagged:
        return offsets
    return (BASELINE_OFFSET,) * len(offsets)


def names_of(file: Any, layers: Sequence[int]) -> tuple[str, ...]:
    """Return what an open raster calls some of its layers, from 1; "" for a layer without a name."""
    names = tuple(file.descriptions[layer - 1] or "" for layer in layers)
    return names if any(names) else _color_names(file, layers)


def _color_names(file: Any, layers: Sequence[int]) -> tuple[str, ...]:
    """Return the colors that a file declares for its layers; none for GDAL's red, green and blue.

    GDAL declares any three layers of 8 bits as red, green and blue, so only another order shows
    the author's intent.
    """
    kinds = tuple(file.colorinterp[layer - 1] for layer in layers)
    if not set(kinds) <= set(RGB) or kinds[:3] == RGB:
        return ()
    return tuple(kind.name for kind in kinds)


def apply_scale(
    image_CHW: NDArray[Any], scales: Sequence[float], offsets: Sequence[float]
) -> NDArray[np.float32]:
    """Return stored numbers as physical values: number * scale + offset, band by band."""
    scaled_CHW = image_CHW.astype(np.float32)
    for band_HW, scale, offset in zip(scaled_CHW, scales, offsets, strict=True):
        band_HW *= np.float32(scale)
        band_HW += np.float32(offset)
    return scaled_CHW


def _read_mask(
    schema: RasterSchema, item: SceneFiles, image: Grid, window: Place | None
) -> tuple[NDArray[np.uint8], list[str], tuple[tuple[int, str], ...]]:
    """Return labels on the image's grid, (H, W), warnings, and the colors of the mask's palette."""
    with open_file(item.mask, root=item.root) as file:
        mask = grid_of(file)
        try:
            warps, note = compare(image, mask)
        except DataError as error:
            raise DataError(f"{item.mask}: {error}") from error
        target = image if window is None else window_grid(image, *window)
        part = window
        if warps and window is not None:  # of a large mask, only what covers the window
            part = covering_window(mask, target)
            mask = window_grid(mask, *part)
        place = None if part is None else Window.from_slices(*part, *file.shape)
        labels_HW, notes = read_labels(schema, item.mask, file, place)
        palette = read_palette(schema, file, place)
    notes = [note, *notes] if note else notes
    if not warps:
        return labels_HW, notes, palette
    try:
        warped_HW = warp_labels(labels_HW, mask, target)
    except GDAL_ERRORS as error:
        raise DataError(
            f"{item.mask}: cannot warp the mask to its image's grid: {error}. Write both in one "
            "coordinate system."
        ) from error
    if window is None and (warped_HW == IGNORE).all() and (labels_HW != IGNORE).any():
        raise DataError(
            f"{item.mask}: by their coordinates, this mask and its image {item.image.name} show "
            f"different ground (image: {_named(image)}; mask: {_named(mask)}). Correct the "
            "coordinate system (CRS) or transform of one, or remove both from the mask."
        )
    return warped_HW, notes, palette


def _named(grid: Grid) -> str:
    west, north = grid.transform @ (0, 0) if grid.transform else (0, 0)
    system = grid.crs.to_string()[:40] if grid.crs else "no CRS"
    return f"{system}, upper left {west:.10g} {north:.10g}"


def _not_finite(
    schema: RasterSchema, path: Path, image_CHW: NDArray[Any], absent_HW: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    if image_CHW.dtype.kind != "f":
        return np.zeros_like(absent_HW)
    bad_HW: NDArray[np.bool_] = ~np.isfinite(image_CHW).all(axis=0) & ~absent_HW
    if schema.nan == "refuse" and bad_HW.any():
        raise DataError(
            f"{path}: pixels must be finite, {int(bad_HW.sum())} of {bad_HW.size} are NaN or "
            "infinite. Write `nan: ignore` in the card to leave them out of loss and score."
        )
    return bad_HW
