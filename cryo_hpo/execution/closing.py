"""Close a study's records once, also from another thread while the main thread waits for ever."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

CLOSE_S = 8.0  # a thread that closes for the main thread may take so long

log = logging.getLogger(__name__)


class Closing:
    """Close records when called; a second call does nothing, and waits for the first."""

    def __init__(self, close: Callable[[BaseException], None]) -> None:
        self._close, self._lock, self._closed = close, threading.Lock(), False

    def __call__(self, error: BaseException) -> None:
        """Close the records of what the error ends."""
        with self._lock:
            if not self._closed:
                self._close(error)
                self._closed = True


_open: list[Closing] = []  # a process drives one study or campaign


@contextlib.contextmanager
def closing_once(close: Callable[[BaseException], None]) -> Iterator[Closing]:
    """Let `close_all` of another thread close these records too, while the `with` block runs."""
    closing = Closing(close)
    _open.append(closing)
    try:
        yield closing
    finally:
        _open.remove(closing)


def close_all(error: BaseException, *, timeout_s: float = CLOSE_S) -> None:
    """Close all open records from a thread of its own; return after the timeout at the latest."""
    thread = threading.Thread(target=_close_each, args=(error,), name="closing", daemon=True)
    thread.start()
    thread.join(timeout_s)


def _close_each(error: BaseException) -> None:
    for closing in _open.copy():
        try:
            closing(error)
        except Exception as failed:  # the process ends: what is not closed now, a resume closes
            log.warning("The study's records could not be closed: %s", failed)
