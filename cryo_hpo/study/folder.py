"""Manage a study's folder on the shared storage: one spec, one driver at a time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import differences, dump_study, load_study
from ..errors import SpecError, StorageError
from ..results.files import CAMPAIGN as CAMPAIGN
from ..results.files import CONFIRM as CONFIRM
from ..results.files import EVENTS as EVENTS
from ..results.files import JOURNAL as JOURNAL
from ..results.files import LOCK as LOCK
from ..results.files import SPEC as SPEC
from ..results.files import TEST_MAPS as TEST_MAPS
from ..results.files import TEST_SCENES as TEST_SCENES
from ..results.files import TEST_SCORES as TEST_SCORES
from ..results.files import TRIALS as TRIALS
from ..storage import atomic
from ..storage.lock import lock

if TYPE_CHECKING:
    from ..config import Site, Study


def of(study: Study, site: Site) -> Path:
    """Return the folder that belongs to a study's name."""
    return site.storage / study.name


def claim(study: Study, site: Site) -> Path:
    """Make the folder of a study, unless it exists and holds the same spec.

    Raises:
        SpecError: The name belongs to another study.
        StorageError: The folder cannot be written.
    """
    refuse_another(study, site)
    return make(of(study, site))


def make(folder: Path) -> Path:
    """Make a folder unless it exists.

    Raises:
        StorageError: The folder cannot be made.
    """
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def refuse_another(study: Study, site: Site) -> None:
    """Refuse a name that another study or a campaign has; writes nothing.

    Raises:
        SpecError: The name is taken; the message names the differences from another study.
    """
    path = of(study, site) / SPEC
    if path.with_name(CAMPAIGN).is_file():
        message = (
            f"{path.with_name(CAMPAIGN)}: a name belongs to one spec, '{study.name}' is a campaign. "
            "Give this study a new name."
        )
        raise SpecError(message)
    changed = differences(load_study(path), study) if path.is_file() else []
    if changed:
        message = (
            f"{path}: a study's name belongs to one spec, this file holds another "
            f"'{study.name}': {'; '.join(changed)}. Give this study a new name, or remove "
            f"'{path.parent}'."
        )
        raise SpecError(message)


def keep_spec(study: Study, folder: Path) -> None:
    """Write the resolved spec, which takes the study's name.

    Raises:
        StorageError: The folder cannot be written.
    """
    keep(folder / SPEC, dump_study(study))


def keep(path: Path, spec: str) -> None:
    """Write a spec atomically, unless the file exists.

    Raises:
        StorageError: The folder cannot be written.
    """
    if not path.exists():
        write(path, spec)


def write(path: Path, text: str) -> None:
    """Write a file of the folder atomically.

    Raises:
        StorageError: The folder cannot be written.
    """
    with _writing(path.parent):
        atomic.write_text(path, text)


def require_room(folder: Path, *, gib: float, begun: Path | None = None) -> None:
    """Refuse a new study whose checkpoints cannot all be kept.

    Args:
        folder: The study's folder.
        gib: Size of its checkpoints at most, GiB.
        begun: File that exists once the study has begun; None: its spec.

    Raises:
        StorageError: The disk has less free space than the checkpoints take.
    """
    free = shutil.disk_usage(folder).free / 2**30
    if gib > free and not (begun or folder / SPEC).exists():
        message = (
            f"{folder}: the study's checkpoints take up to {gib:.3g} GiB, {free:.3g} GiB are free. "
            "Free space, or set CRYO_STORAGE to a folder with more."
        )
        raise StorageError(message)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except BlockingIOError:  # another process holds a lock: nothing is wrong with the folder
        raise
    except OSError as error:
        message = (
            f"{folder}: CRYO_STORAGE must be a folder that can be written to: {error}. "
            "Set CRYO_STORAGE to one that is, or free space."
        )
        raise StorageError(message) from error


@contextlib.contextmanager
def driving(folder: Path) -> Iterator[None]:
    """Lock the folder for this process.

    Raises:
        StorageError: Another driver runs this study, on this host; or the folder cannot be
            written.
    """
    path = folder / LOCK
    with _writing(folder):
        opened = path.open("a+b", buffering=0)  # a full disk shows at once, not when it closes
    with opened as file:
        try:
            with _writing(folder):
                lock(file, wait=False)
        except BlockingIOError as error:
            file.seek(0)
            holder = {"pid": "(unknown)", "host": "(unknown)"}
            with contextlib.suppress(ValueError):  # the holder may be writing just now
                holder |= json.loads(file.read())
            message = (
                f"One driver at a time runs a study, '{folder.name}' is run by process "
                f"{holder['pid']} on {holder['host']}. Wait for it, or stop it first."
            )
            raise StorageError(message) from error
        with _writing(folder):
            file.truncate(0)
            file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        yield
