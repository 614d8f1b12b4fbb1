"""A study's folder on the shared storage: one spec, one driver at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import SpecError, StorageError
from .specfile import differences, dump_study, load_study

if TYPE_CHECKING:
    from .spec import Site, Study

SPEC, LOCK, JOURNAL, SPOOL, TRIALS, CONFIRM = (
    "study.yaml",
    ".driver",
    "journal.log",
    "mlflow.jsonl",
    "trials",
    "confirm",
)


def of(study: Study, site: Site) -> Path:
    """Return the folder that belongs to a study's name."""
    return site.storage / study.name


def claim(study: Study, site: Site) -> Path:
    """Make the folder and write the resolved spec, or see that it holds the same one.

    Raises:
        SpecError: The name belongs to another study.
        StorageError: The folder cannot be written.
    """
    folder = of(study, site)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / SPEC
        if not path.exists():
            draft = path.with_suffix(".tmp")
            draft.write_text(dump_study(study))
            draft.replace(path)
            return folder
    except OSError as error:
        message = (
            f"CRYO_STORAGE must be a folder that can be written, '{folder}' is not: {error}. "
            "Set CRYO_STORAGE to one that is, or free space."
        )
        raise StorageError(message) from error
    changed = differences(load_study(path), study)
    if changed:
        message = (
            f"A study's name belongs to one spec, '{path}' holds another '{study.name}': "
            f"{'; '.join(changed)}. Give this study a new name, or remove '{folder}'."
        )
        raise SpecError(message)
    return folder


@contextlib.contextmanager
def driving(folder: Path) -> Iterator[None]:
    """Hold the folder for this process alone.

    Raises:
        StorageError: Another driver runs this study, on this host.
    """
    path = folder / LOCK
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = json.loads(file.read() or "{}")
            message = (
                f"One driver at a time runs a study, '{folder.name}' is run by process "
                f"{holder.get('pid')} on {holder.get('host')}. Wait for it, or stop it first."
            )
            raise StorageError(message) from error
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        file.flush()
        yield
