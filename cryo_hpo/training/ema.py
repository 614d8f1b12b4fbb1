"""An average of the weights over the last steps of a training: what they circle around."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """The exponential moving average of a model's weights, free of where it started.

    After step t the average of weights w is the sum of (1 - decay) * decay^(t-i) * w_i over all
    steps i, divided by 1 - decay^t, the sum of these shares. So the first step's average is the
    first step's weights: neither zeros nor the initial weights are in it, and a warm-up of the
    decay is not needed. What normalisation layers count (running means) is averaged with it.

    The averaged model's tensors are looked at in place: it may load a state, not change them for
    others.

    Attributes:
        model: Holds the average. In eval mode, without gradients.

    Source: Kingma and Ba 2015, arXiv:1412.6980, section 7.2.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
        self._decay, self._steps = decay, 0
        pairs = list(zip(_tensors(self.model), _tensors(model), strict=True))
        self._means = [mine for mine, _ in pairs if mine.is_floating_point()]
        self._weights = [new.detach() for mine, new in pairs if mine.is_floating_point()]
        self._counts = [(mine, new) for mine, new in pairs if not mine.is_floating_point()]

    def update(self) -> None:
        """Take in the model's weights after one more step."""
        self._steps += 1
        share = (1 - self._decay) / (1 - self._decay**self._steps)
        torch._foreach_lerp_(self._means, self._weights, share)
        for mine, new in self._counts:
            mine.copy_(new)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"model": self.model.state_dict(), "steps": self._steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        self.model.load_state_dict(state["model"])
        self._steps = state["steps"]


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
