"""Who hears of trials as they run: the tracker, the terminal, the study's own record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from ..config import Recipe

Kind = Literal["baseline", "search", "confirm"]


class Listener(Protocol):
    """Hears every trial. A method that raises ends the study: only a full disk is a reason.

    Listeners hear before the journal does, so a study that goes on after a crash may tell
    something twice, and leaves nothing out.
    """

    def started(self, key: str, recipe: Recipe, *, kind: Kind) -> None:
        """A training begins, or goes on."""

    def epoch(self, key: str, metrics: Mapping[str, float]) -> None:
        """A training has finished an epoch, perhaps one that was heard before."""

    def paused(self, key: str, epoch: int) -> None:
        """A trial waits at a rung."""

    def ended(self, key: str, state: str, message: str) -> None:
        """A training has ended for good."""
