"""Download a file from the web: resumed after an interruption, whole or absent."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ..errors import FetchError, StorageError
from .lock import locked

BLOCK = 1 << 20  # bytes between two progress reports
TRIES = 3  # in a row that receive no byte
TIMEOUT_S = 30  # longest wait for a byte
PART = ".part"  # suffix of a partial download
MARK = ".part.mark"  # suffix of the file with the server's version tag of the partial download


class Received(NamedTuple):
    """Hold the progress of a download."""

    done: int
    """Bytes on disk."""
    total: int | None
    """Bytes of the whole file; None if the server does not send the length."""


def fetch(
    url: str, path: Path, *, checksum: str = "", pause_s: float = 1.0
) -> Generator[Received, None, None]:
    """Download a file; yield the progress.

    An interrupted download resumes at the next call. Processes that download the same file wait for
    the first of them. An existing file is not downloaded again.

    Args:
        url: Address, http or https.
        path: Destination; an incomplete download is kept in `path` with ".part" added.
        checksum: "sha256:..." or "md5:...", or the first digits of one; empty skips the check.
        pause_s: Pause before the second try, seconds; doubled before each further one.

    Raises:
        FetchError: The address does not answer or has no such file, or the checksum differs.
        StorageError: The folder is full or not writable.
    """
    if not url.startswith(("https://", "http://")):
        raise FetchError(f"Files are fetched by https or http, got '{url}'. Give such an address.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(_beside(path, ".lock")):
            if not path.is_file():
                yield from _bring(url, path, pause_s)
                _finish(url, path, checksum)
    except OSError as error:
        message = f"'{path.parent}' must take the file from {url}, and does not: {error}."
        raise StorageError(f"{message} Free space there, or choose another folder.") from error


def _bring(url: str, path: Path, pause_s: float) -> Iterator[Received]:
    """Complete the part file; give up after `TRIES` tries in a row without a new byte."""
    left = TRIES
    while True:
        before = _size(path)
        try:
            yield from _try(url, path)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, _Cut) as error:
            _refuse_if_final(url, error)
            left = TRIES if _size(path) > before else left - 1
            if not left:
                raise FetchError(f"{url} does not answer: {_reason(error)}.") from error
            time.sleep(pause_s * 2 ** (TRIES - left))
        else:
            return


class _Cut(Exception):
    """Signal that the connection ended before the file was complete."""


def _try(url: str, path: Path) -> Iterator[Received]:
    """Request the missing bytes and append them to the part file."""
    done = _size(path)
    with _open(url, path) as answer:
        if answer is None:  # the part file is complete
            return
        resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        done = done if resumed else 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        _refuse_if_too_large(path, (total or 0) - done)
        _note_version(answer, path)
        with _beside(path, PART).open("ab" if resumed else "wb") as file:
            yield Received(done, total)
            while block := _read(answer):
                file.write(block)
                done += len(block)
                yield Received(done, total)
    if total is not None and done < total:
        raise _Cut(f"{done} of {total} bytes came")


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(BLOCK)
    except (OSError, http.client.HTTPException) as error:  # must not be reported as a full disk
        raise _Cut(str(error)) from error


@contextmanager
def _open(url: str, path: Path) -> Iterator[http.client.HTTPResponse | None]:
    """Open the address at the end of the part file; None if the part file is complete."""
    done, mark = _size(path), _beside(path, MARK)
    headers = {"User-Agent": "cryo-hpo", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
        if mark.is_file():  # the server sends another version from its start
            headers["If-Range"] = mark.read_text(encoding="utf-8")
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S
        ) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        error.close()  # the error is a response that holds a connection
        if not done or error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range", "").endswith(f"/{done}"):
            yield None
        else:
            _beside(path, PART).unlink()
            raise _Cut("what was there is no part of this file") from error


def _note_version(answer: http.client.HTTPResponse, path: Path) -> None:
    version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    if version and not version.startswith("W/"):  # weak tags do not identify bytes
        _beside(path, MARK).write_text(version, encoding="utf-8")
    else:
        _beside(path, MARK).unlink(missing_ok=True)


def _finish(url: str, path: Path, checksum: str) -> None:
    """Check the checksum, then move the file to its destination atomically."""
    part = _beside(path, PART)
    kind, _, expected = checksum.partition(":")
    if expected:
        with part.open("rb") as file:
            actual = hashlib.file_digest(file, kind).hexdigest()
        if not actual.startswith(expected.lower()):
            part.unlink()
            message = (
                f"{url} must have the {kind} {expected}, got {actual}. Nothing was kept. "
                "Try again; if it stays so, the file was replaced by its publisher."
            )
            raise FetchError(message)
    part.replace(path)
    for suffix in (MARK, ".lock"):
        _beside(path, suffix).unlink(missing_ok=True)


def _refuse_if_final(url: str, error: Exception) -> None:
    """Raise a `FetchError` for a status that another try would not change."""
    if isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500:
        if error.code in (http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS):
            return
        raise FetchError(f"{url} is refused: {error.code} {error.reason}.") from error


def _refuse_if_too_large(path: Path, more: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if more > free:
        message = (
            f"'{path.parent}' has {free:,} bytes free, '{path.name}' needs {more:,} more. "
            "Free space there, or choose another folder."
        )
        raise StorageError(message)


def _reason(error: Exception) -> str:
    return str(error.reason if isinstance(error, urllib.error.URLError) else error).rstrip(".")


def _size(path: Path) -> int:
    part = _beside(path, PART)
    return part.stat().st_size if part.exists() else 0


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
