"""Run the training loop of a recipe, one epoch at a time."""

# B batch, C bands, K classes, H W pixels
from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..config.metric import MIOU
from ..data.progress_log import ProgressLog
from ..data.tiles import Tiles
from ..errors import Diverged
from ..evaluation.metrics import Scores
from ..evaluation.out_of_memory import reporting_out_of_memory
from . import checkpoints
from .build import (
    dataset_of,
    initial_model,
    normalizer,
    parameter_groups,
    protocol_of,
    runs_in_bf16,
    scale_to_pretraining,
    scenes_of,
    takes_fast_kernels,
    window_of,
)
from .checkpoint_writer import CheckpointWriter
from .divergence import DivergenceMonitor
from .ema import WeightAverage
from .epoch import Epoch as Epoch
from .epoch import Training
from .keeping import Keeping
from .kernels import choose_kernels, compile_model, compiles, refusing_unrepeatable
from .losses import even_guess, inverse_frequency, make_loss, make_weight
from .micro_batch import AccumulatingStep, Forward
from .optimizer import estimated_rate, make_optimizer, schedule
from .readout import StepReadout, StepValues
from .run import Run, best_state, complete_best, last_state, load_state, resume
from .schedule_free import hold_scored_weights, hold_trained_weights, recompute_statistics
from .validation import Validation

if TYPE_CHECKING:
    from ..config import Recipe, Site
    from ..data.cache import Scenes
    from ..models import Segmenter


def fit(  # noqa: PLR0913 (all but one by name)
    recipe: Recipe,
    *,
    site: Site,
    workdir: Path,
    device: torch.device,
    keep_best: bool = True,
    metric: str = MIOU,
    decisions: Collection[int] = (),
    saved: Callable[[int], None] = lambda _: None,
) -> Training:
    """Train a recipe, one epoch per step of the iterator.

    The same `workdir` resumes after the last whole epoch; a finished one yields nothing more.
    The checkpoint of an epoch is written while the next one trains. It is on the disk before the
    epoch is yielded if the epoch is the last or one of `decisions`, else before the next is
    yielded, and always once the iterator is closed.
    On CPU the epochs of an interrupted and resumed training equal those of one that was not,
    bit for bit, for the same number of threads.

    Args:
        recipe: Recipe to train.
        site: Folders of data, weights and cache.
        workdir: Holds `last.pt` and, if `keep_best`, `best.pt` (the best on validation).
        device: Device to train on.
        keep_best: Keep the best model; a search needs only its score.
        metric: Which validation metric is best; see `field_metrics.Metric`.
        decisions: Epochs at which the training may be stopped.
        saved: Called with the number of an epoch whose checkpoint is on the disk, in the thread that
            wrote it.

    Raises:
        Diverged: Loss or gradient is no longer finite, or the loss has exploded.
        CryoError: Data, weights or storage are missing or invalid.
    """
    state = load_state(recipe, workdir)
    history = [] if state is None else list(state["history"])
    keeping = Keeping(workdir, keep_best, frozenset(decisions), saved)
    given: dict[str, Any] = {"site": site, "device": device, "metric": metric}
    return Training(history, _epochs(recipe, state, keeping=keeping, **given))


def _epochs(
    recipe: Recipe,
    state: dict[str, Any] | None,
    *,
    site: Site,
    keeping: Keeping,
    device: torch.device,
    metric: str,
) -> Generator[Epoch]:
    """Yield the epochs after a checkpoint; see `fit`."""
    if state is not None and len(state["history"]) >= recipe.epochs:
        return
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)  # a worker trains one recipe after another
    with reporting_out_of_memory("building the model and its optimizer"):
        run = _open(recipe, site, device, metric=metric, resumes=state is not None)
        if state is not None:
            resume(run, state)
    del state  # as large as the model and its optimizer together
    try:
        yield from _train_epochs(run, keeping)
    except Diverged:
        complete_best(run, keeping.best)
        raise


