"""Keep the append-only log of a study's events: one JSON line each, with a checksum, durable.

    events.jsonl             one event a line; only ever appended to
    events.jsonl.<consumer>  how far a consumer has come that must go on after a crash, see `Mark`

Every line holds its number `n` from 0, its UTC `time`, the `event`, the facts about it, and `crc`,
the CRC-32 of the text before it. A line that a crash left torn is cut off. A damaged or missing
line costs what it held: it is reported, and reading continues behind it.
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
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from ..errors import StorageError
from .atomic import write_text
from .lock import lock

Event = dict[str, Any]

VERSION = 1  # of the lines' format
HEAD = "log begun"  # the event of a log's first line, which names the log
OLDER = ("mlflow.jsonl", "epochs.jsonl")  # what versions before the event log wrote beside it
SHOWN = 3  # damaged places that a message lists

log = logging.getLogger(__name__)


class EventLog:
    """Append events to a file, and pass each on to the consumers of this process.

    One process at a time holds a log; within it, one thread may append while others read.

    Attributes:
        path: The file.
        origin: The log's own name, unique among all logs, made with the file.
        damaged: Whether lines were found damaged, missing or torn.
    """

    def __init__(self, path: Path) -> None:
        """Open a log, made with its folder where there is none; cut off a torn last line.

        Raises:
            StorageError: The file cannot be written, another process holds it, or it is of an
                older version.
        """
        refuse_older(path.parent)
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
        """Write an event down, then pass it on; it outlives a crash of process and machine.

        Args:
            event: What happened, such as "epoch".
            facts: About it, as JSON values; a number that is not finite becomes null.

        Raises:
            StorageError: The disk does not take it. The log is as it was before.
        """
        with self._lock:
            record = self._write({"event": event, **facts})
        for consumer in self._consumers:
            consumer(record)

    def subscribe(self, consumer: Callable[[Event], None]) -> None:
        """Call a consumer with every event from now on, once it is on disk."""
        self._consumers.append(consumer)

    def unsubscribe(self, consumer: Callable[[Event], None]) -> None:
        """Call a consumer no more."""
        self._consumers.remove(consumer)

    def read(self, start: int = 0) -> Iterator[tuple[int, Event]]:
        """Yield (offset behind it, event) for every sound line from an offset in bytes on."""
        with self.path.open("rb") as file:
            file.seek(start)
            while start < self._end and (line := file.readline()):
                start += len(line)
                event = parse_line(line)
                if event is not None and event["event"] != HEAD:
                    yield start, event

    @property
    def end(self) -> int:
        """Length in bytes."""
        return self._end

    def close(self) -> None:
        """Let another process have the log."""
        self._file.close()

    def _write(self, facts: Event) -> Event:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        record = {"n": self._next, "time": now, **{k: _strict(v) for k, v in facts.items()}}
        line = format_line(record)
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
        """Report damage; return the number of the next line, and the log's name."""
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
        known = Mark.origin_of(self.path) if head is None else str(head["origin"])
        # Lines are numbered, so that a line that is removed is missed.
        last = max((e["n"] for e in events if e is not None), default=-1)
        return max(last + 1, len(events)), known or uuid.uuid4().hex


class Mark:
    """Keep how far one consumer has read a log, in a file beside it.

    Attributes:
        start: Offset of what the consumer has not taken, in bytes.
        lost: Whether the log is shorter than what the consumer has taken: lines were cut off.
    """

    def __init__(self, opened: EventLog, consumer: str) -> None:
        self._log, self._path = opened, _beside(opened.path, consumer)
        self.lost = False
        self.start = self._read()
        with contextlib.suppress(OSError):  # a disk that is full is reported by the log
            self.write(self.start)

    def write(self, end: int) -> None:
        """Note that everything before an offset in bytes has been taken."""
        # Losing this note costs a repeated delivery, never an event: no fsync.
        text = json.dumps({"origin": self._log.origin, "end": end}) + "\n"
        write_text(self._path, text, durable=False)
        self.start = end

    @staticmethod
    def origin_of(path: Path) -> str | None:
        """Return the name of a log whose first line is damaged, as a consumer noted it."""
        for mark in sorted(path.parent.glob(f"{path.name}.*")):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                return str(json.loads(mark.read_text())["origin"])
        return None

    def _read(self) -> int:
        try:
            mark = json.loads(self._path.read_text())
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
    """Yield the sound events of a log that any process may be writing; none where there is no file.

    Raises:
        StorageError: The folder is of an older version.
    """
    if not path.exists():
        refuse_older(path.parent)
        return
    with path.open("rb") as file:
        for line in file:
            event = parse_line(line)
            if event is not None and event["event"] != HEAD:
                yield event


def format_line(record: Event) -> bytes:
    """Return an event as a line of JSON that ends with its checksum."""
    body = json.dumps(record, allow_nan=False)[:-1].encode()
    return body + b', "crc": "%08x"}\n' % zlib.crc32(body)


def parse_line(line: bytes) -> Event | None:
    """Return the event of a line, None where the line is torn or damaged."""
    body, mark, rest = line.rpartition(b', "crc": "')
    if not mark or rest != b'%08x"}\n' % zlib.crc32(body):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and {"n", "event"} <= record.keys() else None


def report_damage(path: Path, events: Iterable[Event | None]) -> bool:
    """Report which lines of a log are damaged or missing, and what that costs; return if any is."""
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
    """Refuse a study's folder that a version before the event log began.

    Raises:
        StorageError: It was; the message says what to do.
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
    """Cut off a last line that a crash left unfinished; return the file's length, and if one was."""
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
    """Return a value that strict JSON can hold: a number that is not finite becomes None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _strict(inner) for key, inner in value.items()}
    return value


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}.{ending}")
