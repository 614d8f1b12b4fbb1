"""Fetch a file from the web: goes on where it was cut, and is whole or not there at all."""

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

BLOCK = 1 << 20  # bytes between two reports
TRIES = 3  # in a row without a single new byte
TIMEOUT_S = 30  # without a byte
PART = ".part"  # suffix of what is there so far
MARK = ".part.mark"  # suffix of the server's name for the version that it is a part of


class Received(NamedTuple):
    """How far a download is."""

    done: int
    """Bytes on disk."""
    total: int | None
    """Bytes of the whole file; None if the server does not say."""


def fetch(
    url: str, path: Path, *, checksum: str = "", pause_s: float = 1.0
) -> Generator[Received, None, None]:
    """Bring a file here; yields as it comes.

    A download that was cut, by the network or by the user, goes on at the next call. Processes
    that want the same file wait for the first of them. A file that is there is left alone.

    Args:
        url: http or https.
        path: Where the file will be; until it is whole, `path` with ".part" added holds it.
        checksum: "sha256:..." or "md5:...", or the first digits of one; empty if none is known.
        pause_s: Before the second try; twice as long before each further one.

    Raises:
        FetchError: The address does not answer, has no such file, or another than expected.
        StorageError: No room, or no right to write.
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
    """Fill the part file, with as many tries as bring something."""
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
    """The connection ended before the file did."""


def _try(url: str, path: Path) -> Iterator[Received]:
    """Ask for what is missing, and append it."""
    done = _size(path)
    with _open(url, path) as answer:
        if answer is None:  # all of it is there
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
    except (OSError, http.client.HTTPException) as error:  # not to be taken for a full disk
        raise _Cut(str(error)) from error


@contextmanager
def _open(url: str, path: Path) -> Iterator[http.client.HTTPResponse | None]:
    """Open the address where the part file ends; None if nothing is missing."""
    done, mark = _size(path), _beside(path, MARK)
    headers = {"User-Agent": "cryo-hpo", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
        if mark.is_file():  # another version of the file is then sent from its start
            headers["If-Range"] = mark.read_text()
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S
        ) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        error.close()  # it is an answer, and holds a connection
        if not done or error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range", "").endswith(f"/{done}"):
            yield None
        else:
            _beside(path, PART).unlink()
            raise _Cut("what was there is no part of this file") from error


def _note_version(answer: http.client.HTTPResponse, path: Path) -> None:
    version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    if version and not version.startswith("W/"):  # a weak one does not vouch for bytes
        _beside(path, MARK).write_text(version)
    else:
        _beside(path, MARK).unlink(missing_ok=True)


def _finish(url: str, path: Path, checksum: str) -> None:
    """Compare the checksum, then put the file in its place in one step."""
    part = _beside(path, PART)
    kind, _, expected = checksum.partition(":")
    if expected:
        with part.open("rb") as file:
            found = hashlib.file_digest(file, kind).hexdigest()
        if not found.startswith(expected.lower()):
            part.unlink()
            message = (
                f"{url} must have the {kind} {expected}, got {found}. Nothing was kept. "
                "Try again; if it stays so, the file was replaced by its publisher."
            )
            raise FetchError(message)
    part.replace(path)
    for suffix in (MARK, ".lock"):
        _beside(path, suffix).unlink(missing_ok=True)


def _refuse_if_final(url: str, error: Exception) -> None:
    """Give up at once where another try would bring the same answer."""
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
