"""Describe the epochs of a training: those that are finished, and those still to come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..evaluation.metrics import Scores
from ..results.epochs import EPOCH, SCORE


@dataclass(frozen=True, slots=True)
class Epoch:
    """Hold the results of one epoch of training.

    Attributes:
        number: 1-based.
        train_loss: Mean over the epoch's steps.
        lr: Learning rate of the decoder at the last step.
        val: Scores on the whole validation split, of the averaged weights where the recipe has
            them; those of the last time it was scored, if this epoch did not.
        best_val_miou: Best validation mIoU so far, a fraction: the checkpoint kept is that one.
        seconds: Training and validation, wall clock.
        data_seconds: The part of `seconds` spent waiting for batches.
        peak_gib: Largest memory on the GPU since the training began or resumed; 0 on CPU.
        micro_batch: Samples that went through the model at a time; less than the recipe's batch
            size where memory was too small.
        scored: Whether the validation split was scored after this epoch.
    """

    number: int
    train_loss: float
    lr: float
    val: Scores
    best_val_miou: float
    seconds: float
    data_seconds: float
    peak_gib: float
    micro_batch: int
    scored: bool = True

    def metrics(self) -> dict[str, float]:
        """Return the numbers as a flat mapping; it always holds `EPOCH` and `SCORE`."""
        return {
            EPOCH: self.number,
            SCORE: self.best_val_miou,
            "train_loss": self.train_loss,
            "lr": self.lr,
            "seconds": self.seconds,
            "data_seconds": self.data_seconds,
            "peak_gib": self.peak_gib,
            "micro_batch": self.micro_batch,
            "collapsed": float(self.val.predicts_one_class),
            **(self.val.metrics("val") if self.scored else {}),
        }


class Training:
    """Iterate over the epochs of a training that are still to come.

    Attributes:
        history: Metrics of the epochs that an earlier process finished, oldest first.
    """

    def __init__(self, history: list[dict[str, float]], epochs: Iterator[Epoch]) -> None:
        self.history, self._epochs = history, epochs

    def __iter__(self) -> Iterator[Epoch]:
        return self

    def __next__(self) -> Epoch:
        return next(self._epochs)
