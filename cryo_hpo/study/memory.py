"""Measure the memory of a training step, and the batch or the pack of trainings that fits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from ..training.build import dataset_of, freeze, segmenter

if TYPE_CHECKING:
    from ..config import Recipe, Site

GIB = 2**30
CONTEXT_GIB = 0.6  # of CUDA itself, before the first tensor
SHARE = 0.8  # of the rest that a step may take: workspaces of cuDNN, and fragmentation
OPENING = 3  # models at a time while a training of a pack is opened
ADAM = 3  # tensors of a trained parameter beside itself: gradient and two moments


class StepMemory(NamedTuple):
    """Hold the memory of a training step in fp32, GiB."""

    fixed_gib: float
    """Parameters, gradients and the optimizer's moments."""
    sample_gib: float
    """Activations that the backward pass keeps, of one crop."""
    model_gib: float = 0.0
    """Parameters alone, those of a frozen encoder too."""
    member_gib: float = 0.0
    """What a training adds to a pack that shares its frozen encoder: what is trained, gradients,
    moments and, if there is one, the average."""

    def of_batch(self, batch: int) -> float:
        """Return the memory of a step, GiB."""
        return self.fixed_gib + batch * self.sample_gib

    def largest_batch(self, gpu_gib: float) -> int:
        """Return the largest batch that fits a GPU; 0: not even one crop does."""
        free = SHARE * (gpu_gib - CONTEXT_GIB) - self.fixed_gib
        return max(0, int(free / max(self.sample_gib, 1e-9)))

    def largest_pack(self, room_gib: float, *, batch: int, most: int) -> int:
        """Return the largest pack of trainings that fits into memory, from 1 to `most`.

        One step at a time needs activations. While a training is opened it has an encoder of its own,
        and its weight average one too, beside the shared one.
        """
        once = max(self.of_batch(batch), OPENING * self.model_gib)
        beside = int((SHARE * room_gib - once) / max(self.member_gib, 1e-9))
        return max(1, min(1 + beside, most))


def measure_step(recipe: Recipe, site: Site) -> StepMemory:
    """Measure a step on the CPU: what autograd keeps is the same there as on a GPU in fp32.

    Raises:
        CryoError: The data are missing, or the model does not fit them.
    """
    model = segmenter(recipe, site=site, weights="scratch")
    freeze(recipe, model)
    model.train()
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    whole = sum(p.nbytes for p in model.parameters())
    single, two = (_kept_bytes(model, recipe, batch) for batch in (1, 2))
    return StepMemory(
        fixed_gib=(whole + ADAM * trained) / GIB,
        sample_gib=max(two - single, 0) / GIB,
        model_gib=whole / GIB,
        member_gib=(1 + ADAM + (recipe.optim.ema is not None)) * trained / GIB,
    )


def _kept_bytes(model: nn.Module, recipe: Recipe, batch: int) -> int:
    """Return the bytes that a forward pass keeps for the backward pass, parameters aside."""
    side, bands = recipe.data.crop, len(dataset_of(recipe.data).bands)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}
    with _recorded(kept):
        model(torch.rand(batch, bands, side, side))
    return sum(size for place, size in kept.items() if place not in own)


@contextmanager
def _recorded(kept: dict[int, int]) -> Iterator[None]:
    held: list[Tensor] = []  # a freed place would be used again, and counted once

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield
