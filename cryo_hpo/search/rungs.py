"""The rung table: which trial goes on, which waits, and whom to promote. Pure: no Ray, no torch.

A ladder of rungs stands at fixed epochs, each `reduction` times as high as the one before. A trial
that reaches a rung waits there unless it is among the best 1/`reduction` of all that reached it;
whenever a worker is free, the best waiting trial of the highest rung that deserves it is promoted
(asynchronous successive halving, with pausing).

Example, grace 1, reduction 3, 9 epochs, rungs at 1, 3, 9; scores in the order of arrival::

    trial   epoch 1    epoch 3    epoch 9
    0       0.50                             waits: the best third of one is nobody
    1       0.40                             waits: not in the best third of {0, 1}
    2       0.62       0.70       0.74       best of three at epoch 1, best of three at epoch 3
    3       0.58       0.52                  second of six at epoch 1: promoted, then waits
    4       0.10                             waits
    5       nan                              diverged: counts as reached, ranks last, never promoted

Everything is computed from the recorded curves, so a table rebuilt from storage after a crash
answers as the one that was lost.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020,
arXiv:1810.05934, algorithm 2 (ASHA).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..results.study import Decision

Curves = Mapping[int, Mapping[int, float]]  # trial number -> epoch -> score, larger is better


class Promotion(NamedTuple):
    """A trial that may go on, and the rung it leaves."""

    trial: int
    rung: int


class Step(NamedTuple):
    """What was decided about a trial at a rung, and why."""

    rung: int
    decision: Decision
    place: int
    of: int

    def __str__(self) -> str:
        return f"{self.decision} at epoch {self.rung} ({self.place} of {self.of})"


@dataclass(frozen=True, slots=True)
class Ladder:
    """The epochs at which trials are compared.

    Attributes:
        rungs: Absolute epochs, rising, all below `epochs`.
        epochs: Full length.
        reduction: One in this many goes on from each rung.
    """

    rungs: tuple[int, ...]
    epochs: int
    reduction: int

    @classmethod
    def of(cls, *, grace_epochs: int, reduction: int, epochs: int) -> Ladder:
        """Build the ladder grace, grace*reduction, ... below `epochs`."""
        rungs = []
        rung = grace_epochs
        while rung < epochs:
            rungs.append(rung)
            rung *= reduction
        return cls(rungs=tuple(rungs), epochs=epochs, reduction=reduction)


def reached(
    curves: Curves, ladder: Ladder, rung: int, *, diverged: Collection[int] = ()
) -> dict[int, float]:
    """Return the score of every trial that reached a rung.

    A diverged trial counts as having reached the rung that would have been its next one, with
    the worst score there is: that it diverged is an answer about it. Rungs above hear nothing.
    """
    below = max((r for r in ladder.rungs if r < rung), default=0)
    found = {trial: _rank_value(curve[rung]) for trial, curve in curves.items() if rung in curve}
    for trial in diverged:
        if below <= max(curves.get(trial, {}), default=0) < rung:
            found[trial] = -math.inf
    return found


def ranked(scores: Mapping[int, float]) -> list[int]:
    """Return the trials of a rung, best first; ties go to the lower number."""
    return sorted(scores, key=lambda trial: (-scores[trial], trial))


def best(scores: Mapping[int, float], reduction: int) -> list[int]:
    """Return the best 1/`reduction` of a rung, best first; ties go to the lower number."""
    return [t for t in ranked(scores)[: len(scores) // reduction] if scores[t] > -math.inf]


def goes_on(
    curves: Curves, ladder: Ladder, trial: int, rung: int, *, diverged: Collection[int] = ()
) -> bool:
    """Say whether a trial that has just reached a rung may go on without waiting."""
    return trial in best(reached(curves, ladder, rung, diverged=diverged), ladder.reduction)


def step(
    decision: Decision,
    trial: int,
    rung: int,
    *,
    curves: Curves,
    ladder: Ladder,
    diverged: Collection[int] = (),
) -> Step:
    """Return what was decided about a trial at a rung, and where it stood there."""
    scores = reached(curves, ladder, rung, diverged=diverged)
    return Step(rung, decision, ranked(scores).index(trial) + 1, len(scores))


def stops(score: float, earlier: Collection[float], *, reduction: int) -> bool:
    """Say whether the stop rule ends a trial at a rung for good.

    It ends one that falls below the (1 - 1/reduction) quantile of those that came before, so the
    order of arrival matters and the first always survives. Diverged trials among the earlier ones
    are left out; one that has diverged itself never survives, which Ray's own rule forgets.

    Args:
        score: Of the trial that has just reached the rung.
        earlier: Scores of those that reached it before, in any order.
        reduction: About one in this many survives.

    Source: `ray.tune.schedulers.ASHAScheduler` of Ray 2.60.
    """
    if math.isnan(score):
        return True
    finite = [value for value in earlier if not math.isnan(value)]
    return bool(finite) and score < float(np.percentile(finite, (1 - 1 / reduction) * 100))


def promotable(
    curves: Curves, ladder: Ladder, waiting: Collection[int], *, diverged: Collection[int] = ()
) -> Promotion | None:
    """Return the waiting trial to promote next: the best one of the highest rung that has any.

    Args:
        curves: What every trial has scored so far.
        ladder: Where the rungs stand.
        waiting: Trials that are paused, each at the last epoch of its curve.
        diverged: Trials whose loss was no longer finite.
    """
    for rung in reversed(ladder.rungs):
        for trial in best(reached(curves, ladder, rung, diverged=diverged), ladder.reduction):
            if trial in waiting and max(curves[trial]) == rung:
                return Promotion(trial, rung)
    return None


def last_resort(curves: Curves, ladder: Ladder, waiting: Collection[int]) -> Promotion | None:
    """Return the waiting trial to carry on when no rung is full enough to promote from.

    Only a configuration trained to full length may win, and the best third of two is nobody:
    at the end of a search the leader of the highest rung goes on, whatever the rung's size.
    """
    for rung in reversed(ladder.rungs):
        scores = {t: v for t, v in reached(curves, ladder, rung).items() if t in waiting}
        here = {t: v for t, v in scores.items() if max(curves[t]) == rung and v > -math.inf}
        if here:
            return Promotion(min(here, key=lambda t: (-here[t], t)), rung)
    return None


def _rank_value(score: float) -> float:
    return -math.inf if math.isnan(score) else score
