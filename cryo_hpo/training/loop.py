"""Run the training loop of a recipe, one epoch at a time."""

# B batch, C bands, H W pixels
from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..config.metric import MIOU
from ..data.progress_log import ProgressLog
from ..errors import Diverged
from ..evaluation.metrics import Scores
from ..evaluation.out_of_memory import reporting_out_of_memory
from . import checkpoints
from .checkpoint_writer import CheckpointWriter
from .epoch import Epoch as Epoch
from .epoch import Training
from .keeping import Keeping
from .opening import open_run as open_run
from .optimizer import estimated_rate
from .run import Run, best_state, complete_best, last_state, load_state, resume
from .schedule_free import hold_scored_weights, hold_trained_weights, recompute_statistics
from .step import check_steps, timed
from .step import take_step as take_step

if TYPE_CHECKING:
    from ..config import Recipe, Site


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
        run = open_run(recipe, site, device, metric=metric, resumes=state is not None)
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
    if untrained and compare(run, run.validation.score(run.scored)) and keeping.best is not None:
        checkpoints.save(keeping.best, best_state(last_state(run)))
    with CheckpointWriter() as writer:
        for number in range(len(run.history) + 1, run.recipe.epochs + 1):
            with ProgressLog(f"epoch {number} of {run.recipe.epochs}"):
                epoch, improved = _epoch(run, number)
            run.history.append(epoch.metrics())
            keeping.start(writer, run, improved=improved)
            yield epoch


def compare(run: Run, scores: Scores) -> bool:
    """Keep the scores of the validation split; return True if this is the best model so far."""
    run.val = scores
    score = run.validation.metric.score(scores)
    improved = score > run.best
    if improved:
        run.best, run.best_miou = score, scores.miou
    return improved


def _epoch(run: Run, number: int) -> tuple[Epoch, bool]:
    """Train one epoch and validate if due; also return True if the model is the best so far."""
    started = time.perf_counter()
    with torch.random.fork_rng(devices=cuda_of(run.device)):
        torch.manual_seed(seed_of_epoch(run.recipe, number))
        loss, data_seconds = _train(run, number)
        _settle(run, number)
    scored = run.protocol.scores(number, of=run.recipe.epochs)
    improved = scored and compare(run, run.validation.score(run.scored))
    seconds = time.perf_counter() - started
    return describe_epoch(run, number, loss, seconds, data_seconds, scored=scored), improved


def seed_of_epoch(recipe: Recipe, number: int) -> int:
    """Return the seed of dropout and drop-path in an epoch.

    The draws are the same whether or not earlier epochs ran in this process.
    """
    return (recipe.seed * 1_000_003 + number) % 2**63


def describe_epoch(
    run: Run, number: int, loss: float, seconds: float, data_seconds: float, *, scored: bool
) -> Epoch:
    """Return the results of an epoch that has been trained and, if due, scored.

    Args:
        run: The training.
        number: 1-based.
        loss: Mean over the steps.
        seconds: Wall-clock time of training and validation.
        data_seconds: The part of it spent waiting for batches.
        scored: Whether the validation split was scored.
    """
    peak = torch.cuda.max_memory_allocated(run.device) / 2**30 if cuda_of(run.device) else 0.0
    return Epoch(
        number=number,
        train_loss=loss,
        lr=run.recipe.optim.lr * run.factor(run.steps * number - 1) * estimated_rate(run.optimizer),
        val=run.val,
        best_val_miou=run.best_miou,
        best_val_score=run.best,
        metric=run.validation.metric,
        seconds=seconds,
        data_seconds=data_seconds,
        peak_gib=peak,
        micro_batch=run.step.micro_batch,
        scored=scored,
    )


def _train(run: Run, number: int) -> tuple[float, float]:
    """Train on every tile once; return the mean loss and the seconds spent waiting for batches."""
    run.model.train()
    hold_trained_weights(run.optimizer)
    total, waited = 0.0, 0.0
    batches = timed(run.batches(number))
    with ProgressLog("step", run.steps, counted=True) as progress:
        for step, (x_BCHW, y_BHW, seconds) in enumerate(batches):
            waited += seconds
            position = (number - 1) * run.steps + step
            loss, norm = take_step(run, x_BCHW, y_BHW, position=position)
            total += check_steps(run, run.readout.push(position, loss, norm))
            progress.advance()
    total += check_steps(run, run.readout.flush())  # before anything of this epoch is kept
    return total / run.steps, waited


def _settle(run: Run, number: int) -> None:
    """Let the model hold the weights that are scored and kept, with their statistics."""
    if not hold_scored_weights(run.optimizer):
        return
    images = (x_BCHW for x_BCHW, _ in run.batches(number))
    with reporting_out_of_memory("computing the statistics of batch-norm"):
        recompute_statistics(
            run.model, images, forward=run.forward, micro_batch=run.step.micro_batch
        )


def cuda_of(device: torch.device) -> list[torch.device]:
    """Return the devices with a random state of their own."""
    return [device] if device.type == "cuda" else []
