"""Find trainings that hang: no epoch for far longer than their epochs take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

TIMES = 10.0  # a training hangs after so many of its longest epochs
LEAST_S = 60.0  # shorter silences are those of a busy machine
FIRST_S = 3600.0  # before any epoch of the study: data may be decoded, weights downloaded


def hang_limit_s(
    own: Iterable[float], others: Iterable[float] = (), *, given_s: float | None = None
) -> float:
    """Return the seconds without an epoch after which a training hangs.

    Args:
        own: Seconds of the training's epochs so far.
        others: Seconds of the epochs of the study's other trainings, for one without epochs.
        given_s: The study's own setting; None: `TIMES` the longest epoch, at least `LEAST_S`.
    """
    if given_s is not None:
        return given_s
    longest = max(own, default=0.0) or max(others, default=0.0)
    return max(LEAST_S, TIMES * longest) if longest else FIRST_S


@dataclass(slots=True)
class _Running:
    """Hold when a training last gave a sign of life, and its longest epoch."""

    last: float
    longest: float = 0.0
    reported: bool = False


class HangWatch:
    """Watch the trainings of a study for silence."""

    def __init__(
        self, given_s: float | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Set the limit.

        Args:
            given_s: Seconds without an epoch; None: by the epochs, see `hang_limit_s`.
            clock: Returns seconds.
        """
        self._given_s, self._clock = given_s, clock
        self._running: dict[str, _Running] = {}
        self._longest = 0.0

    def began(self, key: str) -> None:
        """Note that a training begins, or begins again."""
        self._running[key] = _Running(self._clock())

    def epoch(self, key: str) -> None:
        """Note an epoch of a training."""
        now = self._clock()
        running = self._running.setdefault(key, _Running(now))
        if not running.reported:  # an epoch that was held up for hours is no measure
            running.longest = max(running.longest, now - running.last)
            self._longest = max(self._longest, running.longest)
        running.last, running.reported = now, False

    def ended(self, key: str) -> None:
        """Note that a training has ended."""
        self._running.pop(key, None)

    def newly_silent(self) -> list[tuple[str, float]]:
        """Return each training that hangs since the last call, with its seconds without an epoch."""
        now, silent = self._clock(), []
        for key, running in self._running.items():
            limit_s = hang_limit_s([running.longest], [self._longest], given_s=self._given_s)
            if not running.reported and now - running.last > limit_s:
                running.reported = True
                silent.append((key, now - running.last))
        return silent
