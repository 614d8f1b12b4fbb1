"""Print a line where a phase of a study takes long, so that none is silent for ten seconds."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

from ..data.progress_log import position, reporting_to

QUIET_S = 9.0  # of silence before a line; with POLL_S below ten seconds
POLL_S = 0.5

_phases: list[tuple[str, float]] = []  # of this process, innermost last, with their beginnings


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Name what is done inside the block, for the lines of a heartbeat: "checking data"."""
    _phases.append((name, time.monotonic()))
    try:
        yield
    finally:
        _phases.pop()


class Heartbeat:
    """Watch a study from a thread of its own, and print its phase whenever it was silent.

    The line holds how far the open steps of this process are (see `ProgressLog`), which report
    nothing themselves meanwhile.
    """

    def __init__(self, say: Callable[[str], None], *, quiet_s: float = QUIET_S) -> None:
        """Watch nothing yet; `with` starts and ends the thread.

        Args:
            say: Prints a line.
            quiet_s: Silence before a line, seconds.
        """
        self._say, self._quiet_s = say, quiet_s
        self._began = self._last = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)
        self._steps = reporting_to(lambda _: None)

    def __enter__(self) -> Self:
        self._began = self._last = time.monotonic()
        self._steps.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._steps.__exit__(None, None, None)

    def reset(self) -> None:
        """Count the silence from now on; something else was printed."""
        self._last = time.monotonic()

    @contextlib.contextmanager
    def through(self, say: Callable[[str], None]) -> Iterator[None]:
        """Print with another function inside the block."""
        before, self._say = self._say, say
        try:
            yield
        finally:
            self._say = before

    def look(self) -> None:
        """Print the phase and its duration if nothing was printed for too long."""
        now = time.monotonic()
        if now - self._last < self._quiet_s:
            return
        self._last = now
        name, began = _phases[-1] if _phases else ("running", self._began)
        steps = position()
        self._say(f"Still {name} ({_duration(now - began)}){steps and f': {steps}'}.")

    def _watch(self) -> None:
        while not self._ended.wait(POLL_S):
            # A closed terminal or pipe must not end a study, nor write a traceback.
            with contextlib.suppress(OSError, ValueError, SystemExit):
                self.look()


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
