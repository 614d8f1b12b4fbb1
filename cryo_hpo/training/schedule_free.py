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
from typing import TYPE_CHECKING

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


@torch.no_grad()
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
    model.train()
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
    images = (x for x_BCHW in islice(batches, BATCHES) for x in x_BCHW.split(micro_batch))  # type: ignore[no-untyped-call]
    for number, x_MCHW in enumerate(images, start=1):
        for norm in norms:
            # The mean over all passes. torch's own, momentum None, would wait for a GPU's counter.
            norm.momentum = 1 / number
        forward(x_MCHW)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
