"""Score the averaged weights of a schedule-free optimizer, and train the others.

A schedule-free optimizer steps at weights y and averages others to x; the model holds one of the
two. x is what is validated, saved and exported. The statistics of batch-norm that training gathered
are those of y, and are computed again at x before every score.

Source: Defazio et al. 2024, arXiv:2405.15682, and the authors' package schedulefree.
"""

# B batch, C bands, H W pixels

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Self

import torch
from schedulefree import AdamWScheduleFree
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from .micro_batch import Forward

BATCHES = 50  # training batches that the authors take for the statistics


def hold_trained_weights(optimizer: torch.optim.Optimizer) -> None:
    """Let the model hold the weights to train; no effect on other optimizers."""
    if isinstance(optimizer, AdamWScheduleFree):
        optimizer.train()


def hold_scored_weights(optimizer: torch.optim.Optimizer) -> bool:
    """Let the model hold the averaged weights; return False for other optimizers."""
    if not isinstance(optimizer, AdamWScheduleFree):
        return False
    optimizer.eval()
    return True


def recompute_statistics(
    model: nn.Module, batches: Iterable[Tensor], *, forward: Forward, micro_batch: int
) -> None:
    """Replace the running statistics of batch-norm by the means over training batches.

    Layers that do not move in training, such as a frozen encoder's, keep theirs.

    Args:
        model: Model with the weights that are scored. Changed in place, left in training mode.
        batches: Training batches, (B, C, H, W) each; at most `BATCHES` are used.
        forward: The model in its precision.
        micro_batch: Samples per forward pass.
    """
    with Statistics(model, forward=forward, micro_batch=micro_batch) as statistics:
        if statistics.needed:
            for x_BCHW in islice(batches, BATCHES):
                statistics.add(x_BCHW)


class Statistics:
    """Replace the running statistics of batch-norm by the means over the batches that are added.

    Attributes:
        needed: Whether the model has such statistics that move in training.
    """

    def __init__(self, model: nn.Module, *, forward: Forward, micro_batch: int) -> None:
        """Set the model to training mode; see `recompute_statistics`."""
        model.train()
        self._norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
        self._momenta = [norm.momentum for norm in self._norms]
        self._forward, self._micro_batch, self._passes = forward, micro_batch, 0
        self.needed = bool(self._norms)

    def __enter__(self) -> Self:
        """Forget the statistics so far."""
        for norm in self._norms:
            norm.reset_running_stats()
        return self

    @torch.no_grad()
    def add(self, x_BCHW: Tensor) -> None:
        """Add a batch to the means."""
        for x_MCHW in x_BCHW.split(self._micro_batch):  # type: ignore[no-untyped-call]
            self._passes += 1
            for norm in self._norms:
                # The mean over all passes. torch's own, momentum None, would wait for a GPU's counter.
                norm.momentum = 1 / self._passes
            self._forward(x_MCHW)

    def __exit__(self, *_: object) -> None:
        """Let the statistics move as before."""
        for norm, momentum in zip(self._norms, self._momenta, strict=True):
            norm.momentum = momentum
