"""Read bands that lie in files of their own as one raster, on the grid of one of them."""

# C bands, H W pixels

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from ..errors import DataError
from .alignment import Grid, grid_of, same_grid
from .nodata import declared_nodata
from .safe_open import open_file


class BandFiles(NamedTuple):
    """Name the files of one scene's bands, and how they come to one grid."""

    paths: tuple[Path, ...]
    """One file for each band."""
    grid: Path
    """The file whose grid all bands get."""
    resampling: str | None
    """Interpolation of bands on other grids; None: such bands are refused."""


class BandStack:
    """Answer as an open raster does, with one layer for each file.

    It has the part of rasterio's interface that this package reads: layers are counted from 1, a
    band on another grid is resampled as it is read, and pixels that it does not cover are masked.
    """

    def __init__(self, files: Sequence[Any], warped: Sequence[Any], cover: Sequence[Any]) -> None:
        """Hold the open files.

        Args:
            files: One for each band, as they are.
            warped: The same on the common grid; the file itself where it lies on it.
            cover: Readers of the cover of warped bands; None for bands on the grid.
        """
        self._files, self._warped, self._cover = files, warped, cover
        first = next(file for file, other in zip(files, cover, strict=True) if other is None)
        self.name = str(first.name)
        self.crs, self.transform, self.shape = first.crs, first.transform, first.shape
        self.height, self.width = first.shape
        self.gcps = first.gcps
        self.count = len(files)
        self.dtypes = [np.result_type(*(file.dtypes[0] for file in files)).name] * len(files)
        self.descriptions = [file.descriptions[0] for file in files]
        self.scales = [file.scales[0] for file in files]
        self.offsets = [file.offsets[0] for file in files]
        self.nodatavals = [declared_nodata(file, 1) for file in files]
        self.colorinterp = [ColorInterp.undefined] * len(files)
        self.mask_flag_enums = [[MaskFlags.per_dataset]] * len(files)

    def tags(self, layer: int | None = None, **_: Any) -> dict[str, str]:
        """Return the tags of a layer's file; none of the whole."""
        return {} if layer is None else dict(self._files[layer - 1].tags(1))

    def read(self, layers: Sequence[int], window: Window | None = None) -> NDArray[Any]:
        """Return layers, (C, H, W), in a data type that holds them all."""
        bands = [self._warped[layer - 1].read(1, window=window) for layer in layers]
        return np.stack([band.astype(self.dtypes[0], copy=False) for band in bands])

    def read_masks(self, _layer: int, window: Window | None = None) -> NDArray[np.uint8]:
        """Return 255 where every band has pixels and 0 elsewhere, (H, W)."""
        shape = self.shape if window is None else (int(window.height), int(window.width))
        seen_HW = np.full(shape, 255, dtype=np.uint8)
        for file, cover in zip(self._files, self._cover, strict=True):
            if cover is not None:
                seen_HW &= cover.read(2, window=window)
            elif MaskFlags.per_dataset in file.mask_flag_enums[0]:
                seen_HW &= file.read_masks(1, window=window)
        return seen_HW


@contextmanager
def open_bands(bands: BandFiles, *, root: Path | None = None) -> Iterator[BandStack]:
    """Open files of one band each as one raster.

    Args:
        bands: The files and their grid.
        root: Folder that VRTs must not leave.

    Raises:
        DataError: A file is damaged or has several layers, or grids differ without `resampling`.
    """
    paths, grid, resampling = bands
    with ExitStack() as stack:
        files = [stack.enter_context(open_file(path, root=root)) for path in paths]
        _require_one_layer(paths, files)
        target = grid_of(files[paths.index(grid)])
        warped: list[Any] = []
        cover: list[Any] = []
        for path, file in zip(paths, files, strict=True):
            if same_grid(target, grid_of(file)):
                warped.append(file)
                cover.append(None)
                continue
            _require_warp(path, file, grid, target, resampling)
            nodata = declared_nodata(file, 1)
            how = {**_profile(target), "resampling": Resampling[str(resampling)]}
            warped.append(
                stack.enter_context(WarpedVRT(file, **how, src_nodata=nodata, nodata=nodata))
            )
            reach = {**_profile(target), "src_nodata": None, "add_alpha": True}
            cover.append(stack.enter_context(WarpedVRT(file, **reach)))
        yield BandStack(files, warped, cover)


def _profile(grid: Grid) -> dict[str, Any]:
    height, width = grid.shape
    return {"crs": grid.crs, "transform": grid.transform, "height": height, "width": width}


def _require_one_layer(paths: Sequence[Path], files: Sequence[Any]) -> None:
    for path, file in zip(paths, files, strict=True):
        if file.count != 1 or np.dtype(file.dtypes[0]).kind not in "iuf":
            raise DataError(
                f"{path}: a file of one band holds one layer of numbers, this one has {file.count} "
                f"of {file.dtypes[0]}. Drop {{band}} from 'images' if files hold all bands."
            )


def _require_warp(path: Path, file: Any, grid: Path, target: Grid, resampling: str | None) -> None:
    own = grid_of(file)
    placed = all(side.crs is not None and side.transform is not None for side in (own, target))
    if resampling is not None and placed:
        return
    remedy = (
        "Write `warp: {to: BAND}` in the card to resample all bands to the grid of one."
        if placed
        else "They have no coordinates to resample by: write them on one grid."
    )
    raise DataError(
        f"{path}: the bands of a scene lie on different grids: {_named(own)} here, "
        f"{_named(target)} in {grid.name}. {remedy}"
    )


def _named(grid: Grid) -> str:
    side = "" if grid.gsd_m is None else f" of {grid.gsd_m:.4g} m"
    return f"{grid.shape[0]} x {grid.shape[1]} pixels{side}"
