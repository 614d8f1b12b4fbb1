"""Recognize the errors of a disk that refuses to be written."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # full, over its quota, read-only
LITTLE_ROOM = 2**20  # bytes


def is_no_room(error: BaseException) -> bool:
    """Return True if an error says that a disk is full or read-only."""
    return isinstance(error, OSError) and error.errno in NO_ROOM


def is_full(folder: Path) -> bool:
    """Return True if the disk of a folder has less than 1 MiB left; False if there is no folder."""
    try:
        return shutil.disk_usage(folder).free < LITTLE_ROOM
    except OSError:
        return False
