"""Plan a search: the trials that reach each rung, and the trials that a budget of trainings allows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .rungs import Ladder

if TYPE_CHECKING:
    from ..config import Search


@dataclass(frozen=True, slots=True)
class Budget:
    """Decide which trainings a budget allows, so that a winner can still reach full length.

    Attributes:
        limit: Epochs that the search may spend.
        epochs: Full length.
    """

    limit: int
    epochs: int

    def allows(self, to: int, *, others: int, paused: Iterable[int], has_candidate: bool) -> bool:
        """Return whether a trial may train until an epoch.

        Afterwards enough must be left to train one candidate to full length: the paused one at
        the highest rung, since the trial itself may diverge; once a candidate is complete, the
        trial itself, since only a complete trial can win.

        Args:
            to: Epoch until which the trial trains, at most.
            others: Epochs of all other trials, those included that running ones are to train.
            paused: Rungs at which other trials are paused.
            has_candidate: Whether a trial besides the baseline is complete.
        """
        level = to if has_candidate else max(paused, default=0)
        return others + to + self.epochs - level <= self.limit

    def allows_whole(self, *, others: int) -> bool:
        """Return whether a trial may train to full length, where no trial pauses."""
        return others + self.epochs <= self.limit


def budget_of(search: Search, epochs: int) -> Budget | None:
    """Return the budget of a search; None if its number of trials is fixed."""
    return None if search.budget is None else Budget(limit_of(search.budget, epochs), epochs)


def limit_of(budget: float, epochs: int) -> int:
    """Return a budget of full trainings in epochs, rounded down."""
    return int(budget * epochs + 1e-9)


def fix_trials(search: Search, epochs: int, *, whole: int = 0) -> Search:
    """Return a search with the number of trials that its budget is expected to allow.

    Args:
        search: The search.
        epochs: Full length.
        whole: Trials at known points that train to full length, whatever their rank.
    """
    if search.budget is None:
        return search
    limit, trials = limit_of(search.budget, epochs), 1
    while count_epochs(expect_rungs(_with(search, trials + 1), epochs, whole=whole)) <= limit:
        trials += 1
    return _with(search, trials)


def _with(search: Search, trials: int) -> Search:
    return search.model_copy(update={"trials": trials})


def most_trials(search: Search, epochs: int) -> int:
    """Return the largest number of trials that a search can begin."""
    if search.budget is None:
        assert search.trials is not None, "a search has trials or a budget"
        return search.trials
    first = expect_rungs(fix_trials(search, epochs), epochs)[0][0]
    return limit_of(search.budget, epochs) // first


def expect_rungs(search: Search, epochs: int, *, whole: int = 0) -> tuple[tuple[int, int], ...]:
    """Return (epoch, trials expected to reach it), full length last; `whole` as in `fix_trials`."""
    rule, remaining = search.scheduler, search.trials
    if remaining is None:
        return expect_rungs(fix_trials(search, epochs, whole=whole), epochs, whole=whole)
    if rule.kind != "asha":
        return ((epochs, remaining),)
    ladder = Ladder.of(grace_epochs=rule.grace_epochs, reduction=rule.reduction, epochs=epochs)
    least = max(min(whole, remaining - 1), 1)  # one candidate at least
    steps = []
    for rung in ladder.rungs:
        steps.append((rung, remaining))
        best = max(remaining // rule.reduction, least)
        # the stop rule never ends the baseline, which is seldom among the best
        remaining = min(remaining, best + (rule.rule == "stop"))
    return (*steps, (epochs, remaining))


def count_epochs(steps: Iterable[tuple[int, int]]) -> int:
    """Return the epochs trained if each step (epoch, trials) is reached by its trials."""
    total, below = 0, 0
    for epoch, trials in steps:
        total += (epoch - below) * trials
        below = epoch
    return total
