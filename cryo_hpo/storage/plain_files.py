"""Refuse what lies in the place of a file and is none: a folder, a pipe, a socket, a device."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import StorageError

# Endings of the files of a study, and the names of its folders.
ENDINGS = (".json", ".jsonl", ".yaml", ".copy", ".log", ".npz", ".pt", ".mlflow")
NAMES = (".driver", "ended", "made-by")
FOLDERS = ("trials", "confirm")
LARGEST = 2**28  # bytes of a file that is read whole, far above the result of any study


def other_kind(path: Path) -> str:
    """Return what a path is in place of a file, as "a pipe"; empty for a file or nothing at all.

    To read a pipe waits for ever, and a device may have no end.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return f"a link to '{path.readlink()}', which is not there" if path.is_symlink() else ""
    except OSError:
        return "a link in a circle" if path.is_symlink() else ""
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "")


def require_file(path: Path) -> None:
    """Refuse a path that is there and is no file.

    Raises:
        StorageError: It is a folder, a pipe, a socket, a device, or a link to nothing.
    """
    if kind := other_kind(path):
        message = f"'{path}' must be a file, it is {kind}. Move it away, or bring the file back."
        raise StorageError(message)


def read_file(path: Path) -> bytes:
    """Return the content of a file that is read whole.

    Raises:
        StorageError: It is no file, or larger than `LARGEST`.
        OSError: It is missing, or cannot be read.
    """
    require_file(path)
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        message = (
            f"'{path}' has more than {LARGEST >> 20} MiB: it is damaged, or not what its name says. "
            "Move it away, or bring the right file back."
        )
        raise StorageError(message)
    return content


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: It is no JSON, or its lists are nested too deep: also a form of damage.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        message = "its lists are nested too deep"
        raise ValueError(message) from error


def require_plain_folder(folder: Path) -> None:
    """Refuse the folder of a study whose files or folders are something else, of any training too.

    Raises:
        StorageError: An entry is no file though its name is one's, or no folder.
    """
    for path in _odd_entries(folder):
        require_file(path)
    for name in FOLDERS:
        place = folder / name
        if place.is_symlink() and not place.exists():
            require_file(place)
        if place.exists() and not place.is_dir():
            message = f"'{place}' must be a folder of trainings, it is none. Move it away."
            raise StorageError(message)
        for training in _folders(place):
            for path in _odd_entries(training):
                require_file(path)


def _odd_entries(folder: Path) -> Iterator[Path]:
    """Yield the entries with the names of files that are links or no files."""
    for entry in _entries(folder):
        named = entry.name.endswith(ENDINGS) or entry.name in NAMES
        if named and not entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


def _folders(folder: Path) -> Iterator[Path]:
    return (Path(entry.path) for entry in _entries(folder) if entry.is_dir())


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder; none where it cannot be listed, which its readers report."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
