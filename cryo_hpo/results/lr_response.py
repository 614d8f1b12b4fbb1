"""Find the plateau, divergence edge and recommended value of the learning rate in a study.

Pure: computed from the trials of a finished study. Noise is the standard deviation of the validation
scores over each arm's seeds, pooled over the arms without a collapsed or diverged seed. The plateau
is the range of learning rates around the best one in which every full-length trial scores within
twice the noise of the best; there is none where the best predicts one class only. Recommended is the trained rate of the plateau that is nearest to its
geometric middle, or nearest to a third of the divergence edge where that is lower.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from ..config.frozen import Frozen
from .study import ArmResult, Result, TrialResult

WITHIN = 2.0  # times the noise; the difference of two seeds exceeds it in one case of six
SAFE = 3.0  # factor below the edge: half a decade, the step of a usual grid


class Point(Frozen):
    """Hold one trial as a point of the learning-rate response."""

    trial: int
    lr: float
    val_miou: float | None = Field(description="Best so far, a fraction; null before any epoch")
    val_score: float | None = Field(
        default=None, description="By `search.metric`, more is better; null before any epoch"
    )
    epochs: int = Field(description="Trained")
    state: Literal["complete", "pruned", "diverged", "failed"]
    full_length: bool = Field(description="Whether its score is that of a whole training")
    on_plateau: bool = Field(description="Full length, and within the noise of the best")


class LrResponse(Frozen):
    """Hold the validation mIoU over the learning rate, as in `lr-response.json`."""

    points: tuple[Point, ...] = Field(description="By rising learning rate")
    best_lr: float | None = Field(description="Of the best trial of full length; null: none is")
    noise: float | None = Field(
        description="Standard deviation of the validation score over seeds; null: fewer than two"
    )
    plateau_low: float | None = Field(description="Lowest learning rate within noise of the best")
    plateau_high: float | None = Field(description="Highest one")
    divergence_edge: float | None = Field(
        description="Lowest learning rate above the best that diverged; null: none did"
    )
    recommended_lr: float | None = Field(
        description="Trained rate of the plateau nearest to its middle, away from the edge"
    )
    fixed_lr: float = Field(description="Of the baseline")
    fixed_on_plateau: bool = Field(description="Whether the fixed rate is as good as the best")


def response(result: Result) -> LrResponse | None:
    """Return the learning-rate response of a study; None if the study has no search."""
    if not result.trials:
        return None
    fixed = float(result.base_recipe["optim"]["lr"])
    whole = [t for t in result.trials if t.state == "complete" and t.score is not None]
    best = min(whole, key=lambda t: (-_score(t), t.number), default=None)
    noise = _noise(result.arms)
    learned = best is not None and not best.collapsed  # equal failures are no plateau
    plateau = _plateau(whole, best, noise or 0.0) if best is not None and learned else []
    edge = None if best is None else divergence_edge(result.trials, best.number)
    low, high = (plateau[0].lr, plateau[-1].lr) if plateau else (None, None)
    return LrResponse(
        points=_points(result, {trial.number for trial in plateau}),
        best_lr=None if best is None else best.lr,
        noise=noise,
        plateau_low=low,
        plateau_high=high,
        divergence_edge=edge,
        recommended_lr=_recommend(plateau, edge),
        fixed_lr=fixed,
        fixed_on_plateau=low is not None and high is not None and low <= fixed <= high,
    )


def _score(trial: TrialResult) -> float:
    return trial.score or 0.0


def _noise(arms: tuple[ArmResult, ...]) -> float | None:
    """Pool the spread of validation scores over seeds; skip arms with a lost seed."""
    squares = degrees = 0.0
    for arm in arms:
        scores = [seed.selection for seed in arm.seeds]
        if len(scores) < 2 or any(seed.collapsed or seed.diverged for seed in arm.seeds):
            continue
        mean = sum(scores) / len(scores)
        squares += sum((score - mean) ** 2 for score in scores)
        degrees += len(scores) - 1
    return math.sqrt(squares / degrees) if degrees else None


def _plateau(whole: list[TrialResult], best: TrialResult, noise: float) -> list[TrialResult]:
    """Return the full-length trials around the best that score within the noise of it."""
    ordered = sorted(whole, key=lambda t: t.lr)
    least = _score(best) - WITHIN * noise
    first = last = ordered.index(best)
    while first > 0 and _score(ordered[first - 1]) >= least:
        first -= 1
    while last + 1 < len(ordered) and _score(ordered[last + 1]) >= least:
        last += 1
    return ordered[first : last + 1]


def divergence_edge(trials: Sequence[TrialResult], best: int | None) -> float | None:
    """Return the lowest learning rate that diverged above the best trial's; None where none did.

    Args:
        trials: Trials of one search.
        best: Number of the best trial; None if there is none, and then no edge.
    """
    rates = [trial.lr for trial in trials if trial.number == best]
    lost = [t.lr for t in trials if rates and t.state == "diverged" and t.lr > rates[0]]
    return min(lost, default=None)


def _recommend(plateau: Sequence[TrialResult], edge: float | None) -> float | None:
    """Return the trained rate nearest to the plateau's middle, and away from the edge.

    Nearest by ratio; of two that are as near, the lower one.
    """
    if not plateau:
        return None
    middle = math.sqrt(plateau[0].lr * plateau[-1].lr)
    wanted = middle if edge is None else min(middle, edge / SAFE)
    return min(
        (trial.lr for trial in plateau), key=lambda lr: (round(abs(math.log(lr / wanted)), 9), lr)
    )


def _points(result: Result, plateau: set[int]) -> tuple[Point, ...]:
    return tuple(
        Point(
            trial=t.number,
            lr=t.lr,
            val_miou=t.best_val_miou,
            val_score=t.score,
            epochs=t.epochs,
            state=t.state,
            full_length=t.state == "complete",
            on_plateau=t.number in plateau,
        )
        for t in sorted(result.trials, key=lambda t: (t.lr, t.number))
    )
