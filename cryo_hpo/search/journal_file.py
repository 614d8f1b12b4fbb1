"""Keep Optuna's journal in a file whose lines are sealed, with a copy beside it.

    journal.log        one operation of Optuna's storage a line, as JSON; Optuna reads it too
    journal.log.copy   the same lines

Every line also holds its number `n` from 0 and a checksum. A line that is damaged or missing in one
file is taken from the other, so that nothing is lost. A last line that a crash left torn is cut off.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from ..errors import StorageError
from ..storage.atomic import replacing
from ..storage.sealed_lines import seal, unseal

Operation = dict[str, Any]

COPY = ".copy"
SHOWN = 3  # damaged lines that a message lists

log = logging.getLogger(__name__)


class JournalFile(BaseJournalBackend):
    """Store the operations of a study's only driver; see `optuna.storages.JournalStorage`."""

    def __init__(self, path: Path) -> None:
        """Open or create the files; repair each from the other.

        Raises:
            StorageError: Lines are damaged in both files, or the file is no journal.
            OSError: A file cannot be read or written.
        """
        self._path, self._copy = path, path.with_name(path.name + COPY)
        self._unread = _recover(path, self._copy)
        self._end = len(self._unread)

    def read_logs(self, log_number_from: int) -> Iterator[Operation]:
        """Yield the operations from a number on; Optuna asks for each of them once."""
        first = self._end - len(self._unread)
        self._unread = self._unread[log_number_from - first :]
        yield from self._unread

    def append_logs(self, logs: list[Operation]) -> None:
        """Append operations, durably.

        Raises:
            OSError: The disk is full or read-only.
        """
        sealed = [{"n": self._end + i, **each} for i, each in enumerate(logs)]
        text = b"".join(map(seal, sealed))
        _append(self._path, text, durable=True)
        _append(self._copy, text, durable=False)  # repaired from the journal after a power cut
        self._unread += sealed
        self._end += len(sealed)


def _append(path: Path, text: bytes, *, durable: bool) -> None:
    with path.open("ab", buffering=0) as file:
        if file.write(text) != len(text):
            message = f"{path}: the disk is full"
            raise OSError(message)
        if durable:
            os.fsync(file.fileno())


def _recover(path: Path, copy: Path) -> list[Operation]:
    """Return all operations, read from both files; rewrite a file that lacks any of them."""
    own, other = _parse(_lines(path)), _parse(_lines(copy))
    operations = {each["n"]: each for each in (*other, *own) if each is not None}
    whole = [operations[n] for n in range(len(operations)) if n in operations]
    if len(whole) < len(operations):
        raise StorageError(_describe_loss(path, own, operations))
    if own and not whole:
        message = (
            f"'{path}' is no journal: none of its {len(own)} lines is sound. Restore it from a "
            f"backup, or remove the folder '{path.parent}' and run the same command again: the "
            "study then starts from the beginning."
        )
        raise StorageError(message)
    if own != whole:
        _report(path, own, whole, copied=bool(other))
        _rewrite(path, whole)
    if other != whole:
        _rewrite(copy, whole)
    return whole


def _lines(path: Path) -> list[bytes]:
    """Return the lines of a file, without a torn last one; none without a file."""
    if not path.exists():
        return []
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        log.warning(
            "'%s': the last line was torn by a crash, and is cut off (%d bytes). "
            "What it held is recorded again.",
            path,
            len(content) - end,
        )
        with path.open("r+b") as file:
            file.truncate(end)
    return content[:end].splitlines(keepends=True)


def _parse(lines: Iterable[bytes]) -> list[Operation | None]:
    """Parse lines; a damaged one is None. Lines of older versions, without a seal, come first."""
    parsed: list[Operation | None] = []
    old = True
    for number, line in enumerate(lines):
        each = unseal(line)
        old = old and each is None
        if each is None and old:
            each = _parse_old(line, number)
        usable = each is not None and isinstance(each.get("n"), int) and "op_code" in each
        parsed.append(each if usable else None)
    return parsed


def _parse_old(line: bytes, number: int) -> Operation | None:
    try:
        each = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return {"n": number, **each} if isinstance(each, dict) and "crc" not in each else None


def _report(
    path: Path, own: list[Operation | None], whole: list[Operation], *, copied: bool
) -> None:
    """Log which lines of the journal are damaged or missing, and what that costs."""
    damaged = [number for number, each in enumerate(own, 1) if each is None]
    if not damaged and (copied or not own) and len(own) < len(whole):
        log.warning(
            "'%s': %d of %d lines are missing. They are restored from its copy: nothing is lost.",
            path,
            len(whole) - len(own),
            len(whole),
        )
    elif damaged:
        listed = ", ".join(map(str, damaged[:SHOWN])) + (", ..." if len(damaged) > SHOWN else "")
        restored = len(whole) >= len(own)
        log.warning(
            "'%s': line %s is damaged. %s",
            path,
            listed,
            "It is restored from the journal's copy: nothing is lost."
            if restored
            else "Sound lines of it and its copy are kept. The end is cut off: what it alone held is recorded or trained again.",
        )


def _describe_loss(
    path: Path, own: list[Operation | None], operations: Mapping[int, Operation]
) -> str:
    """Describe lines that both files have lost."""
    lost = [n + 1 for n in range(max(operations)) if n not in operations]
    listed = ", ".join(map(str, lost[:SHOWN])) + (", ..." if len(lost) > SHOWN else "")
    return (
        f"'{path}', line {listed}: damaged or missing, and so in the copy '{path.name}{COPY}'. "
        f"{len(lost)} of {len(own)} lines are lost; each holds a trial's parameters, score or end, "
        "without which later decisions would differ. Restore one of the files from a backup, or "
        f"remove the folder '{path.parent}' and run the same command again: the study then starts "
        "from the beginning."
    )


def _rewrite(path: Path, operations: Iterable[Operation]) -> None:
    """Write all operations to a file, each with a fresh seal."""
    lines = (seal({k: v for k, v in each.items() if k != "crc"}) for each in operations)
    with replacing(path) as draft:
        draft.write_bytes(b"".join(lines))
