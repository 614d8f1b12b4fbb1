"""Hold a study to the data it began with: a change stops it, a mount that is away is waited for."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import CryoError, DataError, StorageError
from ..execution.signals import raise_if_asked
from ..results.files import EVENTS
from ..storage.atomic import write_text
from ..storage.plain_files import parse_json
from ..training.build import file_digests, scenes_of

if TYPE_CHECKING:
    from ..config import Recipe, Site
    from ..data.dataset import Split
    from ..search.jobs import Job, Outcome, Source

SPLITS: tuple[Split, ...] = ("train", "val", "test")
NAME = "data-files.json"  # in the study's folder: split -> scene -> its files and their hashes
PRINTS = "data.json"  # in the study's folder: split -> fingerprint
SHOWN = 3  # scenes that a message lists
POLL_S = 5.0  # between two looks at data that are away
PAUSE_S = 30.0  # between two looks at data that are there
DIGESTS = slice(2, None)  # of a scene's facts: the hashes, without its places
SHARE = 0.02  # of the time that looks may take at most

Files = Mapping[str, Mapping[str, list[str]]]  # split -> scene -> image, mask and their sha256

log = logging.getLogger(__name__)


class DataGuard:
    """Compare a study's data with the data it began with.

    The files are looked at when the study starts, between its trainings at most every 30 s, and
    before its result is written. Files that have not changed are not read again.
    """

    def __init__(self, recipe: Recipe, site: Site, path: Path) -> None:
        """Read the data that the study began with, or record today's for a new study.

        Args:
            recipe: The study's base recipe.
            site: Locations of data and cache.
            path: The study's folder.

        Raises:
            DataError: The data have changed since the study began.
            StorageError: The folder cannot be written.
        """
        self._recipe, self._site, self._file = recipe, site, path / NAME
        self._next_s = 0.0
        self._files = self._read()
        if self._files is None:
            refuse_other_prints(recipe, site, path)
            self._files = self._look()
            write_text(self._file, json.dumps(self._files) + "\n")
        else:
            self.check()

    def check(self) -> None:
        """Return if the data are those the study began with; wait while they are away.

        Raises:
            DataError: They have changed; the message names the scenes.
            Stopped: A signal requested a stop.
        """
        was_away = False
        while away := self._compare():
            if not was_away:
                log.warning(
                    "The study's data are away: %s. The study waits until they are back; "
                    "interrupt it to stop.",
                    away.rstrip("."),
                )
            was_away = True
            _sleep(POLL_S)
        if was_away:
            log.warning("The study's data are back. The study continues.")

    def require_folder(self) -> None:
        """Refuse to go on in a folder that was moved or unmounted: it would begin as an empty one.

        Raises:
            StorageError: The folder has neither the list of the data's files nor a log.
        """
        folder = self._file.parent
        if not self._file.exists() and not (folder / EVENTS).exists():
            message = (
                f"The study's folder '{folder}' is gone while the study runs: was it moved, or its "
                "disk unmounted? Bring it back, or set CRYO_STORAGE to its new place, then run the "
                "same command again: what is finished is kept."
            )
            raise StorageError(message)

    def check_now_and_then(self) -> None:
        """Check as `check` does, unless the last look was a short time ago."""
        if time.monotonic() < self._next_s:
            return
        began = time.monotonic()
        self.check()
        took = time.monotonic() - began
        self._next_s = time.monotonic() + max(PAUSE_S, took / SHARE)

    def is_away(self) -> bool:
        """Return True if the data are away at this moment."""
        return bool(self._compare())

    def _compare(self) -> str:
        """Return why the data are away; empty if they are there and unchanged."""
        assert self._files is not None, "set by the constructor"
        try:
            files = self._look()
        except (DataError, OSError) as error:
            unmounted = _is_unmounted(self._files)
            if unmounted is None:
                raise
            if unmounted:
                return str(error)
            raise DataError(_describe_change(self._files, {}, self._file.parent)) from error
        if _contents(files) != _contents(self._files):
            raise DataError(_describe_change(self._files, files, self._file.parent))
        if files != self._files:  # the same data, in another place
            self._files = files
            write_text(self._file, json.dumps(files) + "\n")
        return ""

    def _look(self) -> dict[str, dict[str, list[str]]]:
        return {split: file_digests(self._recipe, split, self._site) for split in SPLITS}

    def _read(self) -> Files | None:
        """Return the files that the study began with; None for a new study or a damaged record."""
        try:
            files: Files = parse_json(self._file.read_bytes())
            return files if files.keys() == set(SPLITS) else None
        except FileNotFoundError:
            return None
        except (ValueError, AttributeError):
            log.warning("'%s' is damaged. Today's data are recorded instead.", self._file)
            return None


def read_prints(path: Path) -> dict[str, str] | None:
    """Return the fingerprints of the data that a study began with; None: not recorded, or damaged."""
    try:
        recorded = parse_json((path / PRINTS).read_bytes())
        return {split: str(recorded[split]) for split in SPLITS}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def refuse_other_prints(recipe: Recipe, site: Site, path: Path) -> None:
    """Compare a study's data with the fingerprints it began with, where its list of files is lost.

    Raises:
        DataError: The data have changed since the study began.
    """
    before = read_prints(path)
    if before is None:
        return
    changed = [s for s in SPLITS if scenes_of(recipe, s, site).fingerprint != before[s]]
    if changed:
        message = (
            f"The data have changed since the study began: {', '.join(changed)}, by the fingerprints in "
            f"'{path / PRINTS}'; '{NAME}', which lists the files, is missing or damaged. Restore the "
            f"data and run the same command again, or remove '{path}' to begin anew with today's data."
        )
        raise DataError(message)


class GuardedSource:
    """Hand out a source's jobs while the data are there and unchanged; see `Source`."""

    def __init__(self, source: Source, guard: DataGuard) -> None:
        self._source, self._guard = source, guard
        self._again: list[Job] = []

    def next(self) -> Job | Literal["wait"] | None:
        """Return the next job, "wait" or None, once the data are there.

        Raises:
            DataError: The data have changed.
            StorageError: The study's folder is gone.
        """
        self._guard.require_folder()
        self._guard.check_now_and_then()
        return self._again.pop(0) if self._again else self._source.next()

    def epoch(self, job: Job, metrics: Mapping[str, float]) -> bool:
        """Record an epoch; return whether the job continues."""
        return self._source.epoch(job, metrics)

    def ended(self, job: Job, outcome: Outcome, message: str) -> None:
        """Record how a job ended; one that failed because the data are away runs again."""
        if outcome in ("refused", "crashed") and self._guard.is_away():
            log.warning("%s found no data, and runs again when they are back: %s", job.key, message)
            self._again.append(job)
            self._guard.check()
            return
        self._source.ended(job, outcome, message)


def _is_unmounted(files: Files) -> bool | None:
    """Distinguish a mount that is away from files that were removed.

    Returns:
        True if all images or all masks of a split are gone; False if only some files are; None if
        none is.
    """
    missing = False
    for scenes in files.values():
        for number in (0, 1):
            exist = [Path(facts[number]).exists() for facts in scenes.values()]
            if exist and not any(exist):
                return True
            missing = missing or not all(exist)
    return False if missing else None


def warn_of_other_data(recipe: Recipe, site: Site, path: Path) -> None:
    """Warn if a finished study's data have changed: its result is of the data that it began with.

    Data that are not on this machine are not compared.
    """
    try:
        before: Files = parse_json((path / NAME).read_bytes())
        after: Files = {split: file_digests(recipe, split, site) for split in SPLITS}
        changes = _changes(before, after)
    except (CryoError, OSError, ValueError, AttributeError, TypeError):
        return
    if changes:
        log.warning(
            "The data have changed since this study ran: %s. Its result is of the data that it began "
            "with. To train on today's, give the study a new name.",
            "; ".join(changes),
        )


def _contents(files: Files) -> dict[str, dict[str, list[str]]]:
    """Return the hashes of every scene's files: data that were moved are the same data."""
    return {s: {n: facts[DIGESTS] for n, facts in scenes.items()} for s, scenes in files.items()}


def _describe_change(before: Files, after: Files, folder: Path) -> str:
    """Describe which scenes have changed since the study began."""
    return (
        f"The data have changed since the study began: {'; '.join(_changes(before, after))}. Its trials "
        "could not be compared with later ones. Restore the files and run the same command again, or "
        f"remove '{folder}' to begin anew with today's data."
    )


def _changes(before: Files, after: Files) -> list[str]:
    """Return which scenes of each split were changed, removed and added."""
    changes = []
    for split, old in before.items():
        new = after.get(split)
        if new is None:
            removed = [name for name, f in old.items() if not all(Path(p).exists() for p in f[:2])]
            groups = {"removed": removed}
        else:
            groups = {
                "changed": [n for n in old if n in new and new[n][DIGESTS] != old[n][DIGESTS]],
                "removed": [name for name in old if name not in new],
                "added": [name for name in new if name not in old],
            }
        changes += [f"{split}: {_listed(names)} {what}" for what, names in groups.items() if names]
    return changes


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def _sleep(seconds: float) -> None:
    """Sleep; a request to stop ends it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        raise_if_asked()
        time.sleep(min(0.2, seconds))
