"""Read a scene row by row, and write maps row by row."""

# C bands, K classes, H W pixels

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.windows import Window

from ..errors import DataError, SpecError, StorageError
from ..storage.atomic import replacing
from .alignment import Grid, grid_of
from .band_stack import BandFiles, open_bands
from .dataset import IGNORE, SceneHeader
from .nodata import find_absent
from .palette import class_color, rgb
from .progress_log import ProgressLog
from .raster import apply_scale, describe_names, header_of, layers_by_name, read_layers
from .safe_open import damaged, open_file

# GDAL caches decoded blocks; its default, 5 % of the memory, is too much on large machines.
GDAL_CACHE = {"GDAL_CACHEMAX": 64 * 2**20}
BLOCK = 256  # side of a written tile, pixels
COG: dict[str, str | int] = {
    "COMPRESS": "DEFLATE",
    "BLOCKSIZE": BLOCK,
    "BIGTIFF": "IF_SAFER",
}
# How overviews are made: the class of most pixels, or the mean of floats.
RESAMPLING = {"uint8": "MODE", "float32": "AVERAGE"}


@dataclass(frozen=True, slots=True)
class Raster:
    """Read an open scene row by row, and hold the position for its map.

    Attributes:
        path: The file.
        size: Height and width, pixels.
        place: `crs` and `transform`, or `crs` and `gcps`; empty if the file has none.
        header: Metadata of the layers that are read.
    """

    path: Path
    size: tuple[int, int]
    place: Mapping[str, Any]
    header: SceneHeader
    _file: Any
    _layers: tuple[int, ...]
    _alpha: bool
    _nodata: tuple[float, ...] = ()
    _scales: bool = False

    @property
    def grid(self) -> Grid:
        """Pixel grid of the scene."""
        return grid_of(self._file)

    def rows(self, top: int, bottom: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return rows of the scene: pixels (C, H, W), and which of them have no data (H, W).

        Pixels without data, by the file's metadata or because they are not finite, are 0.

        Raises:
            DataError: The file is damaged.
        """
        window = Window(0, top, self.size[1], bottom - top)
        try:
            image_CHW = read_layers(self._file, self._layers, window)
            absent_HW = find_absent(
                self._file,
                image_CHW,
                self._layers,
                alpha=self._alpha,
                window=window,
                nodata=self._nodata,
            )
        except RasterioError as error:
            raise damaged(self.path, error) from error
        if self._scales:
            image_CHW = apply_scale(image_CHW, self.header.scales, self.header.offsets)
        absent_HW |= ~np.isfinite(image_CHW).all(axis=0)
        image_CHW[:, absent_HW] = 0
        return image_CHW, absent_HW


@contextmanager
def open_raster(
    source: Path | BandFiles,
    *,
    bands: Sequence[Sequence[str]],
    layers: Sequence[int] | None = None,
    nodata: Sequence[float] = (),
    scales: bool = False,
) -> Iterator[Raster]:
    """Open a scene that holds these bands.

    Args:
        source: Any raster that GDAL reads; a further alpha layer marks pixels with data. Or files
            of one band each.
        bands: All names of each band, the sensor's own first.
        layers: Layers of the file to use, from 1; None: those that the file names as the bands,
            else all, in this order.
        nodata: Values of pixels without data, in addition to those that the file declares.
        scales: Whether scale and offset tags are applied.

    Raises:
        DataError: The file is missing, damaged, or has other bands.
    """
    path = source.grid if isinstance(source, BandFiles) else source
    if not path.is_file():
        raise DataError(f"{path}: no such file. Check the name of the scene.")
    opened = open_bands(source) if isinstance(source, BandFiles) else open_file(source)
    with rasterio.Env(**GDAL_CACHE), opened as file:
        own = [band[0] for band in bands]
        named = layers_by_name(bands, file) if layers is None else []
        chosen, alpha = _layers(file, path, own, named or layers)
        header = header_of(file, chosen)
        if named:
            note = describe_names(own, file, named, remedy="--layers if the names are wrong")
            header = header._replace(notes=(note,))
        yield Raster(
            path, file.shape, _place(file), header, file, chosen, alpha, tuple(nodata), scales
        )


def _layers(
    file: Any, path: Path, bands: Sequence[str], layers: Sequence[int] | None
) -> tuple[tuple[int, ...], bool]:
    """Return the layers of the bands, and whether a further one is transparency."""
    alpha = file.count > 1 and file.colorinterp[-1] == ColorInterp.alpha
    law = f"{path}: the model reads {len(bands)} band{'s' * (len(bands) != 1)} ({' '.join(bands)})"
    if {np.dtype(name).kind for name in file.dtypes} - set("iuf"):
        raise DataError(f"{law} as numbers, this file holds {file.dtypes[0]}. Convert it.")
    if layers is None:
        if file.count != len(bands) and file.count != len(bands) + alpha:
            raise DataError(
                f"{law}, this file has {file.count} layer{'s' * (file.count != 1)} of {file.dtypes[0]}. "
                "Say which layers they are, in this order, such as --layers 3,2,1. Bands in files "
                "of their own are one scene by their common name: 'scene_{band}.tif'."
            )
        return tuple(range(1, len(bands) + 1)), file.count == len(bands) + 1
    wrong = [layer for layer in layers if not 1 <= layer <= file.count]
    if len(layers) != len(bands) or wrong:
        raise DataError(
            f"{law} from as many layers, numbered 1 to {file.count}; got "
            f"{','.join(map(str, layers))}. Name one layer for each band."
        )
    return tuple(layers), alpha and file.count not in layers


def _place(file: Any) -> dict[str, Any]:
    """Return the georeference of the pixels, as far as the file has one."""
    points, crs = file.gcps
    if points and file.transform.is_identity:
        return {"gcps": points, "crs": crs}
    place: dict[str, Any] = {} if file.crs is None else {"crs": file.crs}
    return place if file.transform.is_identity else {**place, "transform": file.transform}


@contextmanager
def mask_writer(path: Path, like: Raster, *, classes: Sequence[str]) -> Iterator[Any]:
    """Write a map of class numbers with colors and names; see `_writer`."""
    with _writer(path, like, count=1, dtype="uint8", nodata=IGNORE) as file:
        shades = {k: (*rgb(class_color(k)), 255) for k in range(len(classes))}
        file.write_colormap(1, {**shades, IGNORE: (0, 0, 0, 0)})
        file.set_band_description(1, "class")
        file.update_tags(**{f"CLASS_{k}": name for k, name in enumerate(classes)})
        yield file


@contextmanager
def float_writer(path: Path, like: Raster, *, layers: Sequence[str]) -> Iterator[Any]:
    """Write named layers of floats, NaN where there is no data."""
    with _writer(path, like, count=len(layers), dtype="float32", nodata=np.nan) as file:
        for k, name in enumerate(layers, start=1):
            file.set_band_description(k, name)
        yield file


@contextmanager
def _writer(path: Path, like: Raster, *, count: int, dtype: str, nodata: float) -> Iterator[Any]:
    """Open a map at the position of a scene; it gets its name once complete.

    Rows are written to a plain GeoTIFF beside it, since a Cloud Optimized GeoTIFF has its overviews
    before the pixels they are made of.

    Raises:
        SpecError: Maps cannot be written with this suffix.
        StorageError: The map cannot be written.
    """
    driver = map_driver(path, dtype)
    options = {} if driver != "COG" else {**COG, "OVERVIEW_RESAMPLING": RESAMPLING[dtype]}
    height, width = like.size
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": count,
        "dtype": dtype,
        "nodata": nodata,
        "compress": "deflate",
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "BIGTIFF": "IF_SAFER",
        **like.place,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as draft:
            tiff = draft.with_name(f"{draft.name}.tif")
            try:
                with rasterio.open(tiff, "w", **profile) as file:
                    yield file
                with ProgressLog(f"writing {path.name}"):
                    _convert(tiff, draft, path, driver, **options)
            finally:
                tiff.unlink(missing_ok=True)
    except (OSError, RasterioError) as error:
        message = f"{path}: a map must be writable: {error}. Free space, or choose another --out."
        raise StorageError(message) from error


def map_driver(path: Path, dtype: str = "uint8") -> str:
    """Return the GDAL driver of a map by the suffix of its file.

    Raises:
        SpecError: Maps cannot be written with this suffix.
    """
    suffix = path.suffix.lower()
    if suffix in (".tif", ".tiff"):
        return "COG"
    if suffix == ".png" and dtype == "uint8":
        return "PNG"
    kinds = (
        ".tif (Cloud Optimized GeoTIFF) or .png"
        if dtype == "uint8"
        else ".tif (Cloud Optimized GeoTIFF)"
    )
    raise SpecError(f"{path}: the map's name must end in {kinds}, not in '{path.suffix}'.")


def _convert(tiff: Path, draft: Path, path: Path, driver: str, **options: str | int) -> None:
    """Convert a GeoTIFF to another format; a PNG has its georeference in a file beside it."""
    rasterio.shutil.copy(tiff, draft, driver=driver, **options)
    place = draft.with_name(f"{draft.name}.aux.xml")
    if place.exists():
        place.replace(path.with_name(f"{path.name}.aux.xml"))


def write_rows(file: Any, top: int, values_CHW: NDArray[Any]) -> None:
    """Write rows of a map, starting at row `top`."""
    _, height, width = values_CHW.shape
    file.write(values_CHW, window=Window(0, top, width, height))
