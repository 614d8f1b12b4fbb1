"""Manage the folder of a study or a campaign on the shared storage: one spec, one driver at a time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ..config import (
    Campaign,
    Study,
    differences,
    dump_campaign,
    dump_study,
    load_campaign,
    load_study,
)
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
from ..storage.plain_files import parse_json, require_plain_folder

if TYPE_CHECKING:
    from ..config import Site

Spec: TypeAlias = Study | Campaign


class _Kind(NamedTuple):
    """Describe how one kind of spec is called and stored."""

    noun: str
    file: str
    beside: str = ""  # what else is removed with its folder


STUDIES = _Kind("study", SPEC)
CAMPAIGNS = _Kind("campaign", CAMPAIGN, beside=" and the folders '{name}.*' beside it")


def of(spec: Spec, site: Site) -> Path:
    """Return the folder that belongs to the name of a study or a campaign."""
    return site.storage / spec.name


def claim(spec: Spec, site: Site) -> Path:
    """Make the folder of a study or a campaign, unless it exists and holds the same spec.

    Raises:
        SpecError: The name belongs to another spec.
        StorageError: The folder cannot be written.
    """
    refuse_another(spec, site)
    return make(of(spec, site))


def make(folder: Path) -> Path:
    """Make a folder unless it exists.

    Raises:
        StorageError: The folder cannot be made.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def unusable(storage: Path) -> str:
    """Return why a study could not be kept in a storage; empty if it can. Writes nothing."""
    nearest = next(path for path in (storage, *storage.parents) if path.exists())
    if not nearest.is_dir():
        why = f"'{nearest}' is no folder"
    elif not os.access(nearest, os.W_OK | os.X_OK):
        why = f"'{nearest}' cannot be written to"
    else:
        return ""
    return (
        f"CRYO_STORAGE is '{storage}' and {why}: `run` will be refused here. Set CRYO_STORAGE to a "
        "folder that can be written to."
    )


def refuse_another(spec: Spec, site: Site) -> None:
    """Refuse a name that another study or campaign has; writes nothing.

    Raises:
        SpecError: The name is taken; the message names the differences from the other spec.
        StorageError: A file or folder of the study is something else, such as a pipe.
    """
    own, other = _kinds(spec)
    folder = of(spec, site)
    require_plain_folder(folder)
    if (folder / other.file).is_file():
        message = (
            f"{folder / other.file}: a name belongs to one spec, '{spec.name}' is a {other.noun}. "
            f"Give this {own.noun} a new name."
        )
        raise SpecError(message)
    file = folder / own.file
    # Without the copy, a file that was removed would let another spec take over this one's trials.
    file = file if file.is_file() else _copy_of(file)
    if not file.is_file():
        return
    if _is_cut(file, spec):
        raise SpecError(_damage(file, "it ends early"))
    changed = differences(_load(file, own), spec)
    if changed:
        message = (
            f"{file}: a {own.noun}'s name belongs to one spec, this file holds another "
            f"'{spec.name}': {'; '.join(changed)}. Give this {own.noun} a new name, or remove "
            f"'{folder}'{own.beside.format(name=spec.name)}."
        )
        raise SpecError(message)


def keep_spec(spec: Spec, folder: Path) -> None:
    """Write the resolved spec, which takes the name, and its copy; see `refuse_another`.

    Raises:
        StorageError: The folder cannot be written.
    """
    file, text = folder / _kinds(spec)[0].file, _dump(spec)
    keep(file, text)
    copy = _copy_of(file)
    if not copy.is_file() or copy.read_text(encoding="utf-8", errors="replace") != text:
        write(copy, text)


def _copy_of(file: Path) -> Path:
    """Return the copy of a spec's file, which holds the name if the file is removed."""
    return file.with_name(f"{file.name}.copy")


def _dump(spec: Spec) -> str:
    return dump_study(spec) if isinstance(spec, Study) else dump_campaign(spec)


def _is_cut(file: Path, spec: Spec) -> bool:
    """Return whether a file is the beginning of what it would hold: such a file may read well."""
    content, whole = file.read_bytes(), _dump(spec).encode()
    return len(content) < len(whole) and whole.startswith(content)


def _damage(file: Path, why: str) -> str:
    return (
        f"'{file}' is damaged, or another version of cryo_hpo wrote it ({why}). Remove this file and "
        "run the same command again: it is written again, and all else in the folder is kept."
    )


def _kinds(spec: Spec) -> tuple[_Kind, _Kind]:
    """Return the kind of a spec, and the other kind."""
    return (STUDIES, CAMPAIGNS) if isinstance(spec, Study) else (CAMPAIGNS, STUDIES)


def _load(file: Path, kind: _Kind) -> Spec:
    """Read the spec that a folder keeps.

    Raises:
        SpecError: The file is damaged, or of another version.
    """
    try:
        return load_study(file) if kind is STUDIES else load_campaign(file)
    except SpecError as error:
        raise SpecError(_damage(file, str(error).splitlines()[0])) from error


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
    with writing(path.parent):
        atomic.write_text(path, text)


def require_room(spec: Spec, folder: Path, *, gib: float) -> None:
    """Refuse a new study or campaign whose checkpoints cannot all be kept.

    Args:
        spec: The study or campaign; one that has begun is not refused.
        folder: Its folder.
        gib: Size of its checkpoints at most, GiB.

    Raises:
        StorageError: The disk has less free space than the checkpoints take.
    """
    kind, _ = _kinds(spec)
    free = shutil.disk_usage(folder).free / 2**30
    if gib > free and not (folder / kind.file).exists():
        message = (
            f"{folder}: the {kind.noun}'s checkpoints take up to {gib:.3g} GiB, {free:.3g} GiB are "
            "free. Free space, or set CRYO_STORAGE to a folder with more."
        )
        raise StorageError(message)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn errors of writing into the folder into a `StorageError` with its remedy."""
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
    require_plain_folder(folder)
    path = folder / LOCK
    with writing(folder):
        opened = path.open("a+b", buffering=0)  # a full disk shows at once, not when it closes
    with opened as file:
        try:
            with writing(folder):
                lock(file, wait=False)
        except BlockingIOError as error:
            file.seek(0)
            holder = {"pid": "(unknown)", "host": "(unknown)"}
            with contextlib.suppress(ValueError):  # the holder may be writing just now
                holder |= parse_json(file.read())
            message = (
                f"One driver at a time runs a study, '{folder.name}' is run by process "
                f"{holder['pid']} on {holder['host']}. Wait for it, or stop it first."
            )
            raise StorageError(message) from error
        with writing(folder):
            file.truncate(0)
            file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        yield
