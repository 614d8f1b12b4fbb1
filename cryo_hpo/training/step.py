"""Take one optimizer step of a training, and check what it gave."""

# B batch, C bands, H W pixels
from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from torch import Tensor, nn

from ..evaluation.out_of_memory import reporting_out_of_memory
from .kernels import refusing_unrepeatable
from .readout import StepValues
from .run import Run


def take_step(run: Run, x_BCHW: Tensor, y_BHW: Tensor, *, position: int) -> tuple[Tensor, Tensor]:
    """Run one optimizer step; return the loss and the norm of the gradient, on the device."""
    for group in run.optimizer.param_groups:
        group["lr"] = group["initial_lr"] * run.factor(position)
    with refusing_unrepeatable(run.recipe):
        loss = run.step(x_BCHW, y_BHW)
    norm = _clip(run.model, run.recipe.optim.clip_grad_norm)
    with reporting_out_of_memory("updating the weights"):
        run.optimizer.step()
        if run.average is not None:
            run.average.update(run.model)
    return loss, norm


def timed(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Add to each batch the seconds spent waiting for it.

    Raises:
        OutOfMemory: A batch does not fit into memory.
    """
    iterator = iter(batches)
    while True:
        started = time.perf_counter()
        with reporting_out_of_memory("moving a batch to the device"):
            batch = next(iterator, None)
        if batch is None:
            return
        yield *batch, time.perf_counter() - started


def check_steps(run: Run, steps: Sequence[StepValues]) -> float:
    """Check losses and gradient norms of steps; return the sum of the losses.

    Raises:
        Diverged: A value is not finite, or the loss has exploded.
    """
    for position, loss, norm in steps:
        run.monitor.check_loss(loss, position)
        run.monitor.check_gradient(norm, position)
    return sum((values.loss for values in steps), start=0.0)


def _clip(model: nn.Module, limit: float | None) -> Tensor:
    """Clip the gradient if there is a limit; return the norm before clipping, (), float."""
    if limit is not None:
        return nn.utils.clip_grad_norm_(model.parameters(), limit)
    return nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
