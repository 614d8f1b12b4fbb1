"""Simulate a pool of workers without Ray: take a source's jobs and train given curves."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryo_hpo.config import Recipe, Study
from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.errors import StorageError
from cryo_hpo.results.epochs import EPOCH, MIOU_SCORE
from cryo_hpo.search.jobs import Job, Source

NAN = math.nan  # in a curve: the training diverges in this epoch
Curves = Callable[[Recipe], list[float]]


class Crash(Exception):
    """The driver has crashed; what is on disk remains."""


class Refused(Exception):
    """A worker's report that a recipe cannot be trained at all."""


@dataclass
class Disk:
    """The state that workers leave: the best score after each epoch, by work directory."""

    scores: dict[str, list[float]] = field(default_factory=dict)
    trained: list[tuple[str, int]] = field(default_factory=list)  # every epoch that was computed


@dataclass
class Heard:
    """A listener that records everything, each epoch once, as `Records` does."""

    epochs: dict[tuple[str, int], float] = field(default_factory=dict)
    ends: dict[str, list[str]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    reconciled: dict[str, tuple[int, str | None]] = field(default_factory=dict)

    def started(self, key: str, _: Recipe, *, kind: str) -> None:
        self.kinds[key] = kind

    def epoch(self, key: str, metrics: Mapping[str, float]) -> None:
        self.epochs.setdefault((key, int(metrics[EPOCH])), metrics[MIOU_SCORE])

    def paused(self, key: str, epoch: int) -> None:
        assert (key, epoch) in self.epochs

    def ended(self, key: str, state: str, _: str) -> None:
        self.ends.setdefault(key, []).append(state)

    def reconcile(
        self,
        key: str,
        recipe: Recipe,  # noqa: ARG002
        *,
        kind: str,  # noqa: ARG002
        epochs: int,
        state: str | None = None,
        message: str = "",  # noqa: ARG002
    ) -> None:
        self.reconciled[key] = (epochs, state)


@dataclass
class Worker:
    """A job in progress."""

    job: Job
    recipe: Recipe
    told: bool = False  # whether it has reported what an earlier attempt left on disk


def simulate(
    source: Source,
    curves: Curves,
    *,
    workers: int = 1,
    order: int = 0,
    disk: Disk | None = None,
    crash_after: int | None = None,
    retries: float = 0.0,
) -> None:
    """Run a source's jobs until it has no more.

    Args:
        source: Hands out jobs and decides, as on a cluster.
        curves: Recipe -> score after every epoch; nan diverges, `Refused` refuses.
        workers: Number of concurrent jobs.
        order: Seed of the order in which workers finish epochs.
        disk: State that an earlier pool left; updated as workers proceed.
        crash_after: Number of events after which `Crash` is raised.
        retries: Share of epochs after which a worker is lost and the job restarts.
    """
    disk, chance = disk or Disk(), random.Random(order)
    busy: list[Worker] = []
    events = 0

    def event() -> None:
        nonlocal events
        events += 1
        if crash_after is not None and events > crash_after:
            raise Crash

    over = False
    while busy or not over:
        while len(busy) < workers and not over:
            job = source.next()
            if job == "wait":
                assert busy, "nobody is at work, so nobody is worth waiting for"
                break
            if job is None:
                over = True
                break
            assert isinstance(job, Job)
            assert job.key not in [w.job.key for w in busy], f"{job.key} is at work twice"
            busy.append(Worker(job, Recipe.model_validate_json(job.recipe)))
            event()
        if not busy:
            continue
        worker = chance.choice(busy)
        if _step(source, worker, curves, disk, event):
            busy.remove(worker)
        elif chance.random() < retries:
            worker.told = False
        event()


def _step(
    source: Source, worker: Worker, curves: Curves, disk: Disk, event: Callable[[], None]
) -> bool:
    """Let one worker report once; return whether its job has ended."""
    job, scores = worker.job, disk.scores.setdefault(worker.job.workdir, [])
    first, worker.told = not worker.told, True
    if not first or not scores:
        if len(scores) >= worker.recipe.epochs:
            source.ended(job, "done", "")
            return True
        try:
            score = curves(worker.recipe)[len(scores)]
        except Refused as error:
            source.ended(job, "refused", str(error))
            return True
        except StorageError as error:
            source.ended(job, "unwritable", str(error))
        if math.isnan(score):
            source.ended(job, "diverged", f"Loss became nan at epoch {len(scores) + 1}")
            return True
        scores.append(max([score, *scores]))
        disk.trained.append((job.key, len(scores)))
        event()  # the checkpoint is written and not yet reported
    if source.epoch(job, {EPOCH: len(scores), MIOU_SCORE: scores[-1]}):
        return False
    event()
    source.ended(job, "done", "")
    return True


def peak(best: float = 1e-3, *, diverges: float = 1.0, epochs: int = 9) -> Curves:
    """Return curves that peak at the learning rate `best`; high rates diverge."""

    def curve(recipe: Recipe) -> list[float]:
        lr = recipe.optim.lr
        limit = max(0.9 - 0.2 * abs(math.log10(lr / best)), 0.05)
        limit += 1e-3 * math.sin(1e4 * math.log(lr) + recipe.seed)  # no two are equal
        scores = [limit * (1 - math.exp(-e / 3)) for e in range(1, epochs + 1)]
        return [*scores[: int(1e6 * lr) % 3], NAN] if lr > diverges else scores

    return curve


CARD = DatasetCard(
    name="fake",
    root="fake",
    images="{split}/images/{id}.tif",
    masks="{split}/masks/{id}.png",
    bands=("B4",),
    classes=("background", "lake"),
)


def a_study(
    rule: str = "promote",
    *,
    trials: int = 12,
    epochs: int = 9,
    reduction: int = 3,
    seed: int = 0,
    sampler: str = "tpe",
    space: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Study:
    """Return a study of the learning rate over four decades."""
    scheduler = (
        {"kind": "none"}
        if rule == "none"
        else {"kind": "asha", "rule": rule, "grace_epochs": 1, "reduction": reduction}
    )
    lr = {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True}
    fields = {
        "name": "s",
        "base": {
            "data": {"card": CARD.model_dump(mode="json"), "crop": 32},
            "epochs": epochs,
            "optim": {"lr": 1e-4},
        },
        "search": {
            "space": {"params": dict(space) if space else {"optim.lr": lr}},
            "trials": trials,
            "scheduler": scheduler,
            "sampler": sampler,
            "seed": seed,
        },
        **changes,
    }
    return Study.model_validate_json(json.dumps(fields))
