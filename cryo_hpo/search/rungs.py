"""Decide at rungs: which trial continues, pauses, is promoted or is pruned. Pure: no Ray, no torch.

Rungs are at fixed epochs, each `reduction` times as high as the one before. A trial that reaches a
rung pauses there unless it is among the best 1/`reduction` of all that reached the rung. When a
worker is free, the best paused trial of the highest rung that is now among those is promoted
(asynchronous successive halving, with pausing).

Example, grace 1, reduction 3, 9 epochs, rungs at 1, 3, 9; scores in the order of arrival::

    trial   epoch 1    epoch 3    epoch 9
    0       0.50                             paused: the best third of one is none
    1       0.40                             paused: not in the best third of {0, 1}
    2       0.62       0.70       0.74       best of three at epoch 1, best of three at epoch 3
    3       0.58       0.52                  second of six at epoch 1: promoted, then paused
    4       0.10                             paused
    5       nan                              diverged: counts as reached, ranks last, never promoted

Everything is computed from the recorded curves, so decisions after a crash equal those without one.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020,
arXiv:1810.05934, algorithm 2 (ASHA).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..results.study import Decision

if TYPE_CHECKING:
    from ..config import Search

Curves = Mapping[int, Mapping[int, float]]  # trial number -> epoch -> score, larger is better


class Promotion(NamedTuple):
    """Hold a trial that may continue, and the rung it leaves."""

    trial: int
    rung: int


class Step(NamedTuple):
    """Hold one decision about a trial at a rung, and its place there."""

    rung: int
    decision: Decision
    place: int
    of: int

    def __str__(self) -> str:
        return f"{self.decision} at epoch {self.rung} ({self.place} of {self.of})"


@dataclass(frozen=True, slots=True)
class Ladder:
    """Hold the epochs at which trials are compared.

    Attributes:
        rungs: Absolute epochs, rising, all below `epochs`.
        epochs: Full length.
        reduction: One in this many continues from each rung.
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


def ladder_of(search: Search, epochs: int) -> Ladder | None:
    """Return the rungs of a search that pauses and promotes, None for any other."""
    rule = search.scheduler
    if rule.kind != "asha" or rule.rule != "promote":
        return None
    return Ladder.of(grace_epochs=rule.grace_epochs, reduction=rule.reduction, epochs=epochs)


def rungs_of(search: Search, epochs: int) -> tuple[int, ...]:
    """Return the epochs at which a search compares trials; none without early stopping."""
    rule = search.scheduler
    if rule.kind != "asha":
        return ()
    return Ladder.of(grace_epochs=rule.grace_epochs, reduction=rule.reduction, epochs=epochs).rungs


def reached(
    curves: Curves, ladder: Ladder, rung: int, *, diverged: Collection[int] = ()
) -> dict[int, float]:
    """Return the score of every trial that reached a rung.

    A diverged trial counts as having reached the rung that would have been its next one, with
    the worst possible score, since divergence is a result. Rungs above do not count the trial.
    """
    below = max((r for r in ladder.rungs if r < rung), default=0)
    scores = {trial: _rank_value(curve[rung]) for trial, curve in curves.items() if rung in curve}
    for trial in diverged:
        if below <= max(curves.get(trial, {}), default=0) < rung:
            scores[trial] = -math.inf
    return scores


def ranked(scores: Mapping[int, float]) -> list[int]:
    """Return the trials of a rung, best first; ties go to the lower number."""
    return sorted(scores, key=lambda trial: (-scores[trial], trial))


def top_fraction(scores: Mapping[int, float], reduction: int) -> list[int]:
    """Return the best 1/`reduction` of a rung, best first; ties go to the lower number."""
    return [t for t in ranked(scores)[: len(scores) // reduction] if scores[t] > -math.inf]


def passes_rung(
    curves: Curves, ladder: Ladder, trial: int, rung: int, *, diverged: Collection[int] = ()
) -> bool:
    """Return whether a trial that has just reached a rung continues without a pause."""
    return trial in top_fraction(reached(curves, ladder, rung, diverged=diverged), ladder.reduction)


def decision_at(
    decision: Decision,
    trial: int,
    rung: int,
    *,
    curves: Curves,
    ladder: Ladder,
    diverged: Collection[int] = (),
) -> Step:
    """Return the record of a decision about a trial at a rung, with the trial's rank there."""
    scores = reached(curves, ladder, rung, diverged=diverged)
    return Step(rung, decision, ranked(scores).index(trial) + 1, len(scores))


def stops(score: float, earlier: Collection[float], *, reduction: int) -> bool:
    """Return whether the stop rule prunes a trial at a rung.

    A trial is pruned if it falls below the (1 - 1/reduction) quantile of those that came before, so
    the order of arrival matters and the first always survives. Earlier trials that diverged are
    left out; a trial that has diverged itself never survives, a case that Ray's own rule omits.

    Args:
        score: Score of the trial that has just reached the rung.
        earlier: Scores of the trials that reached the rung before, in any order.
        reduction: About one in this many survives.

    Source: `ray.tune.schedulers.ASHAScheduler` of Ray 2.60.
    """
    if math.isnan(score):
        return True
    finite = [value for value in earlier if not math.isnan(value)]
    return bool(finite) and score < float(np.percentile(finite, (1 - 1 / reduction) * 100))


def promotable(
    curves: Curves, ladder: Ladder, paused: Collection[int], *, diverged: Collection[int] = ()
) -> Promotion | None:
    """Return the paused trial to promote next: the best one of the highest rung that has any.

    Args:
        curves: Scores of every trial so far.
        ladder: The rungs.
        paused: Trials that are paused, each at the last epoch of its curve.
        diverged: Trials whose loss was no longer finite.
    """
    for rung in reversed(ladder.rungs):
        for trial in top_fraction(
            reached(curves, ladder, rung, diverged=diverged), ladder.reduction
        ):
            if trial in paused and max(curves[trial]) == rung:
                return Promotion(trial, rung)
    return None


def finalist(curves: Curves, ladder: Ladder, paused: Collection[int]) -> Promotion | None:
    """Return the paused trial to promote at the end, when no rung is full enough to promote one.

    Only a configuration trained to full length may win, and the best third of two is none: at
    the end of a search the leader of the highest rung is promoted, whatever the rung's size.
    """
    for rung in reversed(ladder.rungs):
        scores = {t: v for t, v in reached(curves, ladder, rung).items() if t in paused}
        candidates = {t: v for t, v in scores.items() if max(curves[t]) == rung and v > -math.inf}
        if candidates:
            return Promotion(min(candidates, key=lambda t: (-candidates[t], t)), rung)
    return None


def _rank_value(score: float) -> float:
    return -math.inf if math.isnan(score) else score
