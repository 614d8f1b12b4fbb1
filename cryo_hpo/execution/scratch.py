"""Make private scratch folders, and remove those that killed processes left."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ..storage.lock import lock

LOCK = ".lock"  # held while the folder is in use
YOUNG_S = 600.0  # age below which a folder without a lock may be one that is being made


@contextlib.contextmanager
def private_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a new folder that only this user can enter; it is removed afterwards.

    Folders with the same prefix that killed processes of this user have left are removed first.

    Args:
        parent: Folder to make it in.
        prefix: Beginning of the folder's name.

    Raises:
        OSError: The folder cannot be written.
    """
    remove_stale(parent, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))  # mode 0700
    try:
        with (folder / LOCK).open("wb") as file:
            with contextlib.suppress(OSError):  # without locks the folder stays after a kill
                lock(file, wait=False)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale(parent: Path, prefix: str) -> None:
    """Remove folders of a prefix that no process uses; those of other users stay."""
    for folder in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            if not folder.is_symlink() and folder.is_dir() and _is_unused(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_unused(folder: Path) -> bool:
    """Return True if the process that made a folder has ended."""
    file = folder / LOCK
    if not file.exists():
        return time.time() - folder.stat().st_mtime > YOUNG_S
    with file.open("r+b") as opened:
        try:
            lock(opened, wait=False)
        except BlockingIOError:
            return False
    return True
