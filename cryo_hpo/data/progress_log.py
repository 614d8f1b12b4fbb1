"""Log how far a long step is, every few seconds."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)

PAUSE_S = 5.0  # shorter steps log nothing


class ProgressLog:
    """Log the share of a step that is done, at level INFO; the command line prints it."""

    def __init__(self, step: str, total: float) -> None:
        """Start a step.

        Args:
            step: What is done, for the message: "reading train of 'lakes'".
            total: Amount of work, in any unit.
        """
        self._step, self._total, self._done = step, total, 0.0
        self._last = time.monotonic()

    def advance(self, amount: float = 1.0) -> None:
        """Add finished work."""
        self._done += amount
        now = time.monotonic()
        if now - self._last >= PAUSE_S:
            self._last = now
            log.info("%s: %.0f %%", self._step, 100 * self._done / max(self._total, 1e-9))
