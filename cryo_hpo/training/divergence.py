"""Detect a diverged training: loss or gradient norm not finite, or loss exploded."""

from __future__ import annotations

import math

from ..errors import Diverged

FACTOR = 10.0
STEPS = 10


class DivergenceMonitor:
    """Check the loss and gradient norm of every step.

    A loss has exploded when `STEPS` consecutive steps are above `FACTOR` times the loss of an even
    guess (the same probability for every class: log K for the cross-entropy). Only confident wrong
    predictions on most pixels cost that much. The first steps at a high learning rate may exceed
    the limit briefly and recover, so a single step does not count.

    Attributes:
        streak: Consecutive steps above the limit so far; checkpoints save it.
    """

    def __init__(self, even_guess: float, *, steps: int, what: str) -> None:
        """Monitor a training.

        Args:
            even_guess: Loss of a model that gives every class the same probability.
            steps: Steps in one epoch, to report epoch and step.
            what: Description of the training, for messages.
        """
        self._limit, self._guess = FACTOR * even_guess, even_guess
        self._steps, self._what = steps, what
        self.streak = 0

    def check_loss(self, value: float, position: int) -> None:
        """Check the loss of a step.

        Raises:
            Diverged: The loss is not finite, or has exploded.
        """
        if not math.isfinite(value):
            raise Diverged(self._message(f"Loss became {value}", position))
        self.streak = self.streak + 1 if value > self._limit else 0
        if self.streak >= STEPS:
            event = (
                f"Loss exploded: {STEPS} steps in a row above {FACTOR:g} times that of an even "
                f"guess ({self._guess:.3g}), now {value:.3g},"
            )
            raise Diverged(self._message(event, position))

    def check_gradient(self, norm: float, position: int) -> None:
        """Check the norm of a step's gradient.

        Raises:
            Diverged: The norm is not finite.
        """
        if not math.isfinite(norm):
            raise Diverged(self._message(f"Gradient norm became {norm}", position))

    def _message(self, event: str, position: int) -> str:
        epoch, step = divmod(position, self._steps)
        return (
            f"{event} at epoch {epoch + 1}, step {step + 1} ({self._what}). "
            f"The trial ends here; its last good epoch is {epoch}."
        )
