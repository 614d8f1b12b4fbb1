"""Read each step's loss and gradient norm from a GPU without waiting for the step itself."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class StepValues(NamedTuple):
    """Hold the numbers of one optimizer step."""

    position: int
    """Number of earlier steps since the start of the training."""
    loss: float
    norm: float
    """Gradient norm before clipping."""


class StepReadout:
    """Copy loss and norm of every step to the host; values from a GPU arrive one step late.

    Reading a number from a GPU waits until everything that was launched before has run, and then
    the GPU idles until the next launch. So the copy of a step is launched with the step, and waited
    for once the next step has been launched. A CPU has nothing to wait for: values come at once.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._pending: tuple[int, Tensor, torch.cuda.Event] | None = None

    def push(self, position: int, loss: Tensor, norm: Tensor) -> list[StepValues]:
        """Add a step whose work has been launched; return the values that have arrived.

        Args:
            position: Number of earlier steps.
            loss: (), on the device.
            norm: (), on the device.
        """
        if not self._on_gpu:
            return [StepValues(position, float(loss), float(norm))]
        values = torch.stack([loss.double(), norm.double()])
        copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        copy.copy_(values, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        arrived = self.flush()
        self._pending = (position, copy, event)
        return arrived

    def flush(self) -> list[StepValues]:
        """Wait for the step still in flight, if any, and return its values."""
        if self._pending is None:
            return []
        (position, copy, event), self._pending = self._pending, None
        event.synchronize()
        loss, norm = copy.tolist()
        return [StepValues(position, loss, norm)]
