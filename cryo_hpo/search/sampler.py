"""Propose the next trial: strata over the whole range first, then Optuna's sampler.

A proposal depends only on the space, the seed, the trial's number and the recorded trials: a study
that resumes after a crash proposes what it would have proposed anyway.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from .halton import stratum
from .replay import Suggest, replayed

if TYPE_CHECKING:
    from ..config import Search
    from ..config.space import Scalar
    from .trials import Record


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed, n_startup_trials=0, constant_liar=True),
    "gp": lambda seed: GPSampler(seed=seed, n_startup_trials=0),
    "random": lambda seed: RandomSampler(seed=seed),
}
MIN_STRATA, STRATA_SHARE = 4, 0.5


def num_strata(trials: int) -> int:
    """Return the number of a search's trials that are strata, spread over the whole range.

    Half of the trials: of 8 to 30, a sampler that starts from fewer points has seen too little
    of a range of four decades, and one that starts from ten random points leaves gaps.
    """
    return min(trials, max(MIN_STRATA, math.ceil(trials * STRATA_SHARE)))


class Shown(FrozenTrial):
    """Hold the sampler's view of a trial, which is never changed.

    Makes Optuna's deep copy of past trials shallow. Every proposal passes all earlier trials to
    the sampler; deep copies would dominate the driver's CPU time in a long search.
    """

    def __deepcopy__(self, _: Any) -> Shown:
        return copy.copy(self)


Memory = dict[int, tuple[str, int, Shown | None]]  # trial number -> its state, epochs, and view


def propose(
    suggest: Suggest,
    records: Iterable[Record],
    *,
    search: Search,
    number: int,
    memory: Memory | None = None,
) -> dict[str, Scalar]:
    """Return the values of a new trial, by the names the space suggests them by.

    Args:
        suggest: The space as an Optuna define-by-run function.
        records: All trials so far.
        search: Sampler, seed, number of trials, and prior.
        number: Number of the new trial, from 1; 0 is the baseline.
        memory: Cache of the sampler's views between proposals of the same search. It saves time
            and changes nothing.
    """
    sampler, seed = search.sampler, search.seed
    assert search.trials is not None, "the number of trials is known, or expected from the budget"
    if number <= num_strata(search.trials - 1) and (sampler != "random" or search.prior):
        return stratum(suggest, seed=seed, index=number - 1, prior=search.prior)
    chance = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        mirror = optuna.create_study(direction="maximize", sampler=SAMPLERS[sampler](chance))
        for shown in _shown(records, suggest, {} if memory is None else memory):
            mirror.add_trial(shown)
        trial = mirror.ask()
        suggest(trial)
        return dict(trial.params)


def _shown(records: Iterable[Record], suggest: Suggest, memory: Memory) -> Iterator[Shown]:
    """Yield the sampler's view of the trials; unchanged ones come from memory."""
    for record in records:
        view = memory.get(record.number)
        if view is None or view[:2] != (record.state, record.epochs):
            view = (record.state, record.epochs, _view(record, suggest))
            memory[record.number] = view
        if view[2] is not None:
            yield view[2]


def _view(record: Record, suggest: Suggest) -> Shown | None:
    """Return the sampler's view of a recorded trial, None if the trial is left out.

    A trial that is paused at a rung is passed as pruned with its scores: Optuna treats a running
    trial as a bad one (constant liar), and a paused leader is not bad.
    """
    if record.state == "failed" or not record.drawn:
        return None
    replay = replayed(suggest, record.drawn)
    if replay is None:
        return None
    states = {"complete": TrialState.COMPLETE, "running": TrialState.RUNNING}
    state = states.get(record.state, TrialState.PRUNED)
    if state is TrialState.RUNNING and record.curve:
        state = TrialState.PRUNED
    made = create_trial(
        state=state,
        params=replay.trial.params,
        distributions=replay.trial.distributions,
        value=record.score if state is TrialState.COMPLETE else None,
        intermediate_values=dict(record.curve),
    )
    made.__class__ = Shown
    assert isinstance(made, Shown), "the line before"
    return made
