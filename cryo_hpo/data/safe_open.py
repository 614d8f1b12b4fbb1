"""Open rasters safely: known formats, no network, no VRT out of its folder, no absurd sizes."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from ..errors import DataError

DRIVERS = (
    "GTiff",
    "PNG",
    "JPEG",
    "JP2OpenJPEG",
    "VRT",
    "ENVI",
    "HFA",
    "BMP",
    "GIF",
    "WEBP",
    "AAIGrid",
    "EHdr",
)
"""GDAL drivers that may open a scene; none of them accesses other machines."""
# Read in one piece, a truncated PNG gives arbitrary memory content, and no error.
# /vsicurl is restricted to a file name suffix that no file has: no request leaves this machine.
GDAL: dict[str, str | int] = {
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".no-network",
    "GDAL_HTTP_MAX_RETRY": "0",
    "GDAL_HTTP_TIMEOUT": "1",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "GDAL_VRT_ENABLE_RAWRASTERBAND": "NO",
    # Of decoded blocks; the default, 5 % of the memory, is too much on large machines.
    "GDAL_CACHEMAX": 256 * 2**20,
}
LARGE = 1 << 28  # bytes; smaller files are opened whatever they declare
MAX_BANDS = 5_000  # far above any sensor's; GDAL's time grows with their square, minutes at 60,000
MAX_RATIO = 20_000  # declared bytes per byte on disk; DEFLATE reaches 1,000, ZSTD of zeros 10,000
MAX_VRT = 1 << 24  # bytes of XML
MAX_DEPTH = 5  # VRTs of VRTs
SOURCE = re.compile(
    rb"<\s*(SourceFilename|SourceDataset)\b([^>]*)>\s*(?:<!\[CDATA\[)?(.*?)(?:\]\]>)?\s*</\s*\1\s*>",
    re.S | re.I,  # GDAL's XML knows no case
)
SOURCE_TAG = re.compile(rb"<\s*(?:SourceFilename|SourceDataset)\b", re.I)
NUMBER = re.compile(rb"&#(x[0-9a-f]{1,6}|[0-9]{1,7});", re.I)  # a character by its number
ENTITIES = (
    (b"&lt;", b"<"),
    (b"&gt;", b">"),
    (b"&quot;", b'"'),
    (b"&apos;", b"'"),
    (b"&amp;", b"&"),
)


@contextmanager
def open_file(path: Path, *, root: Path | None = None) -> Iterator[Any]:
    """Open a raster for reading.

    Args:
        path: A local file.
        root: Folder that the sources of a VRT must lie in; None: any local file. A VRT
            must be named `.vrt`.

    Raises:
        DataError: The file is damaged, of another format, declares more pixels than it can hold,
            or is a VRT that leaves `root`.
    """
    refuse_foreign_sources(path, root)
    with warnings.catch_warnings(), rasterio.Env(**GDAL):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.DatasetReader(path, driver=list(DRIVERS)) as file:
                _refuse_bomb(path, file)
                yield file
        except RasterioError as error:
            raise damaged(path, error) from error
        except MemoryError as error:
            raise DataError(
                f"{path}: not enough memory for this raster. Cut it into smaller scenes."
            ) from error


def damaged(path: Path, error: Exception) -> DataError:
    """Return the error for a raster that cannot be read."""
    return DataError(
        f"{path}: a raster must be readable to its last pixel: "
        f"{str(error.__cause__ or error).rstrip('.')}. "
        "Was it copied completely?"
    )


def vrt_sources(path: Path) -> list[str] | None:
    """Return the sources of a VRT, relative ones made absolute; None: the file is not a VRT.

    Raises:
        OSError: The file cannot be read.
        DataError: The VRT is too large, or its sources are written in a way that hides them.
    """
    with path.open("rb") as file:
        head = file.read(4096)
        if b"<VRTDataset" not in head:
            return None
        text = head + file.read(MAX_VRT)
    if len(text) > MAX_VRT:
        raise DataError(f"{path}: a VRT of more than {MAX_VRT >> 20} MiB is refused. Split it.")
    sources, tags = [], SOURCE.findall(text)
    if len(tags) != len(SOURCE_TAG.findall(text)) or any(b"<" in raw for _, _, raw in tags):
        raise DataError(
            f"{path}: the sources of this VRT cannot be read. Write it with gdalbuildvrt."
        )
    for _, attributes, raw in tags:
        source = os.fsdecode(_unescape(raw.strip()))
        relative = re.search(rb"relative(?:ToVRT|toVRT)\s*=\s*[\"']1", attributes)
        sources.append(os.path.normpath(path.absolute().parent / source) if relative else source)
    return sources


def _unescape(text: bytes) -> bytes:
    """Replace the entities and numbered characters of XML, as GDAL does."""

    def character(match: re.Match[bytes]) -> bytes:
        number = match[1].lower()
        code = int(number[1:], 16) if number.startswith(b"x") else int(number)
        return chr(code).encode("utf-8", "surrogatepass") if code <= 0x10FFFF else match[0]

    text = NUMBER.sub(character, text)
    for entity, plain in ENTITIES:
        text = text.replace(entity, plain)
    return text


def refuse_foreign_sources(path: Path, root: Path | None, depth: int = 0) -> None:
    """Refuse a VRT, at any depth, whose sources are not files, or lie outside `root`.

    Raises:
        DataError: A source is refused.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: a raster must be a file, this is a folder, pipe or device.")
    try:
        sources = vrt_sources(path)
    except OSError as error:
        raise DataError(f"{path}: cannot read this file: {error}.") from error
    if sources is None:
        return
    if path.suffix.lower() != ".vrt":
        raise DataError(
            f"{path}: this file is a VRT under another name. Rename it to '{path.stem}.vrt' if its "
            "sources are meant to be read."
        )
    if depth >= MAX_DEPTH:
        raise DataError(f"{path}: VRTs of VRTs are read to a depth of {MAX_DEPTH}. Flatten it.")
    for source in sources:
        inner = _absolute(path.absolute().parent / source)
        outside = root is not None and not inner.is_relative_to(_absolute(root))
        if source.startswith("/vsi") or "://" in source or outside:
            where = f"in '{root}'" if root else "on this machine"
            raise DataError(
                f"{path}: the source '{source}' of this VRT is no file {where}, and only such are "
                "read. Move the source there, or write a GeoTIFF: gdal_translate in.vrt out.tif."
            )
        if inner.is_file():
            refuse_foreign_sources(inner, root or inner.parent, depth + 1)
            _refuse_other_format(inner)


