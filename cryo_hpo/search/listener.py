"""Define the listener that receives the events of running trials, such as the study's records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from ..config import Recipe

Kind = Literal["baseline", "search", "confirm"]


class Listener(Protocol):
    """Receive the events of every trial.

    A method that raises ends the study, so only a full disk is a reason to raise. Listeners are
    notified before the journal is written, so a study that resumes after a crash may repeat an
    event, but omits none.
    """

    def started(self, key: str, recipe: Recipe, *, kind: Kind) -> None:
        """Record that a training starts or resumes."""

    def epoch(self, key: str, metrics: Mapping[str, float]) -> None:
        """Record an epoch of a training, possibly one that was recorded before."""

    def paused(self, key: str, epoch: int) -> None:
        """Record that a trial is paused at a rung."""

    def ended(self, key: str, state: str, message: str) -> None:
        """Record that a training has ended for good."""

    def reconcile(
        self,
        key: str,
        recipe: Recipe,
        *,
        kind: Kind,
        epochs: int,
        state: str | None = None,
        message: str = "",
    ) -> None:
        """Record what the log has lost of a training of an earlier run; nothing if it is whole.

        Args:
            key: Name of the training.
            recipe: Its recipe.
            kind: Its part of the study.
            epochs: Number of epochs that it has reached.
            state: Its final state; None: it has not ended.
            message: Reason of the final state.
        """
