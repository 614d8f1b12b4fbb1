"""Average the weights over the last steps of a training (exponential moving average, EMA)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..models import restore

Tensors = list[Tensor] | tuple[Tensor, ...]


class WeightAverage:
    """Keep a bias-corrected exponential moving average of a model's weights.

    After step t the average of weights w is the sum of (1 - decay) * decay^(t-i) * w_i over all
    steps i, divided by 1 - decay^t, the sum of these shares. So the first step's average is the
    first step's weights: neither zeros nor the initial weights are in it, and a warm-up of the
    decay is not needed. Running statistics of normalization layers are averaged too; counters are
    copied.

    Source: Kingma and Ba 2015, arXiv:1412.6980, section 7.2.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self._decay, self._steps = decay, 0
        averaged = AveragedModel(model, multi_avg_fn=self._blend, use_buffers=True)
        self._averaged = averaged.eval().requires_grad_(requires_grad=False)

    @property
    def model(self) -> nn.Module:
        """Averaged model, in evaluation mode and without gradients."""
        module: nn.Module = self._averaged.module
        return module

    def update(self, model: nn.Module) -> None:
        """Add the model's weights after one more step to the average."""
        self._steps += 1
        self._averaged.update_parameters(model)

    def state(self) -> dict[str, Any]:
        """Return the state to save in a checkpoint."""
        return {"model": self.model.state_dict(), "steps": self._steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Load the state from a checkpoint."""
        restore(self.model, state["model"])
        self._steps = state["steps"]
        self._averaged.n_averaged.fill_(self._steps)

    def _blend(self, means: Tensors, weights: Tensors, _steps: Tensor | int) -> None:
        """Move averages of one data type towards new weights.

        Uses its own step count: torch's count is a tensor, and reading it would wait for the GPU
        at every step.
        """
        if means[0].is_floating_point():
            share = (1 - self._decay) / (1 - self._decay**self._steps)
            torch._foreach_lerp_(means, weights, share)
        else:
            torch._foreach_copy_(means, weights)
