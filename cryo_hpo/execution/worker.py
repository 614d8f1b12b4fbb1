"""Train, score or map one job wherever it runs: a Ray worker, or the study's own process."""

from __future__ import annotations

import bdb
import contextlib
import os
import random
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..config import Recipe, Site
from ..config.metric import MIOU
from ..errors import CryoError, Diverged, StorageError
from ..evaluation.metrics import Scores
from ..search.jobs import MESSAGE, OUTCOME, Outcome
from ..training.build import device_for
from ..training.checkpoint_store import Workdir, workdir_on
from ..training.checkpoints import (
    BEST,
    HISTORY,
    LAST,
    PREVIOUS,
    restart_without_best,
    set_aside_foreign,
)
from ..training.loop import fit
from ..training.pack import Member, fit_pack
from ..training.scoring import map_scenes, score_members, score_scenes

Report = Mapping[str, Any]  # an epoch's metrics; the last one may be an outcome and its message


def train_job(
    config: Mapping[str, Any], *, site: Site, cpus: int, gpus: float
) -> Generator[Report, None, None]:
    """Train one job; yield a report after each epoch.

    Problems that a retry cannot fix (divergence, data, weights) are reported as the job's
    outcome; anything else is raised, and the job starts again from its last checkpoint.

    Args:
        config: The fields of a `Job`.
        site: Locations of data, weights, storage and cache.
        cpus: Cores the job may use.
        gpus: GPUs the job may use, or the share of one.
    """
    _claim(cpus, gpus)
    site = site.on_node(os.environ)
    recipe = Recipe.model_validate_json(config["recipe"])
    place = workdir_on(site, Path(config["workdir"]))
    stops = {*config.get("decisions", ()), recipe.epochs}  # safe before they are reported
    try:
        device = device_for(gpus)
        _prepare(place, recipe, keep_best=config["keep_best"])
        training = fit(
            recipe,
            site=site,
            workdir=place.folder,
            device=device,
            keep_best=config["keep_best"],
            metric=config.get("metric", MIOU),
            decisions=stops,
            saved=lambda epoch: place.push_due(BEST, LAST, HISTORY, now=epoch in stops),
        )
        # An attempt may have died between writing a checkpoint and reporting it, and a damaged
        # journal may have lost epochs. The last one is reported always: it may decide.
        yield from training.history[config.get("recorded", 0) :] or training.history[-1:]
        with place.pushing_at_end(BEST, LAST, HISTORY), contextlib.closing(training):
            for epoch in training:
                yield epoch.metrics()
    except CryoError as error:
        if isinstance(error, Diverged):
            place.push(BEST)  # a best model may exist from before the first epoch
        yield outcome_of(error)
    finally:
        place.leave()


def train_pack(
    configs: Sequence[Mapping[str, Any]], *, site: Site, cpus: int, gpus: float
) -> Generator[tuple[str, Report], None, None]:
    """Train jobs of one `shared_key` side by side; yield (key of a job, its report).

    A job ends with the first epoch above `cleared` at which it may be stopped, with its last epoch,
    or with the report of its outcome; the others go on. Errors are reported, as by `train_job`, and a
    crash is the outcome of the job that crashed.

    Args:
        configs: The fields of each `Job`.
        site: Locations of data, weights, storage and cache.
        cpus: Cores all jobs together may use.
        gpus: GPUs all jobs together may use, or the share of one.
    """
    _claim(cpus, gpus)
    site = site.on_node(os.environ)
    jobs = [_PackedJob.of(config, site) for config in configs]
    with contextlib.ExitStack() as stack:
        ready: list[_PackedJob] = []
        for job in jobs:
            stack.callback(job.place.leave)
            try:
                _prepare(job.place, job.recipe, keep_best=job.keep_best)
                ready.append(job)
            except CryoError as error:
                yield job.key, outcome_of(error)
        if ready:
            yield from _train_ready(ready, site, gpus)


def _train_ready(
    jobs: Sequence[_PackedJob], site: Site, gpus: float
) -> Generator[tuple[str, Report], None, None]:
    """Train jobs whose checkpoints are here; an error outside their own steps is that of all."""
    left = {job.key: job for job in jobs}
    try:
        pack = fit_pack(
            [job.member for job in jobs],
            site=site,
            device=device_for(gpus),
            metric=jobs[0].metric,
        )
        for job, history in zip(jobs, pack.histories, strict=True):
            trained = history[: job.until]
            yield from ((job.key, epoch) for epoch in trained[job.recorded :] or trained[-1:])
            if len(trained) == job.until:
                del left[job.key]
        with contextlib.ExitStack() as stack:
            for job in jobs:
                stack.enter_context(job.place.pushing_at_end(BEST, LAST, HISTORY))
            stack.enter_context(contextlib.closing(pack))
            for number, event in pack:
                job = jobs[number]
                if isinstance(event, Diverged):
                    job.place.push(BEST)  # it has ended, and the others may train for hours
                ended = isinstance(event, Exception) or event.number >= job.until
                if ended:
                    del left[job.key]
                yield (
                    job.key,
                    outcome_of(event) if isinstance(event, Exception) else event.metrics(),
                )
    except bdb.BdbQuit:
        raise
    except Exception as error:
        yield from ((key, outcome_of(error)) for key in left)


