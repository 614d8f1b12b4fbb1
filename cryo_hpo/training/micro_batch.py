"""Compute the gradient of a batch, whole or accumulated over micro-batches that fit memory."""

# B batch, C bands, K classes, H W pixels, M micro-batch
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..evaluation.out_of_memory import with_halving_batch

Forward = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
Weight = Callable[[Tensor], Tensor]


class AccumulatingStep:
    """Accumulate the gradient of a batch over as many micro-batches as memory requires.

    Each micro-batch is weighted by what its loss is a mean over (see `losses.make_weight`), so that
    the sum is the mean over the whole batch: the same gradient but for rounding, for every loss
    that is a mean over pixels. Two results depend on the micro-batch size: the training statistics
    of batch-norm, and the Dice loss, which is a quotient of sums over a micro-batch.

    Attributes:
        micro_batch: Samples in one micro-batch; the number only ever shrinks.
    """

    def __init__(
        self, model: nn.Module, *, forward: Forward, loss: Loss, weight: Weight, micro_batch: int
    ) -> None:
        self._model, self._forward, self._loss, self._weight = model, forward, loss, weight
        self.micro_batch = micro_batch

    def __call__(self, x_BCHW: Tensor, y_BHW: Tensor) -> Tensor:
        """Replace the gradients by those of a batch; return its loss, (), on the device.

        A step that ran out of memory restarts with the same random and running statistics.

        Raises:
            OutOfMemory: One sample does not fit.
        """
        start = _Start(self._model, x_BCHW.device)
        tries = 0

        def attempt(micro_batch: int) -> Tensor:
            nonlocal tries
            tries += 1
            if tries > 1:
                start.restore()
            self._model.zero_grad(set_to_none=True)
            return self._accumulate(x_BCHW, y_BHW, micro_batch)

        size = min(self.micro_batch, len(x_BCHW))
        loss, fits = with_halving_batch(attempt, size, what="training sample")
        if tries > 1:
            self.micro_batch = fits
        return loss

    def _accumulate(self, x_BCHW: Tensor, y_BHW: Tensor, micro_batch: int) -> Tensor:
        parts = math.ceil(len(x_BCHW) / micro_batch)
        if parts == 1:
            loss = self._loss(self._forward(x_BCHW), y_BHW)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()
        whole = self._weight(y_BHW)
        total = torch.zeros((), dtype=torch.float64, device=x_BCHW.device)
        pairs = zip(x_BCHW.split(micro_batch), y_BHW.split(micro_batch), strict=True)  # type: ignore[no-untyped-call]
        for x_MCHW, y_MHW in pairs:
            share = self._weight(y_MHW) / whole.clamp(min=torch.finfo(whole.dtype).tiny)
            loss = self._loss(self._forward(x_MCHW), y_MHW) * share
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total


class _Start:
    """Hold the random states and running statistics from before a forward pass."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._device = device
        self._random = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
        self._buffers: list[tuple[Any, Tensor]] = [
            (b, b.clone()) for m in norms for b in m.buffers(recurse=False)
        ]

    @torch.no_grad()
    def restore(self) -> None:
        torch.set_rng_state(self._random)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda, self._device)
        for buffer, before in self._buffers:
            buffer.copy_(before)
