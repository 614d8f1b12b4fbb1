"""Keep the append-only log of a study's events: one JSON line each, with a checksum, durable.

    events.jsonl             one event a line; only ever appended to
    events.jsonl.<consumer>  position of a consumer that must resume after a crash, see `Mark`

Every line holds its number `n` from 0, its UTC `time`, the `event`, the facts about it, and `crc`,
the CRC-32 of the text before it. A line that a crash left torn is cut off. A damaged or missing
line is reported and skipped; only its own event is lost.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from ..errors import StorageError
from .atomic import write_text
from .lock import lock
from .plain_files import parse_json, require_file
from .sealed_lines import seal, unseal

Event = dict[str, Any]

VERSION = 1  # version of the line format
HEAD = "log begun"  # event of a log's first line, which holds the log's name
OLDER = ("mlflow.jsonl", "epochs.jsonl")  # files of versions before the event log
SHOWN = 3  # damaged places that a message lists

log = logging.getLogger(__name__)


class EventLog:
    """Append events to a file, and pass each one to the consumers of this process.

    Only one process at a time can open a log; within it, one thread may append while others read.

    Attributes:
        path: File of the log.
        origin: Name of the log, unique among all logs, created with the file.
        damaged: True if lines were found damaged, missing or torn.
    """

    def __init__(self, path: Path) -> None:
        """Open a log or create it with its folder; cut off a torn last line.

        Raises:
            StorageError: The file cannot be written, another process holds it, or an older version
                wrote it.
        """
        refuse_older(path.parent)
        require_file(path)
        self.path = path
        self._lock = threading.Lock()
        self._consumers: list[Callable[[Event], None]] = []
        self._file = _open(path)
        try:
            self._end, self.damaged = _cut_torn_line(self._file, path)
            self._next, self.origin = self._inspect()
            if self._end == 0:
                self._write({"event": HEAD, "version": VERSION, "origin": self.origin})
        except BaseException:
            self._file.close()
            raise

    def append(self, event: str, **facts: Any) -> None:
        """Append an event, then pass it to consumers; it survives a crash of process or machine.

        Args:
            event: Name of the event, such as "epoch".
            facts: Facts about the event, as JSON values; a number that is not finite becomes null.

        Raises:
            StorageError: The disk is full or read-only. The log is as it was before.
        """
        with self._lock:
            record = self._write({"event": event, **facts})
        for consumer in self._consumers:
            consumer(record)

    def subscribe(self, consumer: Callable[[Event], None]) -> None:
        """Call a consumer with every event from now on, after the event is on disk."""
        self._consumers.append(consumer)

    def unsubscribe(self, consumer: Callable[[Event], None]) -> None:
        """Stop calling a consumer."""
        self._consumers.remove(consumer)

    def read(self, start: int = 0) -> Iterator[tuple[int, Event]]:
        """Yield (offset of the next line, event) for every intact line from a byte offset on."""
        with self.path.open("rb") as file:
            file.seek(start)
            while start < self._end and (line := file.readline()):
                start += len(line)
                event = parse_line(line)
                if event is not None and event["event"] != HEAD:
                    yield start, event

    @property
    def end(self) -> int:
        """Length of the log in bytes."""
        return self._end

    def close(self) -> None:
        """Close the file, which unlocks it for other processes."""
        self._file.close()

    def _write(self, facts: Event) -> Event:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        record = {"n": self._next, "time": now, **{k: _strict(v) for k, v in facts.items()}}
        line = seal(record)
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._end)
            message = (
                f"Cannot write the study's log '{self.path}': {error}. "
                "Free space, then run the same command again."
            )
            raise StorageError(message) from error
        self._end += len(line)
        self._next += 1
        return record

    def _inspect(self) -> tuple[int, str]:
        """Report damaged lines; return the number of the next line and the log's name."""
        with self.path.open("rb") as file:
            events = [parse_line(line) for line in file]
        if events and not any(events):
            message = (
                f"'{self.path}' is no log of this version of cryo_hpo: none of its {len(events)} "
                "lines is sound. Finish the study with the version that began it, or remove its "
                "folder and run the same command again."
            )
            raise StorageError(message)
        self.damaged = report_damage(self.path, events) or self.damaged
        head = next((e for e in events if e is not None and e["event"] == HEAD), None)
        origin = Mark.origin_of(self.path) if head is None else str(head["origin"])
        # Lines are numbered, so that a removed line is detected.
        last = max((e["n"] for e in events if e is not None), default=-1)
        return max(last + 1, len(events)), origin or uuid.uuid4().hex


class Mark:
    """Keep the position of one consumer in a log, in a file beside the log.

    Attributes:
        start: Offset in bytes of the first event that the consumer has not processed.
        lost: True if the log is shorter than the part already processed: lines were cut off.
    """

    def __init__(self, opened: EventLog, consumer: str) -> None:
        self._log, self._path = opened, _beside(opened.path, consumer)
        self.lost = False
        self.start = self._read()
        with contextlib.suppress(OSError):  # the log itself reports a full disk
            self.write(self.start)

    def write(self, end: int) -> None:
        """Record that every event before a byte offset has been processed."""
        # No fsync: losing this position repeats a delivery, but never loses an event.
        text = json.dumps({"origin": self._log.origin, "end": end}) + "\n"
        write_text(self._path, text, durable=False)
        self.start = end

    @staticmethod
    def origin_of(path: Path) -> str | None:
        """Return the log's name from a consumer's file, for a log whose first line is damaged."""
        for mark in sorted(path.parent.glob(f"{path.name}.*")):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                return str(parse_json(mark.read_bytes())["origin"])
        return None

    def _read(self) -> int:
        try:
            mark = parse_json(self._path.read_bytes())
            end, origin = int(mark["end"]), mark["origin"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        if origin != self._log.origin:
            return 0
        if end > self._log.end:
            self.lost = self._log.damaged = True
            log.warning(
                "'%s' has lost its end: %d bytes are left, at least %d were written. What it held "
                "is recorded again from checkpoints, and sent to MLflow where it is missing there.",
                self._log.path,
                self._log.end,
                end,
            )
            return 0
        return max(end, 0)


def read_events(path: Path) -> Iterator[Event]:
    """Yield the intact events of a log, even while a process writes it; none without a file.

    Raises:
        StorageError: An older version wrote the folder, or the log is no file.
    """
    require_file(path)
    if not path.exists():
        refuse_older(path.parent)
        return
    with path.open("rb") as file:
        for line in file:
            event = parse_line(line)
            if event is not None and event["event"] != HEAD:
                yield event


def parse_line(line: bytes) -> Event | None:
    """Parse the event of a line; None if the line is torn or damaged."""
    record = unseal(line)
    return record if record is not None and {"n", "event"} <= record.keys() else None


def report_damage(path: Path, events: Iterable[Event | None]) -> bool:
    """Log a warning for damaged or missing lines of a log; return True if there are any."""
    places, expected = [], 0
    for number, event in enumerate(events, 1):
        if event is None:
            places.append(f"line {number} is damaged")
            expected += 1
            continue
        if event["n"] > expected:
            places.append(f"{event['n'] - expected} lines are missing before line {number}")
        expected = event["n"] + 1
    if places:
        listed = ", ".join(places[:SHOWN]) + (", ..." if len(places) > SHOWN else "")
        log.warning(
            "'%s': %s. What these lines held is lost from the log, nothing else: epochs are "
            "recorded again from the checkpoints that hold them.",
            path,
            listed,
        )
    return bool(places)


def refuse_older(folder: Path) -> None:
    """Refuse a study's folder from a version before the event log.

    Raises:
        StorageError: The folder holds files of such a version.
    """
    older = [name for name in OLDER if (folder / name).exists()]
    if older:
        message = (
            f"'{folder}' was begun by an older version of cryo_hpo: it holds {' and '.join(older)}, "
            f"which one log of events has replaced. Finish the study with that version, or remove the "
            "folder and run the same command again."
        )
        raise StorageError(message)


def _open(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)
    except OSError as error:
        message = (
            f"Cannot open the study's log '{path}': {error}. "
            "Set CRYO_STORAGE to a folder that can be written, or free space."
        )
        raise StorageError(message) from error
    try:
        lock(file, wait=False)
    except BlockingIOError as error:
        file.close()
        message = (
            f"The study's log '{path}' is held by another process. "
            "Wait until the study that writes it has stopped."
        )
        raise StorageError(message) from error
    except OSError:
        log.debug("%s: this file system has no locks", path)
    return file


def _cut_torn_line(file: IO[bytes], path: Path) -> tuple[int, bool]:
    """Cut off a torn last line; return the file's length, and True if there was one."""
    file.seek(0)
    content = file.read()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        file.truncate(end)
        log.warning(
            "'%s': the last line was torn by a crash, and is cut off (%d bytes). "
            "What it held is recorded again.",
            path,
            len(content) - end,
        )
    return end, end < len(content)


def _strict(value: Any) -> Any:
    """Convert a value for strict JSON: a number that is not finite becomes None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _strict(inner) for key, inner in value.items()}
    return value


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}.{ending}")
