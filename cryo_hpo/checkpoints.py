"""What a training leaves on disk: written whole or not at all, read without running code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from .errors import StorageError

LAST = "last.pt"
BEST = "best.pt"


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint beside its place, then rename: a killed writer leaves the old one.

    Raises:
        StorageError: The disk is full or read-only.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except (OSError, RuntimeError) as error:
        # torch wraps a full disk into a RuntimeError of its archive writer
        draft.unlink(missing_ok=True)
        message = (
            f"A checkpoint must be writable, '{path}' is not ({error}). "
            "Free space or set CRYO_STORAGE, then give the same command again: it goes on "
            "from the last checkpoint."
        )
        raise StorageError(message) from error


def load(path: Path, *, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """Read a checkpoint, or None where there is none."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state