def _refuse_other_format(path: Path) -> None:
    """Refuse a source of a VRT that is not a raster of a known format."""
    with warnings.catch_warnings(), rasterio.Env(**GDAL):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            rasterio.DatasetReader(path, driver=list(DRIVERS)).close()
        except RasterioError as error:
            raise damaged(path, error) from error


def _absolute(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))


def _refuse_bomb(path: Path, file: Any) -> None:
    """Refuse a file that declares far more bands or pixels than its bytes, or the memory, can hold."""
    if file.count > MAX_BANDS:
        raise DataError(
            f"{path}: the file declares {file.count:,} bands, more than {MAX_BANDS:,}. It is damaged, or "
            "it is a stack: write the bands that the model sees to a file of their own."
        )
    itemsize = max((_itemsize(name) for name in file.dtypes), default=1)
    declared = file.count * file.height * file.width * itemsize
    if declared <= LARGE:
        return
    on_disk = sum(Path(name).stat().st_size for name in file.files if Path(name).is_file())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if declared > MAX_RATIO * on_disk:
        raise DataError(
            f"{path}: the file declares {file.count} x {file.height} x {file.width} pixels "
            f"({declared / 2**30:,.1f} GiB) and holds {on_disk:,} bytes. It is damaged or hostile."
        )
    if declared > 16 * memory:
        raise DataError(
            f"{path}: {declared / 2**30:,.1f} GiB of pixels do not fit on this machine "
            f"({memory / 2**30:,.1f} GiB of memory). Cut the scene into smaller ones."
        )


def _itemsize(name: str) -> int:
    return {"uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "uint32": 4, "int32": 4}.get(name, 8)
