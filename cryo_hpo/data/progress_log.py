"""Report how far the long steps of this process are, every few seconds."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Protocol, Self

log = logging.getLogger(__name__)

PAUSE_S = 5.0  # shorter steps report nothing

Report = Callable[[str], object]
"""Shows, or keeps, how far the open steps are; an empty text: none is open."""


class Step(Protocol):
    """Describe how far a step is."""

    @property
    def text(self) -> str:
        """Position; empty: nothing to report."""
        ...


_open: list[Step] = []  # steps of this process, innermost last
_last = 0.0  # of the latest report, or of the beginning of the outermost step
_report: list[Report] = []  # the last one is used; none: the log at level INFO


class ProgressLog:
    """Count the work of a step; while open, it is part of what is reported."""

    def __init__(self, step: str, total: float = 0.0, *, counted: bool = False) -> None:
        """Describe a step; `with` opens and ends it.

        Args:
            step: Name, for the message: "reading train of 'lakes'"; of a counted one, "window".
            total: Amount of work, in any unit; 0: the step only frames others.
            counted: Whether numbers are shown ("window 3 of 8"), not a share ("reading: 25 %").
        """
        self._step, self._total, self._counted = step, total, counted
        self._done = 0.0

    def __enter__(self) -> Self:
        global _last
        if not _open:
            _last = time.monotonic()
        _open.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self in _open:
            _open.remove(self)
        if not _open and _report:
            _report[-1]("")

    @property
    def text(self) -> str:
        """Name of the step, and how far it is."""
        if not self._total:
            return self._step
        if self._counted:
            return f"{self._step} {self._done:,.0f} of {self._total:,.0f}"
        return f"{self._step}: {100 * self._done / self._total:.0f} %"

    def advance(self, amount: float = 1.0) -> None:
        """Add finished work, and report all open steps if the last report is long ago."""
        global _last
        self._done += amount
        now = time.monotonic()
        if now - _last >= PAUSE_S:
            _last = now
            _report[-1](position()) if _report else log.info("%s", position())


def position() -> str:
    """Return how far all open steps of this process are, outermost first."""
    return ", ".join(text for step in _open.copy() if (text := step.text))


@contextlib.contextmanager
def opened(step: Step) -> Iterator[None]:
    """Let a step be part of what is reported inside the block."""
    _open.append(step)
    try:
        yield
    finally:
        _open.remove(step)


@contextlib.contextmanager
def reporting_to(report: Report) -> Iterator[None]:
    """Report to a function instead of the log inside the block."""
    _report.append(report)
    try:
        yield
    finally:
        _report.remove(report)
