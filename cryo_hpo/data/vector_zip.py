"""Find the one vector file of a zip archive, as RGI and GLIMS deliver them."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ..errors import DataError

ZIPPED = (".zip", ".kmz")
HEAD = 4096  # bytes by which the content is recognized
MAX_BYTES = 2**34  # of all files of an archive, unpacked
MAX_NAMED = 3


def is_zipped(path: Path) -> bool:
    """Return whether a path is that of an archive, by its suffix."""
    return path.suffix.lower() in ZIPPED


def find_member(path: Path, suffixes: tuple[str, ...]) -> str:
    """Return the name of the only vector file in an archive.

    Args:
        path: The archive.
        suffixes: Endings of vector files, in lower case.

    Raises:
        DataError: The archive is damaged, encrypted, absurdly large, or holds none or several.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            files = [info for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise DataError(
            f"{path}: cannot read this archive: {error}. Was it copied completely?"
        ) from error
    size = sum(info.file_size for info in files)
    if size > MAX_BYTES:
        raise DataError(
            f"{path}: unpacks to {size / 2**30:.0f} GiB, more than {MAX_BYTES / 2**30:.0f}. Unpack it "
            "yourself, and give the vector file."
        )
    members = [info for info in files if _is_vector(info.filename, suffixes)]
    if len(members) != 1:
        names = ", ".join(sorted(info.filename for info in members)[:MAX_NAMED])
        held = f"{len(members)} vector files ({names})" if members else "no vector file"
        remedy = "Unpack it, and give one of them." if members else "Is it the right archive?"
        raise DataError(
            f"{path}: this archive holds {held}, one is needed (ending in {', '.join(suffixes)}). {remedy}"
        )
    if members[0].flag_bits & 1:
        raise DataError(f"{path}: this archive is encrypted. Unpack it, and give the vector file.")
    return members[0].filename


def _is_vector(name: str, suffixes: tuple[str, ...]) -> bool:
    inner = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in inner.parts)
    return not hidden and inner.suffix.lower() in suffixes


def read_head(path: Path, member: str) -> bytes:
    """Return the first bytes of a file in an archive.

    Raises:
        DataError: They cannot be unpacked.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            return file.read(HEAD)
    except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, EOFError) as error:
        raise DataError(
            f"{path}: cannot unpack '{member}': {error}. Was it copied completely?"
        ) from error
