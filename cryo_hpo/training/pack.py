"""Train several recipes with one frozen encoder side by side, step by step, in one process.

Their batches are the same, so each is read once and passes the encoder once; then each training takes its
own step. Every training has its own random state, so that its results are those it has alone, bit for bit
on a CPU.
"""

# B batch, C bands, H W pixels
from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..config.metric import MIOU
from ..data.progress_log import ProgressLog
from ..errors import Diverged
from ..evaluation.out_of_memory import reporting_out_of_memory
from .build import takes_fast_kernels
from .checkpoint_writer import CheckpointWriter
from .epoch import Epoch
from .keeping import Keeping
from .loop import compare, describe_epoch
from .member_run import MemberRun, RandomState
from .opening import open_run
from .run import Run, load_state, resume
from .schedule_free import BATCHES, Statistics, hold_scored_weights
from .sharing import SharedEncoders, shared_key
from .step import timed

if TYPE_CHECKING:
    from ..config import Recipe, Site

Event = tuple[int, Epoch | Exception]


@dataclass(frozen=True, slots=True)
class Member:
    """Describe one of the trainings; see `loop.fit`.

    Attributes:
        recipe: Recipe to train.
        workdir: Holds its checkpoints.
        keep_best: Keep the best model.
        until: Epoch after which it ends here.
        decisions: Epochs at which it may be stopped.
        saved: Called with the number of an epoch whose checkpoint is on the disk.
    """

    recipe: Recipe
    workdir: Path
    until: int
    keep_best: bool = True
    decisions: frozenset[int] = frozenset()
    saved: Callable[[int], None] = lambda _: None


class PackTraining:
    """Iterate over the epochs of trainings side by side: (number of a member, its epoch or error).

    A member whose training raises an error ends with it, and the others go on.

    Attributes:
        histories: Metrics of the epochs that earlier processes finished, member by member.
    """

    def __init__(
        self, histories: list[list[dict[str, float]]], events: Generator[Event, None, None]
    ) -> None:
        self.histories, self._events = histories, events

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def close(self) -> None:
        """End all trainings where they are, once the checkpoints in flight are on the disk."""
        self._events.close()


def fit_pack(
    members: Sequence[Member], *, site: Site, device: torch.device, metric: str = MIOU
) -> PackTraining:
    """Train recipes of one `shared_key` side by side, each as `loop.fit` trains it.

    Members that are behind catch up first; from then on all are at the same epoch.

    Args:
        members: The trainings.
        site: Folders of data, weights and cache.
        device: Device to train on.
        metric: Which validation metric is best.

    Raises:
        CryoError: A checkpoint belongs to another recipe, or cannot be read.
    """
    keys = {shared_key(member.recipe) for member in members}
    assert len(keys) == 1, "trainings side by side share their batches"
    assert None not in keys, "an encoder that is trained is not shared"
    states = [load_state(member.recipe, member.workdir) for member in members]
    histories = [[] if state is None else list(state["history"]) for state in states]
    given: dict[str, Any] = {"site": site, "device": device, "metric": metric}
    return PackTraining(histories, _events(members, states, **given))