@dataclass(frozen=True, slots=True)
class _PackedJob:
    """Hold one job of a pack."""

    key: str
    recipe: Recipe
    place: Workdir
    stops: frozenset[int]
    until: int
    recorded: int
    keep_best: bool
    metric: str

    @classmethod
    def of(cls, config: Mapping[str, Any], site: Site) -> _PackedJob:
        recipe = Recipe.model_validate_json(config["recipe"])
        recorded = config.get("recorded", 0)
        stops = frozenset({*config.get("decisions", ()), recipe.epochs})
        open_stops = [e for e in stops if e > config.get("cleared", 0) and e >= recorded]
        return cls(
            key=config["key"],
            recipe=recipe,
            place=workdir_on(site, Path(config["workdir"])),
            stops=stops,
            until=min(open_stops, default=recipe.epochs),
            recorded=recorded,
            keep_best=config["keep_best"],
            metric=config.get("metric", MIOU),
        )

    @property
    def member(self) -> Member:
        """The training of the job."""
        return Member(
            self.recipe,
            self.place.folder,
            until=self.until,
            keep_best=self.keep_best,
            decisions=self.stops,
            saved=self._push,
        )

    def _push(self, epoch: int) -> None:
        self.place.push_due(BEST, LAST, HISTORY, now=epoch in self.stops)


def _prepare(place: Workdir, recipe: Recipe, *, keep_best: bool) -> None:
    """Bring the checkpoints of a training to this node, as far as they are of its recipe."""
    place.pull(LAST, PREVIOUS, BEST, HISTORY)
    set_aside_foreign(place.folder, recipe.id)
    if keep_best:
        restart_without_best(place.folder, recipe.id)


def outcome_of(error: Exception) -> Report:
    """Return the last report of a training that an error ended."""
    if not isinstance(error, CryoError):
        why = traceback.format_exception_only(error)[-1].strip()
        return {OUTCOME: "crashed", MESSAGE: why}
    kinds: tuple[tuple[type[CryoError], Outcome], ...] = (
        (Diverged, "diverged"),
        (StorageError, "unwritable"),
        (CryoError, "refused"),
    )
    named = next(name for kind, name in kinds if isinstance(error, kind))
    return {OUTCOME: named, MESSAGE: str(error)}


def score_test(
    config: Mapping[str, Any], *, site: Site, cpus: int, gpus: float
) -> dict[str, Scores]:
    """Score one finished training on the test split, scene by scene."""
    _claim(cpus, gpus)
    site = site.on_node(os.environ)
    recipe = Recipe.model_validate_json(config["recipe"])
    with _best(site, config) as workdir:
        return score_scenes(
            recipe,
            "test",
            site=site,
            workdir=workdir,
            device=device_for(gpus),
            metric=config.get("metric", MIOU),
        )


def score_ensemble(
    configs: Sequence[Mapping[str, Any]], *, site: Site, cpus: int, gpus: float
) -> dict[str, Scores]:
    """Score the mean probabilities of several finished trainings of one recipe, scene by scene."""
    _claim(cpus, gpus)
    site = site.on_node(os.environ)
    recipe = Recipe.model_validate_json(configs[0]["recipe"])
    with contextlib.ExitStack() as stack:
        workdirs = [stack.enter_context(_best(site, config)) for config in configs]
        return score_members(
            recipe,
            "test",
            site=site,
            workdirs=workdirs,
            device=device_for(gpus),
            metric=configs[0].get("metric", MIOU),
        )


def map_test(
    config: Mapping[str, Any], *, ids: Sequence[str], site: Site, cpus: int, gpus: float
) -> dict[str, NDArray[np.uint8]]:
    """Map some test scenes with one finished training."""
    _claim(cpus, gpus)
    site = site.on_node(os.environ)
    recipe, device = Recipe.model_validate_json(config["recipe"]), device_for(gpus)
    with _best(site, config) as workdir:
        return map_scenes(recipe, "test", ids, site=site, workdir=workdir, device=device)


@contextlib.contextmanager
def _best(site: Site, config: Mapping[str, Any]) -> Iterator[Path]:
    """Pull a finished training's best checkpoint to this node for the `with` block."""
    place = workdir_on(site, Path(config["workdir"]))
    place.pull(BEST)
    try:
        yield place.folder
    finally:
        place.leave()


def _claim(cpus: int, gpus: float) -> None:
    """Limit the process to the trial's CPUs and share of a GPU, and seed the random states.

    Processes are reused: the state that an earlier trial left must not reach the next.
    """
    torch.set_num_threads(cpus)
    os.environ["OMP_NUM_THREADS"] = str(cpus)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  libraries below still draw from the global state
    torch.manual_seed(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        if (
            0 < gpus < 1
        ):  # more memory would be another trial's, which would fail in this one's place
            torch.cuda.set_per_process_memory_fraction(gpus)
