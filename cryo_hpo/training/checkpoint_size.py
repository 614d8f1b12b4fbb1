"""Count the bytes of a training's checkpoints before it begins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from .build import freeze, omit_frozen
from .optimizer import OPTIMIZERS

if TYPE_CHECKING:
    from ..config import Recipe
    from ..models import Segmenter


@dataclass(frozen=True, slots=True)
class CheckpointSize:
    """Hold the bytes of a training's files.

    Attributes:
        last: What it resumes from, written every epoch; the one before is kept too.
        ended: The same once the training has ended: without the optimizer's values.
        best: The best model, once the training has ended.
    """

    last: int
    ended: int
    best: int

    @property
    def most(self) -> int:
        """Bytes of a training's files at any time, at most."""
        return 2 * self.last + self.best


def count_bytes(recipe: Recipe, model: Segmenter) -> CheckpointSize:
    """Return the size of a training's checkpoints.

    Args:
        recipe: Recipe of the training.
        model: Its model, as `segmenter` builds it, also on the meta device. Changed in place.
    """
    freeze(recipe, model)
    whole = _sum(model.state_dict().values())  # of adapted models what is trained
    omit_frozen(recipe, model)
    kept = _sum(model.state_dict().values())
    trained = _sum(p for p in model.parameters() if p.requires_grad)
    ended = kept if recipe.optim.ema is None else 2 * kept
    values = OPTIMIZERS[recipe.optim.name].values
    return CheckpointSize(last=ended + values * trained, ended=ended, best=whole)


def _sum(tensors: Iterable[Tensor]) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)
