"""List the files that GDAL reads beside a raster: sidecars, headers, world files, VRT sources."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from .safe_open import MAX_DEPTH, vrt_sources

# Pixels of ENVI, described by a header beside them; files of these names may be anything else.
ENVI = (".dat", ".bsq", ".bil", ".bip", "")
ADDED = (".aux.xml", ".ovr", ".msk", ".hdr")
"""Suffixes appended to the whole name of the file: scene.tif.aux.xml."""
REPLACING = (
    ".aux",
    ".hdr",
    ".prj",
    ".rrd",
    ".tfw",
    ".tifw",
    ".pgw",
    ".pngw",
    ".jgw",
    ".j2w",
    ".wld",
)
"""Suffixes that replace the file's own: scene.tfw."""


def is_envi(path: Path) -> bool:
    """Return whether a file may hold pixels of ENVI: its header lies beside it, a.hdr or a.dat.hdr."""
    if path.suffix.lower() not in ENVI:
        return False
    return path.with_suffix(".hdr").is_file() or path.with_name(f"{path.name}.hdr").is_file()


def companions(path: Path) -> tuple[Path, ...]:
    """Return the other files that affect how a raster is read, in order.

    Args:
        path: Path of the raster.
    """
    names = _names(path.parent, path.parent.stat().st_mtime_ns)
    sidecars = [path.name + end for end in ADDED]
    if path.suffix.lower() not in REPLACING:
        sidecars += [path.stem + end for end in REPLACING]
    present = dict.fromkeys(name.lower() for name in sidecars if name.lower() in names)
    beside = [path.with_name(names[name]) for name in present]
    return (*beside, *(_sources(path, 0) if path.suffix.lower() == ".vrt" else ()))


def _sources(path: Path, depth: int) -> Iterator[Path]:
    for source in vrt_sources(path) or () if depth < MAX_DEPTH else ():
        file = Path(os.path.normpath(path.absolute().parent / source))
        if file.is_file():
            yield file
            yield from _sources(file, depth + 1)


@lru_cache(maxsize=64)
def _names(folder: Path, _changed_ns: int) -> dict[str, str]:
    """Return lower-case name -> name of a folder's files; listed again if the folder changes."""
    return {path.name.lower(): path.name for path in folder.iterdir()}
