"""Lock files between processes; a lock is released when its process ends, even by a crash."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


def lock(file: IO[Any], *, wait: bool = True) -> None:
    """Lock an open file until it is closed.

    Args:
        file: File open for writing.
        wait: Wait for another process that holds the lock.

    Raises:
        BlockingIOError: Another process holds the lock, and `wait` is false.
        OSError: The file system offers no locks.
    """
    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[IO[bytes]]:
    """Hold the lock of a file inside the block; yield the open file.

    Args:
        path: Lock file; created with its folder where there is none.
        wait: Wait for another process that holds the lock.

    Raises:
        BlockingIOError: Another process holds the lock, and `wait` is false.
        OSError: The file cannot be written, or the file system offers no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        lock(file, wait=wait)
        yield file


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of a file; False if there is no such file.

    The lock is taken and released to see it: a process that requests it without waiting in the
    same few microseconds is refused.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe is not waited for
    except OSError:  # no such file
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(file)
    return False
