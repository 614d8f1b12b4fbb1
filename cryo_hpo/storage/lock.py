"""Lock files between processes; a lock ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


def lock(file: IO[Any], *, wait: bool = True) -> None:
    """Lock an open file until it is closed.

    Args:
        file: Open for writing.
        wait: Whether to wait for another process that holds it.

    Raises:
        BlockingIOError: Another process holds it, and `wait` is false.
        OSError: The file system offers no locks.
    """
    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[IO[bytes]]:
    """Hold the lock of a file, which is made where there is none; gives the open file.

    Args:
        path: The lock's file; its folder is made.
        wait: Whether to wait for another process that holds it.

    Raises:
        BlockingIOError: Another process holds it, and `wait` is false.
        OSError: The file cannot be written, or the file system offers no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        lock(file, wait=wait)
        yield file
