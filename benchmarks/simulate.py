"""Simulate the clock of a cluster: workers replay recorded curves, and a real search decides.

Scores of a table come with their number of epochs, so a search of hours runs in a fraction
of a second, and two searches see the same data.
"""

# n runs, N epochs of a full training

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEAST_RATES = 8  # of a grid to search
Trial = int


class Task(NamedTuple):
    """A trial to start or to resume."""

    trial: Trial
    lr: float


class Method(Protocol):
    """A search: its next task, whether trials continue, and its winner."""

    def next(self) -> Task | Literal["wait"] | None:
        """Return the next task; "wait" if one may come when others end; None at the end."""

    def epoch(self, trial: Trial, epoch: int, score: float) -> bool:
        """Record a score; return whether the trial continues."""

    def ended(self, trial: Trial, *, diverged: bool) -> None:
        """Record that a trial has stopped, for now or for good."""

    only_complete: bool
    """Whether the winner must be trained to full length."""


@dataclass(frozen=True)
class Table:
    """Recorded trainings of one problem.

    Attributes:
        name: Name of the problem.
        lr: Learning rate of each run, (n,).
        val: Best validation score so far, a fraction, (n, N); nan from divergence on.
        test: Test score of a full training of each run, (n,); 0 where it diverged.
        low: Lowest learning rate to search.
        high: Highest learning rate to search.
        reference: Test score from which gaps are measured.
        near: Number of nearest runs from which a trial's run is drawn.
        again: Whether one run may serve several trials.
        recipe: What a portfolio needs of its trainings' recipe; empty: not recorded.
    """

    name: str
    lr: Floats
    val: Floats
    test: Floats
    low: float
    high: float
    reference: float
    near: int = 8
    again: bool = False
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Number of epochs of a full training."""
        return int(self.val.shape[1])

    @property
    def diverges(self) -> NDArray[np.bool_]:
        """Whether a full training of each run diverges, (n,)."""
        return np.isnan(self.val[:, -1])

    def gap(self, run: int | None) -> float:
        """Return how many points the test score of a winning run is below the reference."""
        return 100 * (self.reference - (0.0 if run is None else float(self.test[run])))

    def world(self, seed: int) -> World:
        """Return the world of one search."""
        return World(self, np.random.default_rng([seed, 7]))


@dataclass
class World:
    """A table as seen by one search: each trial is a run with nearly its learning rate."""

    table: Table
    chance: np.random.Generator
    runs: dict[Trial, int] = field(default_factory=dict)
    done: dict[Trial, int] = field(default_factory=dict)
    """Epochs done by each trial, as checkpoints hold them in a real study."""

    def run(self, task: Task) -> int:
        """Return the run of a trial: one of the nearest that no other trial uses."""
        if task.trial not in self.runs:
            far = np.abs(np.log(self.table.lr / task.lr))
            if not self.table.again:
                far[list(self.runs.values())] = np.inf
            nearest = np.argsort(far, kind="stable")[: self.table.near]
            self.runs[task.trial] = int(self.chance.choice(nearest))
        return self.runs[task.trial]


class Event(NamedTuple):
    """An epoch of a trial, or its divergence.

    Attributes:
        cost: Epochs trained by all trials so far, this one included.
        trial: Number of the trial.
        epoch: Epoch of that trial, from 1.
        score: Best validation score so far; nan: the trial diverged in this epoch.
    """

    cost: int
    trial: Trial
    epoch: int
    score: float


def play(method: Method, world: World, *, workers: int = 2, cost: float = math.inf) -> list[Event]:
    """Run a search until it has no more tasks, or has trained `cost` epochs."""
    return list(_events(method, world, workers, cost))


def _events(method: Method, world: World, workers: int, limit: float) -> Iterator[Event]:
    busy: list[tuple[int, int, Task]] = []  # end of the epoch; order of its start
    now = begun = cost = 0
    while cost < limit:
        while len(busy) < workers:
            task = method.next()
            if not isinstance(task, Task):
                break
            heapq.heappush(busy, (now + 1, begun, task))
            begun += 1
        if not busy:
            return
        now, _, task = heapq.heappop(busy)
        cost += 1
        epoch = world.done[task.trial] = world.done.get(task.trial, 0) + 1
        score = float(world.table.val[world.run(task), epoch - 1])
        yield Event(cost, task.trial, epoch, score)
        if math.isnan(score):
            method.ended(task.trial, diverged=True)
        elif method.epoch(task.trial, epoch, score) and epoch < world.table.epochs:
            heapq.heappush(busy, (now + 1, begun, task))
            begun += 1
        else:
            method.ended(task.trial, diverged=False)


@dataclass(frozen=True)
class Standing:
    """The leading trials after a number of epochs."""

    cost: int
    leader: Trial | None
    """Trial with the best score so far, without diverged ones."""
    complete: bool
    """Whether the leader is trained to full length."""
    finisher: Trial | None
    """Trial with the best score of those trained to full length."""


def standings(events: list[Event], epochs: int) -> Iterator[Standing]:
    """Yield the standing after each event."""
    scores: dict[Trial, tuple[float, int]] = {}
    for event in events:
        if math.isnan(event.score):
            scores.pop(event.trial, None)
        else:
            scores[event.trial] = (event.score, event.epoch)
        leader = max(scores, key=lambda t: (scores[t][0], -t), default=None)
        full = [t for t, (_, epoch) in scores.items() if epoch == epochs]
        finisher = max(full, key=lambda t: (scores[t][0], -t), default=None)
        yield Standing(event.cost, leader, leader in full, finisher)


def crowned(
    events: list[Event], world: World, grid: list[int], *, only_complete: bool
) -> list[int | None]:
    """Return the winning run at each cost of a grid; None: no winner yet.

    A winner has been trained to full length within the cost: if the leader has not,
    the search ended a full training earlier and the leader was trained anew (`verification`).
    A method whose winners must be complete drops a leader whose verification diverges.

    Args:
        events: Events of one search.
        world: World of that search.
        grid: Costs, epochs, rising.
        only_complete: See `Method`.
    """
    full = world.table.epochs
    line = list(standings(events, full))
    found: list[int | None] = []
    for cost in grid:
        now, before = _at(line, cost), _at(line, cost - full)
        chosen = _crown(now, before, world, only_complete=only_complete)
        found.append(None if chosen is None else world.runs[chosen])
    return found


def _crown(
    now: Standing | None, before: Standing | None, world: World, *, only_complete: bool
) -> Trial | None:
    if now is not None and now.complete:
        return now.leader
    verified = before.leader if before is not None else None
    if not only_complete:
        return verified
    able = [before.finisher if before else None, verified]
    last = world.table.val[:, -1]
    alive = [t for t in able if t is not None and not math.isnan(last[world.runs[t]])]
    if not alive:
        return now.finisher if now is not None else None
    return max(alive, key=lambda t: float(last[world.runs[t]]))


def _at(line: list[Standing], cost: int) -> Standing | None:
    """Return the standing at a cost; after its end, a search keeps the last one."""
    if cost < 1 or not line:
        return None
    return line[min(cost, len(line)) - 1]


Maker = Callable[[Table, int], Method]


@dataclass(frozen=True)
class Outcomes:
    """Results of a method's searches on one table.

    Attributes:
        gaps: Points below the reference, (searches, costs); nan: no winner. Searches of one table
            follow one another, as many for each table.
        diverging: Whether the winning run diverges, (searches, costs).
        tables: Number of tables.
    """

    gaps: Floats
    diverging: NDArray[np.bool_]
    tables: int = 1


def outcomes(make: Maker, table: Table, seeds: range, grid: list[int]) -> Outcomes:
    """Run one search per seed, and score its winner at each cost of a grid."""
    gaps = np.full((len(seeds), len(grid)), np.nan)
    diverging = np.zeros(gaps.shape, bool)
    for row, seed in enumerate(seeds):
        method, world = make(table, seed), table.world(seed)
        events = play(method, world, cost=grid[-1])
        runs = crowned(events, world, grid, only_complete=method.only_complete)
        for column, run in enumerate(runs):
            if run is not None:
                gaps[row, column] = table.gap(run)
                diverging[row, column] = bool(table.diverges[run])
    return Outcomes(gaps, diverging)


class End(NamedTuple):
    """The end of a search that ran until it had no more tasks.

    Attributes:
        cost: Full trainings; a winner that is not complete is verified by one more.
        gap: Points of its winner below the reference.
    """

    cost: float
    gap: float


def ends(make: Maker, table: Table, seeds: range) -> list[End]:
    """Run one search per seed to its own end."""
    found = []
    for seed in seeds:
        method, world = make(table, seed), table.world(seed)
        events = play(method, world)
        spent = len(events)
        (winner,) = crowned(events, world, [spent], only_complete=True)
        if winner is None:
            spent += table.epochs
            (winner,) = crowned(events, world, [spent], only_complete=True)
        found.append(End(spent / table.epochs, table.gap(winner)))
    return found


def deberta(path: Path) -> Table:
    """Return 1,024 fine-tunings of DeBERTa-base on MultiNLI. License: CC BY-SA 4.0, N. Lourie."""
    return _opda("deberta-base", path, low=1e-6, high=1e-3)


def alexnet(path: Path) -> Table:
    """Return 512 trainings of AlexNet on ImageNet. License: CC BY-SA 4.0, N. Lourie."""
    return _opda("alexnet", path, low=5e-3, high=50.0)


def _opda(name: str, path: Path, *, low: float, high: float) -> Table:
    with np.load(path) as file:
        lr, raw, test = (file[key].astype(float) for key in ("lr", "val", "test"))
    val, kept = kept_best(raw, test)
    return Table(name, lr, val, kept, low=low, high=high, reference=float(kept.max()))


def kept_best(raw: Floats, test: Floats) -> tuple[Floats, Floats]:
    """Return best validation scores so far (n, N), and test scores of the best checkpoint (n,)."""
    lost = np.isnan(raw)
    val = np.maximum.accumulate(np.where(lost, -np.inf, raw), axis=1)
    best = np.argmax(np.where(lost, -np.inf, raw), axis=1)
    final = np.take_along_axis(test, best[:, None], axis=1)[:, 0]
    broken = lost.any(axis=1)
    return np.where(np.maximum.accumulate(lost, axis=1), np.nan, val), np.where(broken, 0.0, final)


def lr_tables(path: Path, *, averaged: bool = False) -> list[Table]:
    """Return our own recordings, a table for each dataset and encoder (see data/README.md).

    A trial is the nearest learning rate on one of the seeds. Its test score is the mean
    over the seeds, as a study confirms it; gaps are measured from the learning rate that an
    exhaustive grid would choose: the one with the best mean validation score.

    Args:
        path: The npz.
        averaged: Whether trials are judged by the average of their weights.
    """
    tail = "_ema" if averaged else ""
    with np.load(path) as file:
        lr, val, test = file["lr"], file[f"val{tail}"], file[f"test{tail}"]
        names = [(str(t), str(e)) for t in file["tasks"] for e in file["encoders"]]
        recipes = [json.loads(str(text)) for text in file["recipes"]] * len(file["tasks"])
        trained = file["trained"].reshape(-1, *file["trained"].shape[2:])
    shape = (-1, *val.shape[2:])
    cells = zip(names, recipes, val.reshape(shape), test.reshape(shape), trained, strict=True)
    return [
        replace(
            _grid("/".join(name), lr.astype(float)[rates], val_LSN[rates], test_LSN[rates]),
            recipe=recipe,
        )
        for name, recipe, val_LSN, test_LSN, trained_LS in cells
        if (rates := trained_LS.any(axis=1)).sum() >= LEAST_RATES
    ]


def _grid(name: str, lr: Floats, val_LSN: Floats, test_LSN: Floats) -> Table:
    """Return a table of a grid of learning rates, with the seeds that contain all of them."""
    seeds = [s for s in range(val_LSN.shape[1]) if not np.isnan(val_LSN[:, s, 0]).all()]
    whole = [s for s in seeds if s == seeds[0] or _as_full(val_LSN, s, seeds[0])]
    val, test = val_LSN[:, whole].astype(float), test_LSN[:, whole].astype(float)
    num, runs = len(lr), len(lr) * len(whole)
    curves, _ = kept_best(val.reshape(runs, -1), val.reshape(runs, -1))
    lost = np.isnan(curves[:, -1])
    final = np.where(lost, 0.0, test.reshape(runs, -1)[:, -1]).reshape(num, -1).mean(axis=1)
    score = np.where(lost, 0.0, curves[:, -1]).reshape(num, -1).mean(axis=1)
    return Table(
        name=name,
        lr=np.repeat(lr, len(whole)),
        val=curves,
        test=np.repeat(final, len(whole)),
        low=float(lr.min()),
        high=float(lr.max()),
        reference=float(final[score.argmax()]),
        near=len(whole),
        again=True,
    )


def _as_full(val_LSN: Floats, seed: int, other: int) -> bool:
    """Return whether a seed has a training at every learning rate that another seed has."""
    return bool((~np.isnan(val_LSN[:, seed, 0]) >= ~np.isnan(val_LSN[:, other, 0])).all())
