"""Find trainings that hang: no epoch for far longer than their epochs take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

TIMES = 10.0  # a training hangs after so many of its longest epochs
LEAST_S = 60.0  # shorter silences are those of a busy machine
START_S = 300.0  # at least this for a worker's start and first epoch: imports, weights, caches
FIRST_S = 3600.0  # before any epoch of the study: data may be decoded, weights downloaded


def hang_limit_s(
    own: Iterable[float], others: Iterable[float] = (), *, given_s: float | None = None
) -> float:
    """Return the seconds without an epoch after which a training hangs.

    Args:
        own: Seconds of the training's epochs so far.
        others: Seconds of the epochs of the study's other trainings, for one without epochs.
        given_s: The study's own setting; None: `TIMES` the longest epoch, at least `LEAST_S`, or
            `START_S` before the training's first epoch.
    """
    if given_s is not None:
        return given_s
    if longest := max(own, default=0.0):
        return max(LEAST_S, TIMES * longest)
    longest = max(others, default=0.0)
    return max(START_S, TIMES * longest) if longest else FIRST_S


@dataclass(slots=True)
class _Running:
    """Hold when a training last gave a sign of life, and its longest epoch."""

    last: float
    longest: float = 0.0
    reported: bool = False


class HangWatch:
    """Watch the trainings of a study for silence, from the start of their workers.

    A training that was silent before its first epoch gets twice as long at its next start: a limit
    shorter than a worker's start cannot end it for good.
    """

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
        self._late_starts: Counter[str] = Counter()
        self._longest = 0.0

    def __contains__(self, key: str) -> bool:
        """Return whether a training is watched."""
        return key in self._running

    def began(self, key: str) -> None:
        """Note that a training's worker starts, or starts again."""
        self._running[key] = _Running(self._clock())

    def epoch(self, key: str, seconds: float) -> None:
        """Note an epoch of a training, and how long it took by its own clock."""
        now = self._clock()
        running = self._running.setdefault(key, _Running(now))
        if not running.reported:  # an epoch that was held up for hours is no measure
            running.longest = max(running.longest, seconds)
            self._longest = max(self._longest, running.longest)
        running.last, running.reported = now, False
        self._late_starts.pop(key, None)

    def ended(self, key: str) -> None:
        """Note that a training has ended."""
        self._running.pop(key, None)

    def newly_silent(self) -> list[tuple[str, float]]:
        """Return each training that hangs since the last call, with its seconds without an epoch."""
        now, silent = self._clock(), []
        for key, running in self._running.items():
            if not running.reported and now - running.last > self._limit_s(key):
                running.reported = True
                self._late_starts[key] += not running.longest
                silent.append((key, now - running.last))
        return silent

    def _limit_s(self, key: str) -> float:
        running = self._running[key]
        limit_s = hang_limit_s([running.longest], [self._longest], given_s=self._given_s)
        return limit_s if running.longest else limit_s * 2 ** self._late_starts[key]
