"""Hold a running training, and convert it to and from its checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..data.tiles import Tiles
from ..errors import SpecError
from ..evaluation.metrics import Scores
from ..models import FINGERPRINT, restore
from . import checkpoints
from .divergence import DivergenceMonitor
from .ema import WeightAverage
from .micro_batch import AccumulatingStep, Forward
from .readout import StepReadout
from .validation import Validation

if TYPE_CHECKING:
    from ..config import Recipe
    from ..config.protocol import Protocol
    from ..models import Segmenter


@dataclass(slots=True)
class Run:
    """Hold the model, optimizer, data and state of one running training.

    Attributes:
        forward: The model in its precision, from normalized bands to logits in float32.
        best: Validation score of the checkpoint that is kept, by the metric that selects.
        best_miou: Validation mIoU of that checkpoint.
    """

    recipe: Recipe
    protocol: Protocol
    model: Segmenter
    average: WeightAverage | None
    optimizer: torch.optim.Optimizer
    tiles: Tiles
    validation: Validation
    forward: Forward
    step: AccumulatingStep
    monitor: DivergenceMonitor
    readout: StepReadout
    factor: Callable[[int], float]
    steps: int
    device: torch.device
    history: list[dict[str, float]]
    val: Scores
    best: float = -math.inf
    best_miou: float = -math.inf

    @property
    def scored(self) -> nn.Module:
        """Model to validate and save: the weight average where there is one."""
        return self.model if self.average is None else self.average.model

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the training batches of an epoch, on the device; see `Tiles.batches`."""
        recipe = self.recipe
        return self.tiles.batches(
            recipe.batch_size, seed=recipe.seed, epoch=epoch, device=self.device
        )


def load_state(recipe: Recipe, workdir: Path) -> dict[str, Any] | None:
    """Return the last whole epoch of a recipe's training, with its tensors on the CPU.

    AdamW's step counts must stay on the CPU: an unfused optimizer would read them back from a GPU
    one by one at every step. The weights move to the device when they are loaded.

    Raises:
        SpecError: The checkpoint belongs to another recipe.
    """
    state = checkpoints.load_last(workdir)
    if state is not None and state["recipe"] != recipe.id:
        message = (
            f"'{workdir}' holds a training of recipe {state['recipe']}, this is {recipe.id}. "
            "A work directory belongs to one recipe: name another one."
        )
        raise SpecError(message)
    return state


def resume(run: Run, state: dict[str, Any]) -> None:
    """Continue from a checkpoint of this recipe."""
    restore(run.model, state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    if run.average is not None:
        run.average.restore(state["average"])
    run.history.extend(state["history"])
    run.val, run.best = Scores.from_json(state["val"]), state["best"]
    run.best_miou = state.get("best_miou", run.best)
    run.step.micro_batch, run.monitor.streak = state["micro_batch"], state["streak"]


def best_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the checkpoint of the best model holds; see `complete_best`.

    Args:
        state: The state of the training with that model; see `last_state`.
    """
    scored = state["average"]["model"] if "average" in state else state["model"]
    return {"recipe": state["recipe"], "model": scored}


def complete_best(run: Run, path: Path | None) -> None:
    """Add a frozen encoder to the best model of a training that ends; adapters stay apart.

    While it trains, the encoder would be written again with every better epoch.
    """
    if path is None or run.recipe.model.tune != "frozen":
        return
    state = checkpoints.load(path)
    if state is not None and FINGERPRINT in state["model"]:
        checkpoints.save(path, {**state, "model": run.model.complete(state["model"])})


def last_state(run: Run) -> dict[str, Any]:
    """Return what a training resumes from; the optimizer is not needed once it has ended."""
    ended = len(run.history) >= run.recipe.epochs
    return {
        "recipe": run.recipe.id,
        "model": run.model.state_dict(),
        **({} if run.average is None else {"average": run.average.state()}),
        **({} if ended else {"optimizer": run.optimizer.state_dict()}),
        "history": list(run.history),
        "val": run.val.to_json(),
        "best": run.best,
        "best_miou": run.best_miou,
        "micro_batch": run.step.micro_batch,
        "streak": run.monitor.streak,
    }
