"""Hold the results of finished epochs, and iterate over the epochs still to train."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from ..config.metric import MIOU
from ..evaluation.field_metrics import Metric
from ..evaluation.metrics import Scores
from ..results.epochs import EPOCH, MIOU_SCORE, SCORE, TOGETHER

BY_MIOU = Metric(MIOU, "")


@dataclass(frozen=True, slots=True)
class Epoch:
    """Hold the results of one epoch of training.

    Attributes:
        number: 1-based.
        train_loss: Mean over the epoch's steps.
        lr: Learning rate of the decoder at the last step.
        val: Scores on the whole validation split, of the averaged weights where the recipe has
            them; if this epoch was not scored, the scores of the last scored one.
        best_val_miou: Validation mIoU of the best checkpoint so far, a fraction.
        best_val_score: Validation score of that checkpoint by the metric that selects; more is
            better, so that of an error is negative.
        metric: The metric that selects.
        seconds: Wall-clock time of training and validation.
        data_seconds: The part of `seconds` spent waiting for batches.
        peak_gib: Peak GPU memory since the training started or resumed, GiB; 0 on CPU.
        micro_batch: Samples per forward pass; less than the recipe's batch size where memory was
            too small.
        scored: The validation split was scored after this epoch.
        together: Trainings that this process trained side by side in this epoch; `seconds` are this
            one's share.
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
    best_val_score: float = -math.inf
    metric: Metric = BY_MIOU
    scored: bool = True
    together: int = 1

    def metrics(self) -> dict[str, float]:
        """Return the metrics as a flat mapping that always holds `EPOCH` and `MIOU_SCORE`.

        Where another metric than mIoU selects, it holds `SCORE`, and `val_metric` in its unit.
        """
        return {
            EPOCH: self.number,
            MIOU_SCORE: self.best_val_miou,
            "train_loss": self.train_loss,
            "lr": self.lr,
            "seconds": self.seconds,
            "data_seconds": self.data_seconds,
            "peak_gib": self.peak_gib,
            "micro_batch": self.micro_batch,
            "collapsed": float(self.val.predicts_one_class),
            **({} if self.together == 1 else {TOGETHER: self.together}),
            **(self.val.metrics("val") if self.scored else {}),
            **({} if self.metric.name == MIOU else self._selection()),
        }

    def _selection(self) -> dict[str, float]:
        value = self.metric.value(self.val) if self.scored else math.nan
        return {
            SCORE: self.best_val_score,
            **({} if math.isnan(value) else {"val_metric": value}),
        }


class Training:
    """Iterate over the epochs of a training that are not finished yet.

    Attributes:
        history: Metrics of the epochs that an earlier process finished, oldest first.
    """

    def __init__(self, history: list[dict[str, float]], epochs: Generator[Epoch]) -> None:
        self.history, self._epochs = history, epochs

    def __iter__(self) -> Iterator[Epoch]:
        return self

    def __next__(self) -> Epoch:
        return next(self._epochs)

    def close(self) -> None:
        """End the training where it is, once the checkpoint in flight is on the disk."""
        self._epochs.close()
