"""A queue on disk: records are safe once appended, and leave it when they are delivered.

Three files, for a spool named `mlflow.jsonl`:

    mlflow.jsonl             one JSON record a line; only ever appended to
    mlflow.jsonl.delivered   how many bytes of it have reached the other side
    mlflow.jsonl.refused     records the other side will never take, and why

Delivery is at least once: what was sent just before a crash is sent again, so the other side must
recognise a record that it has.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from ..errors import StorageError
from ..storage.atomic import write_text
from ..storage.lock import lock

ORIGIN = "spool"  # the key of a spool's first line, which is no record but names the spool

log = logging.getLogger(__name__)


class Spool:
    """An append-only file of records, and how far they are delivered.

    One process at a time holds a spool; within it, one thread may append while another reads.

    Args:
        path: The file; made, with its folder, where there is none.

    Raises:
        StorageError: The file cannot be written, or another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file = _open(path)
        self._end = _without_torn_line(self._file)
        if self._end == 0:
            self._write({ORIGIN: uuid.uuid4().hex})
        head = _first_line(path)
        self.origin = str((_parse(head) or {}).get(ORIGIN, path.name))
        self._start = max(self._read_mark(), len(head))
        self._waiting = sum(1 for _ in self._lines())
        self._ahead: list[int] = []

    @property
    def pending(self) -> int:
        """Records not yet delivered."""
        return self._waiting

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record down; it outlives a crash of the process or the machine.

        Raises:
            StorageError: The disk does not take it. The spool is as it was before.
        """
        with self._lock:
            self._write(record)
            self._waiting += 1

    def waiting(self, *, limit: int) -> list[dict[str, Any]]:
        """Return the oldest records that are not delivered, at most `limit`, oldest first."""
        records, self._ahead = [], []
        for end, record in self._lines():
            records.append(record)
            self._ahead.append(end)
            if len(records) == limit:
                break
        return records

    def delivered(self, count: int) -> None:
        """Note that the first `count` records of the last `waiting` have arrived."""
        if count == 0:
            return
        start = self._ahead[count - 1]
        # Losing this note costs a delivery twice, never a record: no fsync.
        write_text(_beside(self.path, "delivered"), f"{start}\n", durable=False)
        self._start = start
        with self._lock:
            self._waiting -= count

    def refuse(self, record: Mapping[str, Any], reason: str) -> None:
        """Set aside a record that the other side will never take."""
        with _beside(self.path, "refused").open("a") as file:
            file.write(json.dumps({**record, "refused": reason}) + "\n")

    def close(self) -> None:
        """Let another process have the spool."""
        self._file.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        line = json.dumps(record).encode() + b"\n"
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(self._end)
            message = (
                f"{self.path}: a record must reach the disk before the study goes on, this one "
                f"did not: {error}. Free space, then run the same command again."
            )
            raise StorageError(message) from error
        self._end += len(line)

    def _lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (offset behind it, record) for every whole record that is not delivered."""
        end = self._start
        with self.path.open("rb") as file:
            file.seek(end)
            while end < self._end:
                line = file.readline()
                end += len(line)
                record = _parse(line)
                if record is None:
                    log.warning(
                        "%s: the line before byte %d is no record; left out", self.path, end
                    )
                else:
                    yield end, record

    def _read_mark(self) -> int:
        try:
            mark = int(_beside(self.path, "delivered").read_text())
        except (FileNotFoundError, ValueError):
            return 0
        # A mark beyond the end belongs to a spool that is gone: deliver all of this one.
        return mark if mark <= self._end else 0


def _open(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)
    except OSError as error:
        message = (
            f"A spool must be a file that can be written, '{path}' is not: {error}. "
            "Set CRYO_STORAGE to a folder that can be written, or free space."
        )
        raise StorageError(message) from error
    try:
        lock(file, wait=False)
    except BlockingIOError as error:
        file.close()
        message = (
            f"One process at a time holds a spool, '{path}' is held by another. "
            "Wait until the study that writes it has stopped."
        )
        raise StorageError(message) from error
    except OSError:
        log.debug("%s: this file system has no locks", path)
    return file


def _without_torn_line(file: IO[bytes]) -> int:
    """Cut off a last line that a crash left unfinished; return the length of the file."""
    file.seek(0)
    content = file.read()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        file.truncate(end)
    return end


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline()


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}.{ending}")
