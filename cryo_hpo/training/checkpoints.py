"""Write checkpoints atomically, and read them without running code from the file."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import StorageError
from ..evaluation.out_of_memory import is_out_of_memory
from ..storage.atomic import replacing

LAST = "last.pt"
PREVIOUS = "before.pt"  # the `LAST` of one save earlier
BEST = "best.pt"
HISTORY = "history.json"  # a copy of the metrics in `LAST`, see history_file.py
OTHER = ".other"  # ending of a checkpoint that was found in the place of another training's

# A file that cannot be read now and may be whole: permissions, a lost mount, too many open files.
OUT_OF_REACH = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE),
        *(errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    }
)

log = logging.getLogger(__name__)


class Unreadable(StorageError):
    """Report a checkpoint that cannot be read now; it may be whole, so nothing must take its place."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically: a killed writer leaves the old one.

    Raises:
        StorageError: The disk is full or read-only.
    """
    with writing(path), replacing(path) as draft:
        torch.save(state, draft)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
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
    with writing(last), replacing(last) as draft:
        torch.save(state, draft)
        with contextlib.suppress(FileNotFoundError):
            last.replace(workdir / PREVIOUS)


def load_last(workdir: Path, *, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """Read a training's newest undamaged state; None where there is none.

    Raises:
        Unreadable: A state cannot be read now.
    """
    for name in (LAST, PREVIOUS):
        try:
            state = load(workdir / name, device=device)
        except Unreadable:
            raise
        except StorageError as error:
            log.warning("falling back to the previous checkpoint: %s", error)
            continue
        if state is not None:
            return state
    return None


def set_aside_foreign(workdir: Path, recipe: str) -> None:
    """Rename the states in a training's folder that belong to another recipe, with a warning.

    The training then resumes from the state before, or starts again.

    Args:
        workdir: Folder of the training.
        recipe: Id of the training's recipe.

    Raises:
        StorageError: The folder cannot be written.
    """
    for name in (LAST, PREVIOUS):
        path = workdir / name
        owner = _recipe_of(path)
        if owner is None or owner == recipe:
            continue
        aside = path.with_name(name + OTHER)
        log.warning(
            "Checkpoint '%s' belongs to recipe %s, not to %s, and is renamed to '%s'. The training "
            "resumes from the checkpoint before it, or starts again.",
            path,
            owner or "(none)",
            recipe,
            aside.name,
        )
        with writing(path):
            path.replace(aside)


def restart_without_best(workdir: Path, recipe: str) -> None:
    """Remove the states of a training that has lost its best model, so that it starts again.

    A training that resumes would end without a best model, or with one of its later epochs.

    Args:
        workdir: Folder of the training.
        recipe: Id of the training's recipe.

    Raises:
        StorageError: The folder cannot be written.
    """
    if not any(has_score(_history_of(workdir / name)) for name in (LAST, PREVIOUS)):
        return
    damage = damage_of_best(workdir / BEST, recipe)
    if damage:
        log.warning("%s. The training starts again: its best model was lost.", damage)
        remove(workdir)


def remove(workdir: Path) -> None:
    """Remove the checkpoints of a training, and the metrics of its epochs.

    Raises:
        StorageError: The folder cannot be written.
    """
    for name in (LAST, PREVIOUS, BEST, HISTORY):
        with writing(workdir / name):
            (workdir / name).unlink(missing_ok=True)


def is_usable(path: Path) -> bool:
    """Return True if a training resumes from this file: it is whole, and holds a training."""
    return path.exists() and not _damage(path) and bool(_recipe_of(path))


def has_score(history: Iterable[Mapping[str, Any]]) -> bool:
    """Return True if a training was scored on validation, and so has a best model."""
    scores = (epoch.get("best_val_miou") for epoch in history)
    return any(score is not None and math.isfinite(score) for score in scores)


def damage_of_best(path: Path, recipe: str) -> str:
    """Describe why a best model cannot be used; empty if it is whole and of this recipe.

    Args:
        path: File of the best model.
        recipe: Id of the recipe that was trained.

    Raises:
        Unreadable: It cannot be read now.
    """
    if not path.exists():
        return f"'{path}' is missing"
    damage = _damage(path)
    if damage:
        return f"'{path}' is damaged ({damage})"
    owner = _recipe_of(path)
    return "" if owner == recipe else f"'{path}' belongs to another recipe than {recipe}"


def load(path: Path, *, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """Read a checkpoint, or None where there is none.

    Raises:
        StorageError: The checkpoint is damaged, or is no checkpoint.
    """
    if not path.exists():
        return None
    damage = _damage(path)
    if not damage:
        state, damage = _read(path, device)
    if damage:
        message = (
            f"Checkpoint '{path}' is damaged ({damage}). Remove the folder '{path.parent}' and run "
            "the same command again: that training starts from the beginning."
        )
        raise StorageError(message)
    return state


def _read(path: Path, device: torch.device | str) -> tuple[dict[str, Any], str]:
    """Read a checkpoint; return it, and its damage as text, empty if it was read."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (torch.AcceleratorError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # torch raises whatever its readers do
        if is_out_of_memory(error):
            raise
        return {}, (str(error) or type(error).__name__).splitlines()[0][:200]
    return (state, "") if isinstance(state, dict) else ({}, "it holds no training")


def _recipe_of(path: Path) -> str | None:
    """Return the id of a checkpoint's recipe, "" if it names none, None if it cannot be read.

    Tensors stay on disk, so this takes the same time for every size.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # damage is reported where the checkpoint is loaded
        return None
    return str(state.get("recipe", "")) if isinstance(state, dict) else ""


def _history_of(path: Path) -> list[dict[str, float]]:
    """Return the metrics in a checkpoint without reading its tensors; empty if it cannot be read."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # damage is reported where the checkpoint is loaded
        return []
    return list(state.get("history", ())) if isinstance(state, dict) else []


def _damage(path: Path) -> str:
    """Return the damage of a checkpoint file as text; empty if the file is whole.

    Compares every byte with the archive's checksums, which torch does not check.

    Raises:
        Unreadable: It cannot be read now.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except OSError as error:
        if error.errno not in OUT_OF_REACH:
            return str(error)
        message = (
            f"Cannot read checkpoint '{path}': {error.strerror}. It may be whole, so no other takes "
            "its place. Make it readable, then run the same command again: it resumes from it."
        )
        raise Unreadable(message) from error
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        return str(error) or type(error).__name__
    return f"'{wrong}' does not match its checksum" if wrong else ""
