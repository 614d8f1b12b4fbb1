"""Write checkpoints atomically, and read them without running code from the file."""

from __future__ import annotations

import contextlib
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ..errors import StorageError
from ..evaluation.out_of_memory import is_out_of_memory
from ..storage.atomic import replacing

LAST = "last.pt"
PREVIOUS = "before.pt"  # the `LAST` of one save earlier
BEST = "best.pt"

log = logging.getLogger(__name__)


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically: a killed writer leaves the old one.

    Raises:
        StorageError: The disk is full or read-only.
    """
    with _writing(path), replacing(path) as draft:
        torch.save(state, draft)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Create the folder of a checkpoint, and turn write errors into a `StorageError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (torch.AcceleratorError, torch.OutOfMemoryError):
        raise  # the copy from the GPU or an earlier kernel failed, not the disk
    except (OSError, RuntimeError) as error:
        # torch wraps a full disk into a RuntimeError of its archive writer
        if is_out_of_memory(error):
            raise
        message = (
            f"Cannot write checkpoint '{path}': {error}. Free space or set CRYO_STORAGE, then run "
            "the same command again: it resumes from the last checkpoint."
        )
        raise StorageError(message) from error


def save_last(workdir: Path, state: dict[str, Any]) -> None:
    """Write a training's newest state, and keep the previous one in case the new one is damaged.

    Raises:
        StorageError: The disk is full or read-only.
    """
    last = workdir / LAST
    with _writing(last), replacing(last) as draft:
        torch.save(state, draft)
        with contextlib.suppress(FileNotFoundError):
            last.replace(workdir / PREVIOUS)


def load_last(workdir: Path, *, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """Read a training's newest undamaged state; None where there is none."""
    for name in (LAST, PREVIOUS):
        try:
            state = load(workdir / name, device=device)
        except StorageError as error:
            log.warning("falling back to the previous checkpoint: %s", error)
            continue
        if state is not None:
            return state
    return None


def read_history(workdir: Path) -> list[dict[str, float]]:
    """Return the metrics of every epoch in a training's newest undamaged checkpoint."""
    state = load_last(workdir)
    return [] if state is None else list(state["history"])


def load(path: Path, *, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """Read a checkpoint, or None where there is none.

    Raises:
        StorageError: The checkpoint is damaged.
    """
    if not path.exists():
        return None
    damage = _damage(path)
    if damage:
        message = (
            f"Checkpoint '{path}' is damaged ({damage}). Remove the folder '{path.parent}' and run "
            "the same command again: that training starts from the beginning."
        )
        raise StorageError(message)
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state


def _damage(path: Path) -> str:
    """Return the damage of a checkpoint file as text; empty if the file is whole.

    Compares every byte with the archive's checksums, which torch does not check.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        return str(error) or type(error).__name__
    return f"'{wrong}' does not match its checksum" if wrong else ""
