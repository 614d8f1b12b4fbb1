"""Replace files atomically: a reader finds the old content or the new, never a part."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

SUFFIX = ".draft"


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a draft beside a file; it replaces the file when the block ends without an error.

    Every draft is hidden and named for its file, a random number and `SUFFIX`, so that writers in
    other threads, processes and hosts never share one. An error removes the draft; a killed process
    leaves it.

    Args:
        path: File to write; its folder must exist.
        durable: Synchronize content and name to disk, to survive a power cut after the block.

    Raises:
        OSError: The disk is full or read-only; the file is as it was.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}{SUFFIX}")
    try:
        yield draft
        if durable:
            _sync(draft, os.O_RDWR)
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    if durable:
        with contextlib.suppress(OSError):  # some file systems refuse to synchronize a folder
            _sync(path.parent, os.O_RDONLY)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace the content of a file by a text, in UTF-8; see `replacing`.

    Raises:
        OSError: The disk is full or read-only; the file is as it was.
    """
    with replacing(path, durable=durable) as draft:
        draft.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def restoring(paths: Iterable[Path]) -> Iterator[None]:
    """Restore files as they were before the block if it ends with an error; new ones are removed.

    Contents are held in memory: for small files. A killed process restores nothing.
    """
    before = {path: path.read_bytes() if path.is_file() else None for path in paths}
    try:
        yield
    except BaseException:
        for path, content in before.items():
            _restore(path, content)
        raise


def _restore(path: Path, content: bytes | None) -> None:
    with contextlib.suppress(OSError):  # the error of the block is the one to report
        if content is None:
            path.unlink(missing_ok=True)
        elif not path.is_file() or path.read_bytes() != content:
            with replacing(path) as draft:
                draft.write_bytes(content)


def _sync(path: Path, flags: int) -> None:
    """Synchronize a file or folder to disk (fsync)."""
    opened = os.open(path, flags)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
