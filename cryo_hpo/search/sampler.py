"""What to try next: strata over the whole range first, then Optuna's sampler.

A proposal is a function of the space, the seed, the trial's number and the recorded trials alone:
a study that goes on after a crash proposes what it would have proposed anyway.
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
    """Return how many of a search's trials spread over the range before the sampler learns.

    Half of them: with 8 to 30 trials a sampler that starts from fewer points has seen too little
    of a range of four decades, and one that starts from ten random points leaves gaps.
    """
    return min(trials, max(MIN_STRATA, math.ceil(trials * STRATA_SHARE)))


class Shown(FrozenTrial):
    """A trial as the sampler sees it; nobody changes it.

    Optuna copies every trial that it is shown, deeply. Shallow ones do: a proposal is shown all
    trials before it, so that deep ones would cost a long search more than all else in the driver.
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
    """Return what a new trial draws: each value under the name that the space suggests it by.

    Args:
        suggest: The space as an Optuna define-by-run function.
        records: All trials so far.
        search: Its sampler, seed, number of trials, and what it believes beforehand.
        number: The new trial's, from 1; 0 is the baseline.
        memory: Keeps what the sampler was shown, for the next proposal of the same search. It
            saves time and changes nothing.
    """
    sampler, seed = search.sampler, search.seed
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
    """Yield the sampler's view of the trials; what has not changed comes from memory."""
    for record in records:
        known = memory.get(record.number)
        if known is None or known[:2] != (record.state, record.epochs):
            known = (record.state, record.epochs, _view(record, suggest))
            memory[record.number] = known
        if known[2] is not None:
            yield known[2]


def _view(record: Record, suggest: Suggest) -> Shown | None:
    """Return a recorded trial as the sampler shall see it, None if it shall not.

    A trial that waits at a rung is shown as pruned with what it reached: Optuna would take a
    running one for a bad one (constant liar), and a waiting leader is not that.
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
