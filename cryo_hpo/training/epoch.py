"""Hold the results of finished epochs, and iterate over the epochs still to train."""

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
            them; if this epoch was not scored, the scores of the last scored one.
        best_val_miou: Best validation mIoU so far, a fraction; the best checkpoint has this score.
        seconds: Wall-clock time of training and validation.
        data_seconds: The part of `seconds` spent waiting for batches.
        peak_gib: Peak GPU memory since the training started or resumed, GiB; 0 on CPU.
        micro_batch: Samples per forward pass; less than the recipe's batch size where memory was
            too small.
        scored: The validation split was scored after this epoch.
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
        """Return the metrics as a flat mapping that always holds `EPOCH` and `SCORE`."""
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
    """Iterate over the epochs of a training that are not finished yet.

    Attributes:
        history: Metrics of the epochs that an earlier process finished, oldest first.
    """

    def __init__(self, history: list[dict[str, float]], epochs: Iterator[Epoch]) -> None:
        self.history, self._epochs = history, epochs

    def __iter__(self) -> Iterator[Epoch]:
        return self

    def __next__(self) -> Epoch:
        return next(self._epochs)