def _events(
    members: Sequence[Member],
    states: list[dict[str, Any] | None],
    *,
    site: Site,
    device: torch.device,
    metric: str,
) -> Generator[Event, None, None]:
    """Yield the epochs after the checkpoints; see `fit_pack`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    live, shared = list[MemberRun](), SharedEncoders()
    with contextlib.ExitStack() as stack:
        for number, member in enumerate(members):
            state, states[number] = states[number], None  # as large as the training itself
            if state is not None and len(state["history"]) >= member.until:
                continue
            try:
                run = _open_member(member, state, site, device, metric)
            except Exception as error:
                yield number, error
                continue
            shared.join(run)
            keeping = Keeping(member.workdir, member.keep_best, member.decisions, member.saved)
            writer = stack.enter_context(CheckpointWriter())
            live.append(MemberRun(number, run, keeping, writer, member.until, RandomState(device)))
        while live:
            yield from _train_epoch(live, shared)
            live = [training for training in live if not training.ended]


def _open_member(
    member: Member, state: dict[str, Any] | None, site: Site, device: torch.device, metric: str
) -> Run:
    """Open a training, or continue it from its checkpoint."""
    with reporting_out_of_memory("building the model and its optimizer"):
        run = open_run(member.recipe, site, device, metric=metric, resumes=state is not None)
        if state is not None:
            resume(run, state)
    return run


def _train_epoch(live: list[MemberRun], shared: SharedEncoders) -> Iterator[Event]:
    """Train the members that are furthest behind for one epoch; yield their epochs and errors."""
    number = 1 + min(len(training.run.history) for training in live)
    group = [training for training in live if len(training.run.history) == number - 1]
    run, started = group[0].run, time.perf_counter()
    scored = run.protocol.scores(number, of=run.recipe.epochs)
    with ProgressLog(f"epoch {number} of {run.recipe.epochs} of {len(group)} trainings"):
        waited = _train(group, number)
        _settle(_whole(group), number)
        if scored:
            _validate(_whole(group))
    shared.clear()
    took = _Took((time.perf_counter() - started) / len(group), waited / len(group), len(group))
    # All before the first is yielded: a pack that is closed there loses no epoch of any.
    yield from [(t.number, _finish(t, number, took, scored=scored)) for t in group]


class _Took(NamedTuple):
    """Hold what an epoch took of each training."""

    seconds: float
    data_seconds: float
    together: int


def _whole(group: list[MemberRun]) -> list[MemberRun]:
    return [training for training in group if training.error is None]


def _train(group: list[MemberRun], number: int) -> float:
    """Train on every tile once; return the seconds spent waiting for batches."""
    for training in group:
        training.begin_epoch(number)
    run, waited = group[0].run, 0.0
    with ProgressLog("step", run.steps, counted=True) as progress:
        for step, (x_BCHW, y_BHW, seconds) in enumerate(timed(_batches(run, number))):
            waited += seconds
            position = (number - 1) * run.steps + step
            for training in _whole(group):
                training.step(x_BCHW, y_BHW, position=position)
            progress.advance()
            if not _whole(group):
                break
    for training in _whole(group):
        training.end_steps()
    return waited


def _batches(run: Run, number: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of an epoch in the layout that all trainings read, so that none copies them."""
    if not takes_fast_kernels(run.recipe, run.device):
        yield from run.batches(number)
        return
    for x_BCHW, y_BHW in run.batches(number):
        yield x_BCHW.contiguous(memory_format=torch.channels_last), y_BHW


def _settle(group: list[MemberRun], number: int) -> None:
    """Let each model hold the weights that are scored and kept; see `loop.fit`."""
    group = [training for training in group if hold_scored_weights(training.run.optimizer)]
    with contextlib.ExitStack() as stack:
        moving = []
        for training in group:
            run = training.run
            statistics = Statistics(
                run.model, forward=run.forward, micro_batch=run.step.micro_batch
            )
            if statistics.needed:
                moving.append((training, stack.enter_context(statistics)))
        if not moving:
            return
        for x_BCHW, _ in islice(_batches(moving[0][0].run, number), BATCHES):
            for training, statistics in moving:
                if training.error is None:
                    with (
                        training.guarded(),
                        reporting_out_of_memory("computing the statistics of batch-norm"),
                    ):
                        statistics.add(x_BCHW)


def _validate(group: list[MemberRun]) -> None:
    """Score the validation split with all models; what is the best so far is noted."""
    if not group:
        return
    models = [training.run.scored for training in group]
    each = group[0].run.validation.score_side_by_side(models)
    for training, scores in zip(group, each, strict=True):
        with training.guarded():
            if isinstance(scores, Diverged):
                raise scores
            training.improved = compare(training.run, scores)


def _finish(training: MemberRun, number: int, took: _Took, *, scored: bool) -> Epoch | Exception:
    """Return a training's epoch once its checkpoint is started, or what ended it."""
    if training.error is not None:
        return training.error
    run = training.run
    epoch = describe_epoch(run, number, training.loss / run.steps, *took[:2], scored=scored)
    epoch = replace(epoch, together=took.together)
    run.history.append(epoch.metrics())
    with training.guarded():
        training.keeping.start(training.writer, run, improved=training.improved)
    return training.error_or(epoch)
