"""Define the rivals of the search: by hand, at random, and the rules of Ray and Optuna."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import count
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, SuccessiveHalvingPruner
from optuna.samplers import TPESampler

from cryo_hpo.search.halton import stratum

from .simulate import Table, Task

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

LR = "lr"
PATH = "optim.lr"  # the name in our own space, which decides the sequence
DISTRIBUTION = optuna.distributions.FloatDistribution


def stream(table: Table, seed: int) -> Iterator[float]:
    """Yield log-uniform learning rates, the same for every rival of one seed."""
    chance = np.random.default_rng([seed, 11])
    while True:
        yield float(table.low * (table.high / table.low) ** chance.random())


class Full:
    """Trains given learning rates to full length, one after another."""

    only_complete = False

    def __init__(self, lrs: Iterator[float]) -> None:
        self._lrs, self._number = lrs, -1

    def next(self) -> Task | Literal["wait"] | None:
        """See `Method`."""
        lr = next(self._lrs, None)
        self._number += 1
        return None if lr is None else Task(self._number, lr)

    def epoch(self, trial: int, epoch: int, score: float) -> bool:  # noqa: ARG002
        """See `Method`."""
        return True

    def ended(self, trial: int, *, diverged: bool) -> None:
        """See `Method`."""


class OneEpoch(Full):
    """Trains every learning rate for one epoch, and ranks by its score."""

    def epoch(self, trial: int, epoch: int, score: float) -> bool:  # noqa: ARG002
        """See `Method`."""
        return False


class RayStop(Full):
    """Ray's `AsyncHyperBandScheduler`, called after every epoch."""

    def __init__(self, lrs: Iterator[float], *, epochs: int) -> None:
        from ray.tune.schedulers import AsyncHyperBandScheduler

        super().__init__(lrs)
        self._rule: Any = AsyncHyperBandScheduler(
            time_attr="epoch",
            metric="score",
            mode="max",
            max_t=epochs,
            grace_period=1,
            reduction_factor=3,
        )
        self._trials: dict[int, Any] = {}

    def next(self) -> Task | Literal["wait"] | None:
        """See `Method`."""
        task = super().next()
        if isinstance(task, Task):
            trial = SimpleNamespace(trial_id=f"{task.trial:05d}", config={})
            self._trials[task.trial] = trial
            self._rule.on_trial_add(None, trial)
        return task

    def epoch(self, trial: int, epoch: int, score: float) -> bool:
        """See `Method`."""
        result = {"epoch": epoch, "training_iteration": epoch, "score": score}
        return str(self._rule.on_trial_result(None, self._trials[trial], result)) == "CONTINUE"


class Pruned(Full):
    """An Optuna study with one of its pruners; learning rates come from `stream`."""

    def __init__(
        self, lrs: Iterator[float], pruner: BasePruner, *, table: Table, seed: int
    ) -> None:
        super().__init__(lrs)
        # Hyperband derives brackets from the study's name
        self._study = optuna.create_study(
            direction="maximize", pruner=pruner, study_name=f"search-{seed}"
        )
        self._space: dict[str, Any] = {LR: DISTRIBUTION(table.low, table.high, log=True)}
        self._trials: dict[int, optuna.Trial] = {}

    def next(self) -> Task | Literal["wait"] | None:
        """See `Method`."""
        task = super().next()
        if isinstance(task, Task):
            self._study.enqueue_trial({LR: task.lr})
            self._trials[task.trial] = self._study.ask(self._space)
        return task

    def epoch(self, trial: int, epoch: int, score: float) -> bool:
        """See `Method`."""
        self._trials[trial].report(score, epoch)
        return not self._trials[trial].should_prune()

    def ended(self, trial: int, *, diverged: bool) -> None:
        """See `Method`."""
        asked = self._trials[trial]
        values = self._study.get_trials(deepcopy=False)[asked.number].intermediate_values
        if diverged or not values:
            self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(asked, values[max(values)])


class TpeFull:
    """Optuna's TPE with its defaults: ten random learning rates first, each at full length."""

    only_complete = False

    def __init__(self, table: Table, seed: int) -> None:
        self._study = optuna.create_study(direction="maximize", sampler=TPESampler(seed=seed))
        self._space: dict[str, Any] = {LR: DISTRIBUTION(table.low, table.high, log=True)}
        for lr, _ in zip(stream(table, seed), range(10), strict=False):
            self._study.enqueue_trial({LR: lr})
        self._scores: dict[int, float] = {}

    def next(self) -> Task | Literal["wait"] | None:
        """See `Method`."""
        trial = self._study.ask(self._space)
        return Task(trial.number, trial.params[LR])

    def epoch(self, trial: int, epoch: int, score: float) -> bool:  # noqa: ARG002
        """See `Method`."""
        self._scores[trial] = score
        return True

    def ended(self, trial: int, *, diverged: bool) -> None:
        """See `Method`."""
        if diverged:
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial, self._scores[trial])


def even_stream(table: Table, seed: int) -> Iterator[float]:
    """Yield learning rates that cover the range evenly: the beginning of the production search."""

    def suggest(trial: Any) -> dict[str, float]:
        return {PATH: trial.suggest_float(PATH, table.low, table.high, log=True)}

    return (float(stratum(suggest, seed=seed, index=index)[PATH]) for index in count())


def dropping(method: Full) -> Full:
    """Let a rival drop a leader whose verification diverges, as the product does."""
    method.only_complete = True
    return method


def shuffled(table: Table, seed: int) -> Iterator[float]:
    """Return the rates by hand in random order: in ascending order, their order is luck."""
    rates = np.array(by_hand(table))
    return iter(np.random.default_rng([seed, 13]).permutation(rates).tolist())


def by_hand(table: Table) -> Sequence[float]:
    """Return four learning rates spread evenly over a table's range, including its ends."""
    return [float(lr) for lr in np.geomspace(table.low, table.high, 4)]


def sha(epochs: int) -> BasePruner:
    """Return Optuna's successive halving with rungs at 1, 3, 9."""
    del epochs
    return SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)


def hyperband(epochs: int) -> BasePruner:
    """Return Optuna's Hyperband over a full training."""
    return HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=3)