def _train_epochs(run: Run, keeping: Keeping) -> Generator[Epoch]:
    """Train epoch after epoch, and keep the newest state and, in a file, the best model."""
    untrained = run.protocol.scores_untrained and not run.history
    if untrained and _validate_and_compare(run) and keeping.best is not None:
        checkpoints.save(keeping.best, best_state(last_state(run)))
    with CheckpointWriter() as writer:
        for number in range(len(run.history) + 1, run.recipe.epochs + 1):
            with ProgressLog(f"epoch {number} of {run.recipe.epochs}"):
                epoch, improved = _epoch(run, number)
            run.history.append(epoch.metrics())
            keeping.start(writer, run, improved=improved)
            yield epoch


def _open(
    recipe: Recipe, site: Site, device: torch.device, *, metric: str = MIOU, resumes: bool = False
) -> Run:
    """Open data and build model, optimizer and loss; every random draw depends on the seed.

    Args:
        recipe: Recipe to train.
        site: Folders of data, weights and cache.
        device: Device to train on.
        metric: Which validation metric is best.
        resumes: A checkpoint will replace the weights, so pretrained ones are read only where they
            are frozen.
    """
    dataset = dataset_of(recipe.data)
    train, val = (scenes_of(recipe, split, site) for split in ("train", "val"))
    model = initial_model(recipe, site=site, resumes=resumes, device=device)
    scale_to_pretraining(recipe, model, train)
    model.to(device)
    fast = takes_fast_kernels(recipe, device)
    if fast:
        _to_channels_last(model)
    protocol = protocol_of(recipe)
    normalize = normalizer(recipe, train, device)
    tiles = Tiles(
        train,
        crop=recipe.data.crop,
        normalize=normalize,
        augment=recipe.data.augment,
        tile=window_of(recipe, device).tile,
        replicate=recipe.data.replicate,
        foreground=recipe.data.foreground,
        redraws=protocol.redraws_crops,
    )
    steps = tiles.num_batches(recipe.batch_size)
    optimizer = make_optimizer(
        recipe.optim.name,
        model,
        parameter_groups(recipe, model),
        fused=fast,
        warms_up=recipe.optim.warmup_epochs > 0,
    )
    choose_kernels(recipe, device)
    forward = _forward(recipe, model, device, steps=steps)
    return Run(
        recipe=recipe,
        protocol=protocol,
        model=model,
        average=None if recipe.optim.ema is None else WeightAverage(model, decay=recipe.optim.ema),
        optimizer=optimizer,
        tiles=tiles,
        validation=Validation.of(recipe, val, metric=metric, normalize=normalize, device=device),
        forward=forward,
        step=_accumulating_step(recipe, model, train, forward, device),
        readout=StepReadout(device),
        monitor=DivergenceMonitor(
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
        device=device,
        history=[],
        val=Scores.zero(dataset.classes),
    )


def _to_channels_last(model: nn.Module) -> None:
    """Convert the weights of 2-D convolutions to channels-last, the layout tensor cores read.

    `model.to(memory_format=...)` would also convert the weights of 3-D convolutions, and fail.
    """
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _forward(recipe: Recipe, model: Segmenter, device: torch.device, *, steps: int) -> Forward:
    """Return the model in its precision, from normalized bands to logits in float32."""
    bf16, fast = runs_in_bf16(recipe, device), takes_fast_kernels(recipe, device)
    network = compile_model(model) if compiles(recipe, device, steps=steps) else model

    def forward(x_BCHW: Tensor) -> Tensor:
        if fast:
            x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            logits: Tensor = network(x_BCHW)
        return logits.float()

    return forward


def _accumulating_step(
    recipe: Recipe, model: Segmenter, train: Scenes, forward: Forward, device: torch.device
) -> AccumulatingStep:
    """Build the gradient step from the model in its precision and the loss."""
    name, num_classes, weights = recipe.loss.name, len(train.class_counts), None
    if name == "weighted_ce":
        weights = inverse_frequency(train.class_counts).to(device)
    gamma = recipe.loss.focal_gamma
    return AccumulatingStep(
        model,
        forward=forward,
        loss=make_loss(name, num_classes=num_classes, focal_gamma=gamma, class_weights=weights),
        weight=make_weight(name, class_weights=weights),
        micro_batch=recipe.batch_size,
    )


def _validate_and_compare(run: Run) -> bool:
    """Score the validation split; return True if this is the best model so far."""
    run.val = run.validation.score(run.scored)
    score = run.validation.metric.score(run.val)
    improved = score > run.best
    if improved:
        run.best, run.best_miou = score, run.val.miou
    return improved


def _epoch(run: Run, number: int) -> tuple[Epoch, bool]:
    """Train one epoch and validate if due; also return True if the model is the best so far."""
    started = time.perf_counter()
    with torch.random.fork_rng(devices=_cuda(run.device)):
        # dropout and drop-path: the same draws whether or not earlier epochs ran in this process
        torch.manual_seed((run.recipe.seed * 1_000_003 + number) % 2**63)
        loss, data_seconds = _train(run, number)
        _settle(run, number)
    scored = run.protocol.scores(number, of=run.recipe.epochs)
    improved = scored and _validate_and_compare(run)
    peak = torch.cuda.max_memory_allocated(run.device) / 2**30 if _cuda(run.device) else 0.0
    return Epoch(
        number=number,
        train_loss=loss,
        lr=run.recipe.optim.lr * run.factor(run.steps * number - 1) * estimated_rate(run.optimizer),
        val=run.val,
        best_val_miou=run.best_miou,
        best_val_score=run.best,
        metric=run.validation.metric,
        seconds=time.perf_counter() - started,
        data_seconds=data_seconds,
        peak_gib=peak,
        micro_batch=run.step.micro_batch,
        scored=scored,
    ), improved


def _train(run: Run, number: int) -> tuple[float, float]:
    """Train on every tile once; return the mean loss and the seconds spent waiting for batches."""
    run.model.train()
    hold_trained_weights(run.optimizer)
    total, waited = 0.0, 0.0
    batches = run.tiles.batches(
        run.recipe.batch_size, seed=run.recipe.seed, epoch=number, device=run.device
    )
    with ProgressLog("step", run.steps, counted=True) as progress:
        for step, (x_BCHW, y_BHW, seconds) in enumerate(_timed(batches)):
            waited += seconds
            position = (number - 1) * run.steps + step
            loss, norm = _step(run, x_BCHW, y_BHW, position=position)
            total += _check(run, run.readout.push(position, loss, norm))
            progress.advance()
    total += _check(run, run.readout.flush())  # before anything of this epoch is kept
    return total / run.steps, waited


def _settle(run: Run, number: int) -> None:
    """Let the model hold the weights that are scored and kept, with their statistics."""
    if not hold_scored_weights(run.optimizer):
        return
    batches = run.tiles.batches(
        run.recipe.batch_size, seed=run.recipe.seed, epoch=number, device=run.device
    )
    images = (x_BCHW for x_BCHW, _ in batches)
    with reporting_out_of_memory("computing the statistics of batch-norm"):
        recompute_statistics(
            run.model, images, forward=run.forward, micro_batch=run.step.micro_batch
        )


def _check(run: Run, steps: Sequence[StepValues]) -> float:
    """Check losses and gradient norms of steps; return the sum of the losses.

    Raises:
        Diverged: A value is not finite, or the loss has exploded.
    """
    for position, loss, norm in steps:
        run.monitor.check_loss(loss, position)
        run.monitor.check_gradient(norm, position)
    return sum((values.loss for values in steps), start=0.0)


def _timed(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor, float]]:
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


def _step(run: Run, x_BCHW: Tensor, y_BHW: Tensor, *, position: int) -> tuple[Tensor, Tensor]:
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


def _clip(model: nn.Module, limit: float | None) -> Tensor:
    """Clip the gradient if there is a limit; return the norm before clipping, (), float."""
    if limit is not None:
        return nn.utils.clip_grad_norm_(model.parameters(), limit)
    return nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])


def _cuda(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []
