"""Hold the record of one trial of a search: parameters, state, curve, decisions."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Literal

from .rungs import Step

if TYPE_CHECKING:
    from ..config.space import Scalar

BASELINE = 0  # the trial number of the fixed-LR baseline

State = Literal["running", "complete", "pruned", "diverged", "failed"]


@dataclass(frozen=True, slots=True)
class Record:
    """Hold the record of one trial.

    Attributes:
        number: Optuna's trial number; 0 is the baseline.
        params: Recipe paths and values; empty for a baseline outside the space.
        drawn: Values that the space suggested; as `params` unless a function computes those.
        state: "running" also while the trial is paused at a rung.
        curve: Epoch -> best validation mIoU so far.
        message: Reason the trial ended, if there is more than the state.
        steps: Decisions about the trial at rungs, with its rank there, in order.
    """

    number: int
    params: dict[str, Scalar]
    state: State
    drawn: dict[str, Scalar] = field(default_factory=dict)
    curve: dict[int, float] = field(default_factory=dict)
    message: str = ""
    steps: tuple[Step, ...] = ()

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return max(self.curve, default=0)

    @property
    def unbroken(self) -> int:
        """Number of epochs from the first on without a gap."""
        return next(n for n in count() if n + 1 not in self.curve)

    @property
    def score(self) -> float:
        """Best validation mIoU reached; nan before the first epoch."""
        return self.curve[self.epochs] if self.curve else float("nan")


def key(number: int) -> str:
    """Return the name of a search trial's job."""
    return f"trial-{number:04d}"


def winner(records: list[Record]) -> Record:
    """Return the best trial of those trained to full length; ties go to the lower number."""
    full = [record for record in records if record.state == "complete"]
    return min(full, key=lambda record: (-record.score, record.number))


def ties(records: list[Record]) -> list[int]:
    """Return the numbers of the other trials of full length with the winner's score."""
    won = winner(records)
    whole = (r for r in records if r.state == "complete" and r.number != won.number)
    return sorted(record.number for record in whole if record.score == won.score)
