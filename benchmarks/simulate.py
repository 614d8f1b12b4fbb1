"""A clock without a cluster: workers train recorded curves, and a search decides as it always does.

Scores of a table come with the number of epochs they took, so a search of hours runs in a fraction
of a second, and two searches see the same world.
"""

# n runs, N epochs of a full training

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEAST_RATES = 8  # of a grid that is searched over
Trial = int


class Task(NamedTuple):
    """A trial to train, or to go on with."""

    trial: Trial
    lr: float


class Method(Protocol):
    """A search: what to train next, whether it goes on, and whom it would crown."""

    def next(self) -> Task | Literal["wait"] | None:
        """Return the next task, "wait" if one may come when others end, None at the end."""

    def epoch(self, trial: Trial, epoch: int, score: float) -> bool:
        """Hear a score; return whether the trial goes on."""

    def ended(self, trial: Trial, *, diverged: bool) -> None:
        """Hear that a trial has stopped, for now or for good."""

    only_complete: bool
    """Whether it crowns nobody who has not been trained to full length."""


@dataclass(frozen=True)
class Table:
    """Recorded trainings of one problem.

    Attributes:
        name: Of the problem.
        lr: Learning rate of each run, (n,).
        val: Best validation score so far, a fraction, (n, N); nan from divergence on.
        test: Of what a full training of each run gives on test, (n,); 0 where it diverged.
        low: Lowest learning rate that is searched over.
        high: Highest.
        reference: Test score that gaps are measured from.
        near: A trial is one of so many nearest runs, by chance.
        again: Whether one run may stand for several trials.
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

    @property
    def epochs(self) -> int:
        """Length of a full training."""
        return int(self.val.shape[1])

    @property
    def diverges(self) -> NDArray[np.bool_]:
        """Whether a full training of each run diverges, (n,)."""
        return np.isnan(self.val[:, -1])

    def gap(self, run: int | None) -> float:
        """Return the points by which the test score of a crowned run is below the reference."""
        return 100 * (self.reference - (0.0 if run is None else float(self.test[run])))

    def world(self, seed: int) -> World:
        """Return what one search will meet."""
        return World(self, np.random.default_rng([seed, 7]))


@dataclass
class World:
    """A table as one search sees it: each trial is a run of nearly its learning rate."""

    table: Table
    chance: np.random.Generator
    runs: dict[Trial, int] = field(default_factory=dict)
    done: dict[Trial, int] = field(default_factory=dict)
    """Epochs that each trial has behind it: what checkpoints are in a real study."""

    def run(self, task: Task) -> int:
        """Return the run that stands for a trial: one of the nearest that no other trial has."""
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
        cost: Epochs trained by all until then, this one included.
        trial: Whose.
        epoch: Of that trial, from 1.
        score: Best validation score so far; nan: it diverged in this epoch.
    """

    cost: int
    trial: Trial
    epoch: int
    score: float


def play(method: Method, world: World, *, workers: int = 2, cost: float = math.inf) -> list[Event]:
    """Run a search until it has no more to train, or has trained so many epochs."""
    return list(_events(method, world, workers, cost))


def _events(method: Method, world: World, workers: int, limit: float) -> Iterator[Event]:
    busy: list[tuple[int, int, Task]] = []  # when the epoch ends; in which order it began
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
    """Who leads after so many epochs."""

    cost: int
    leader: Trial | None
    """The best score so far of those that have not diverged."""
    complete: bool
    """Whether the leader is trained to full length."""
    finisher: Trial | None
    """The best of those trained to full length."""


def standings(events: list[Event], epochs: int) -> Iterator[Standing]:
    """Yield who leads after each event."""
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
    """Return the run that is crowned at each cost of a grid; None: nobody can be yet.

    Who is crowned has been trained to full length within the cost: where the leader has not,
    the search ended a full training earlier and the leader was trained anew (`verification`).
    A method that crowns finishers alone drops a leader whose verification diverges.

    Args:
        events: Of one search.
        world: Where they happened.
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
    """Return the standing at a cost; a search that is over stays as it ended."""
    if cost < 1 or not line:
        return None
    return line[min(cost, len(line)) - 1]


Maker = Callable[[Table, int], Method]


@dataclass(frozen=True)
class Outcomes:
    """What a method's searches gave on one table.

    Attributes:
        gaps: Points below the reference, (searches, costs); nan: nobody crowned.
        diverging: Whether the crowned run diverges, (searches, costs).
    """

    gaps: Floats
    diverging: NDArray[np.bool_]


def outcomes(make: Maker, table: Table, seeds: range, grid: list[int]) -> Outcomes:
    """Run one search per seed, and score whom it crowns at each cost of a grid."""
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
    """Return best validation scores so far (n, N), and test of the best checkpoint (n,)."""
    lost = np.isnan(raw)
    val = np.maximum.accumulate(np.where(lost, -np.inf, raw), axis=1)
    best = np.argmax(np.where(lost, -np.inf, raw), axis=1)
    final = np.take_along_axis(test, best[:, None], axis=1)[:, 0]
    broken = lost.any(axis=1)
    return np.where(np.maximum.accumulate(lost, axis=1), np.nan, val), np.where(broken, 0.0, final)


def lr_tables(path: Path, *, averaged: bool = False) -> list[Table]:
    """Return our own recordings, a table for each dataset and encoder (see data/README.md).

    A trial is the nearest learning rate, on one of the seeds. What it gives on test is the mean
    over the seeds, as a study confirms it; gaps are measured from the learning rate that an
    exhaustive grid would crown: the one with the best mean validation score.

    Args:
        path: The npz.
        averaged: Whether trials are judged by the average of their weights.
    """
    tail = "_ema" if averaged else ""
    with np.load(path) as file:
        lr, val, test = file["lr"], file[f"val{tail}"], file[f"test{tail}"]
        names = [(str(t), str(e)) for t in file["tasks"] for e in file["encoders"]]
        trained = file["trained"].reshape(-1, *file["trained"].shape[2:])
    shape = (-1, *val.shape[2:])
    cells = zip(names, val.reshape(shape), test.reshape(shape), trained, strict=True)
    return [
        _grid("/".join(name), lr.astype(float)[rates], val_LSN[rates], test_LSN[rates])
        for name, val_LSN, test_LSN, trained_LS in cells
        if (rates := trained_LS.any(axis=1)).sum() >= LEAST_RATES
    ]


def _grid(name: str, lr: Floats, val_LSN: Floats, test_LSN: Floats) -> Table:
    """Return a table of a grid of learning rates, with the seeds that hold all of them."""
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
    """Whether a seed holds a training of every learning rate that another one holds."""
    return bool((~np.isnan(val_LSN[:, seed, 0]) >= ~np.isnan(val_LSN[:, other, 0])).all())
