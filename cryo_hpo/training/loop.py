"""A recipe to epochs: the whole training loop, yielded one epoch at a time."""

# B batch, C bands, K classes, H W pixels
from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..data.tiles import Normalize, Tiles
from ..errors import SpecError
from ..evaluation.metrics import Scores
from ..evaluation.sliding_window import score
from ..results.epochs import EPOCH, SCORE
from . import checkpoints
from .build import (
    WINDOWS_PER_PASS,
    dataset_of,
    freeze,
    normaliser,
    parameter_groups,
    protocol_of,
    scenes_of,
    segmenter,
    window_of,
)
from .divergence import Watch
from .ema import WeightAverage
from .losses import even_guess, inverse_frequency, make_loss, make_weight
from .micro_batch import Gradients
from .optimizer import adamw, schedule

if TYPE_CHECKING:
    from ..config import Recipe, Site
    from ..config.protocol import Protocol
    from ..data.cache import Scenes
    from ..models import Segmenter


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch of training gave.

    Attributes:
        number: 1-based.
        train_loss: Mean over the epoch's steps.
        lr: Learning rate of the decoder at the last step.
        val: Scores on the whole validation split, of the averaged weights where the recipe has
            them; those of the last time it was scored, if this epoch did not.
        best_val_miou: Best validation mIoU so far, a fraction: the checkpoint kept is that one.
        seconds: Training and validation, wall clock.
        data_seconds: The part of `seconds` spent waiting for batches.
        peak_gib: Largest memory on the GPU so far; 0 on CPU.
        micro_batch: Samples that went through the model at a time; less than the recipe's batch
            size where memory was too small.
        raw: Validation scores of the raw weights; None unless they were asked for beside the
            averaged ones.
        scored: Whether the validation split was scored after this epoch.
    """

    number: int
    train_loss: float
    lr: float
    val: Scores
    best_val_miou: float
    seconds: float
    data_seconds: float
    peak_gib: float
    micro_batch: int
    raw: Scores | None = None
    scored: bool = True

    def metrics(self) -> dict[str, float]:
        """Return the numbers as a flat mapping; it always holds `EPOCH` and `SCORE`."""
        return {
            EPOCH: self.number,
            SCORE: self.best_val_miou,
            "train_loss": self.train_loss,
            "lr": self.lr,
            "seconds": self.seconds,
            "data_seconds": self.data_seconds,
            "peak_gib": self.peak_gib,
            "micro_batch": self.micro_batch,
            "collapsed": float(self.val.predicts_one_class),
            **(self.val.metrics("val") if self.scored else {}),
            **({} if self.raw is None else {"raw_val_miou": self.raw.miou}),
        }


@dataclass(slots=True)
class _Run:
    """Everything one training holds open."""

    recipe: Recipe
    protocol: Protocol
    model: Segmenter
    average: WeightAverage | None
    optimizer: torch.optim.AdamW
    tiles: Tiles
    val_scenes: Scenes
    normalise: Normalize
    gradients: Gradients
    watch: Watch
    factor: Callable[[int], float]
    steps: int
    classes: tuple[str, ...]
    device: torch.device
    history: list[dict[str, float]]
    val: Scores
    best: float = -math.inf  # validation mIoU of the checkpoint that is kept


def fit(
    recipe: Recipe,
    *,
    site: Site,
    workdir: Path,
    device: torch.device,
    keep_best: bool = True,
    score_raw: bool = False,
) -> Iterator[Epoch]:
    """Train a recipe, one epoch per step of the iterator.

    The same `workdir` goes on after the last whole epoch; a finished one yields nothing more.
    On CPU the epochs of an interrupted and resumed training equal those of one that was not,
    bit for bit, for the same number of threads.

    Args:
        recipe: What to train.
        site: Where data, weights and the cache lie.
        workdir: Holds `last.pt` and, if `keep_best`, `best.pt` (the best validation mIoU).
        device: Where to train.
        keep_best: Whether the best model is wanted afterwards; a search wants only its score.
        score_raw: Whether to score the raw weights too where the recipe averages them.

    Raises:
        Diverged: Loss or gradient is no longer finite, or the loss has exploded.
        CryoError: Data, weights or storage are not as they must be.
    """
    run = _open(recipe, site, device)
    _resume(run, workdir)
    if not run.history and run.protocol.scores_untrained and _look(run) and keep_best:
        checkpoints.save(workdir / checkpoints.BEST, _best_state(run))
    for number in range(len(run.history) + 1, recipe.epochs + 1):
        epoch, improved = _epoch(run, number, score_raw=score_raw)
        run.history.append(epoch.metrics())
        if improved and keep_best:
            checkpoints.save(workdir / checkpoints.BEST, _best_state(run))
        checkpoints.save_last(workdir, _state(run))
        yield epoch


def history(workdir: Path) -> list[dict[str, float]]:
    """Return the metrics of every epoch that a training in `workdir` has finished."""
    state = checkpoints.load_last(workdir)
    return [] if state is None else list(state["history"])


def _open(recipe: Recipe, site: Site, device: torch.device) -> _Run:
    """Open data and build model, optimizer and loss; every random draw hangs on the seed."""
    dataset = dataset_of(recipe.data)
    train, val = (scenes_of(recipe, split, site) for split in ("train", "val"))
    with torch.random.fork_rng(devices=_cuda(device)):
        torch.manual_seed(recipe.seed)
        model = segmenter(recipe, site=site, weights=recipe.model.weights).to(device)
    if device.type == "cuda":
        model = model.to(memory_format=torch.channels_last)
    freeze(recipe, model)
    protocol = protocol_of(recipe)
    normalise = normaliser(recipe, train, device)
    tiles = Tiles(
        train,
        crop=recipe.data.crop,
        normalise=normalise,
        augment=recipe.data.augment,
        tile=window_of(recipe).tile,
        replicate=recipe.data.replicate,
        redraws=protocol.redraws_crops,
    )
    steps = tiles.num_batches(recipe.batch_size)
    optimizer = adamw(model, parameter_groups(recipe, model))
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]  # what the schedule scales at every step
    return _Run(
        recipe=recipe,
        protocol=protocol,
        model=model,
        average=None if recipe.optim.ema is None else WeightAverage(model, decay=recipe.optim.ema),
        optimizer=optimizer,
        tiles=tiles,
        val_scenes=val,
        normalise=normalise,
        gradients=_gradients(recipe, model, train, device),
        watch=Watch(
            even_guess(
                recipe.loss.name,
                num_classes=len(dataset.classes),
                focal_gamma=recipe.loss.focal_gamma,
            ),
            steps=steps,
            what=f"lr {recipe.optim.lr:g}, recipe {recipe.id}",
        ),
        factor=schedule(
            recipe.optim.schedule,
            total_steps=steps * recipe.epochs,
            warmup_steps=round(steps * recipe.optim.warmup_epochs),
        ),
        steps=steps,
        classes=dataset.classes,
        device=device,
        history=[],
        val=Scores.zero(dataset.classes),
    )


def _gradients(recipe: Recipe, model: Segmenter, train: Scenes, device: torch.device) -> Gradients:
    """Put together what a step differentiates: the model in its precision, and the loss."""
    name, num_classes, weights = recipe.loss.name, len(train.class_counts), None
    if name == "weighted_ce":
        weights = inverse_frequency(train.class_counts).to(device)

    def forward(x_BCHW: Tensor) -> Tensor:
        if device.type == "cuda":
            x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=_half(recipe, device)):
            logits: Tensor = model(x_BCHW)
        return logits.float()

    gamma = recipe.loss.focal_gamma
    return Gradients(
        model,
        forward=forward,
        loss=make_loss(name, num_classes=num_classes, focal_gamma=gamma, class_weights=weights),
        weight=make_weight(name, class_weights=weights),
        micro_batch=recipe.batch_size,
    )


def _resume(run: _Run, workdir: Path) -> None:
    """Take up the last whole epoch, if there is one and it is of this recipe."""
    state = checkpoints.load_last(workdir, device=run.device)
    if state is None:
        return
    if state["recipe"] != run.recipe.id:
        message = (
            f"'{workdir}' holds a training of recipe {state['recipe']}, this is {run.recipe.id}. "
            "A work directory belongs to one recipe: name another one."
        )
        raise SpecError(message)
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    if run.average is not None:
        run.average.restore(state["average"])
    run.history.extend(state["history"])
    run.val, run.best = Scores.from_json(state["val"]), state["best"]
    run.gradients.micro_batch, run.watch.streak = state["micro_batch"], state["streak"]


def _scored(run: _Run) -> nn.Module:
    """The model that validation scores and that is kept: the average where there is one."""
    return run.model if run.average is None else run.average.model


def _best_state(run: _Run) -> dict[str, Any]:
    return {"recipe": run.recipe.id, "model": _scored(run).state_dict()}


def _state(run: _Run) -> dict[str, Any]:
    return {
        "recipe": run.recipe.id,
        "model": run.model.state_dict(),
        **({} if run.average is None else {"average": run.average.state()}),
        "optimizer": run.optimizer.state_dict(),
        "history": run.history,
        "val": run.val.to_json(),
        "best": run.best,
        "micro_batch": run.gradients.micro_batch,
        "streak": run.watch.streak,
    }


def _validate(run: _Run, model: nn.Module) -> Scores:
    found = score(
        model,
        run.val_scenes,
        normalise=run.normalise,
        classes=run.classes,
        window=window_of(run.recipe),
        batch=WINDOWS_PER_PASS,
    )
    return replace(found, absent_is_zero=run.protocol.absent_is_zero)


def _look(run: _Run) -> bool:
    """Score the validation split; say whether this is the best model so far."""
    run.val, before = _validate(run, _scored(run)), run.best
    run.best = max(before, run.val.miou)
    return run.val.miou > before


def _epoch(run: _Run, number: int, *, score_raw: bool) -> tuple[Epoch, bool]:
    """Train once, and validate if it is time; also say whether this is the best model so far."""
    started = time.perf_counter()
    with torch.random.fork_rng(devices=_cuda(run.device)):
        # dropout and drop-path: the same draws whether or not earlier epochs ran in this process
        torch.manual_seed((run.recipe.seed * 1_000_003 + number) % 2**63)
        loss, data_seconds = _train(run, number)
    scored = run.protocol.scores(number, of=run.recipe.epochs)
    improved = scored and _look(run)
    both = scored and score_raw and run.average is not None
    peak = torch.cuda.max_memory_allocated(run.device) / 2**30 if _cuda(run.device) else 0.0
    return Epoch(
        number=number,
        train_loss=loss,
        lr=run.recipe.optim.lr * run.factor(run.steps * number - 1),
        val=run.val,
        best_val_miou=run.best,
        seconds=time.perf_counter() - started,
        data_seconds=data_seconds,
        peak_gib=peak,
        micro_batch=run.gradients.micro_batch,
        raw=_validate(run, run.model) if both else None,
        scored=scored,
    ), improved


def _train(run: _Run, number: int) -> tuple[float, float]:
    """One pass over the training tiles: the mean loss, and the seconds spent on batches."""
    run.model.train()
    total, waited = 0.0, 0.0
    batches = run.tiles.batches(
        run.recipe.batch_size, seed=run.recipe.seed, epoch=number, device=run.device
    )
    for step, (x_BCHW, y_BHW, seconds) in enumerate(_timed(batches)):
        waited += seconds
        position = (number - 1) * run.steps + step
        total += _step(run, x_BCHW, y_BHW, position=position)
    return total / run.steps, waited


def _timed(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Add to each batch the seconds it was waited for."""
    iterator = iter(batches)
    while True:
        started = time.perf_counter()
        batch = next(iterator, None)
        if batch is None:
            return
        yield *batch, time.perf_counter() - started


def _step(run: _Run, x_BCHW: Tensor, y_BHW: Tensor, *, position: int) -> float:
    """One optimizer step; returns the loss."""
    for group in run.optimizer.param_groups:
        group["lr"] = group["initial_lr"] * run.factor(position)
    value = run.gradients(x_BCHW, y_BHW)
    run.watch.loss(value, position)
    limit = run.recipe.optim.clip_grad_norm
    norm = nn.utils.clip_grad_norm_(run.model.parameters(), math.inf if limit is None else limit)
    run.watch.gradient(float(norm), position)
    run.optimizer.step()
    if run.average is not None:
        run.average.update(run.model)
    return value


def _half(recipe: Recipe, device: torch.device) -> bool:
    """Half precision if the recipe says so; left to us, on GPUs alone."""
    return recipe.precision == "bf16" or (recipe.precision == "auto" and device.type == "cuda")


def _cuda(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []
