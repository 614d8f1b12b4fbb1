"""Spend a budget of hours on a search and its final comparison, and end inside it.

Before the study a timed step says how many epochs the hours hold; what cannot hold one search and
the comparison is refused with the number of hours that can. The comparison is set aside first, the
search gets the rest, and both are kept in `hours.json`, so that a resumed study has the same plan.
While trainings run, their recorded time replaces that of the timed step: validation, loading of
data and other hyperparameters cost what they cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.frozen import Frozen
from ..config.seeds import FEWEST_SIGNS, SeedLimit
from ..errors import SpecError, concerning
from ..search.budget import Budget
from . import folder as folders
from .plan import epochs_lacking, first_stop, num_arms
from .timing import measure_epoch, time_step

if TYPE_CHECKING:
    from ..config import Site, Study
    from ..config.hours import Hours
    from ..execution.executor import TrialResources
    from ..monitoring.recorder import Records

NAME = "hours.json"
USEFUL = 2  # full trainings; a search of fewer gives way to the comparison, see docs/search.md
MARGIN = 1.03  # on the time of an epoch: the next ones may be slower
LARGEST = 1000.0  # full trainings, as search.budget


class HoursPlan(Frozen):
    """Hold how a budget of hours is divided.

    Attributes:
        epoch_s: Device-seconds of an epoch, from a timed step; without validation.
        search: Epochs of the search.
        proof: Epochs of the final comparison, at most.
        at_most: Pairs of a comparison that stops when it is decided; None: their number is fixed.
        settled: Whether the search is over, and with it the number of pairs fixed.
    """

    epoch_s: float
    search: int
    proof: int
    at_most: int | None
    settled: bool = False


def needed_epochs(study: Study) -> tuple[int, int]:
    """Return the epochs that the shortest search and the shortest comparison take."""
    epochs = study.base.epochs
    return epochs + first_stop(study), _least_proof(study)


def _least_proof(study: Study) -> int:
    if study.proof != "full":
        return epochs_lacking(study) if study.proof == "quick" else 0
    pairs = FEWEST_SIGNS if study.stops_when_decided else len(study.comparison_seeds)
    return num_arms(study) * pairs * study.base.epochs


def divide(study: Study, *, epoch_s: float) -> HoursPlan:
    """Divide the hours of a study: the comparison is set aside, the search gets the rest.

    A comparison that stops when it is decided is set aside for all its pairs, unless the search
    would fall below `USEFUL` trainings: then it has fewer pairs, at least six.

    Args:
        study: The study, which has a budget of hours.
        epoch_s: Device-seconds of an epoch.

    Raises:
        SpecError: The hours cannot hold one search and the comparison.
    """
    assert study.budget is not None, "the study has a budget of hours"
    total = int(study.budget.hours * 3600 / epoch_s)
    search, proof = needed_epochs(study)
    if total < search + proof:
        raise _too_few(study, study.budget, epochs=search + proof, epoch_s=epoch_s)
    at_most = None
    if isinstance(study.seeds, SeedLimit) and study.stops_when_decided:
        pair = num_arms(study) * study.base.epochs
        wanted = max(search, min(USEFUL * study.base.epochs, total - proof))
        at_most = min(study.seeds.at_most, (total - wanted) // pair)
        proof = at_most * pair
    spent = min(total - proof, int(LARGEST * study.base.epochs))
    return HoursPlan(epoch_s=epoch_s, search=spent, proof=proof, at_most=at_most)


def _too_few(study: Study, budget: Hours, *, epochs: int, epoch_s: float) -> SpecError:
    hours = math.ceil(epochs * epoch_s / 36) / 100
    with_proof = "a search" if study.proof == "none" else f"a search and proof: {study.proof}"
    message = (
        f"{budget} are too few for {with_proof}: {epochs} epochs at {epoch_s:.3g} s each take at "
        f"least {hours:g} {budget.unit}. Raise it, shorten base.epochs, or set a smaller proof."
    )
    with concerning("budget", budget.key):
        raise SpecError(message)


def resolve(study: Study, plan: HoursPlan) -> Study:
    """Return a study whose search and comparison have the lengths of a plan."""
    assert study.search is not None, "a budget is for a search"
    trainings = plan.search / study.base.epochs
    search = study.search.model_copy(update={"budget": trainings})
    seeds = study.seeds if plan.at_most is None else SeedLimit(at_most=plan.at_most)
    return study.model_copy(update={"search": search, "seeds": seeds})


def plan_hours(study: Study, site: Site) -> HoursPlan:
    """Return the division of a study's hours: as the study began with, or from a timed step.

    Raises:
        SpecError: The hours are too few, or no step can be timed on this machine.
        CryoError: The data are missing, or the kept plan is damaged.
    """
    file = folders.of(study, site) / NAME
    if file.is_file():
        return read_plan(file)
    return divide(study, epoch_s=_time_epoch(study, site))


def keep(plan: HoursPlan, path: Path) -> None:
    """Write the division of the hours, unless the study has one."""
    folders.keep(path / NAME, plan.model_dump_json(indent=2) + "\n")


def read_plan(file: Path) -> HoursPlan:
    """Read the division of the hours that a study began with.

    Raises:
        SpecError: The file is damaged.
    """
    try:
        return HoursPlan.model_validate_json(file.read_bytes())
    except ValueError as error:
        message = (
            f"'{file}' is damaged. Remove it: a step is timed anew, and what is trained is kept."
        )
        raise SpecError(message) from error


def _time_epoch(study: Study, site: Site) -> float:
    budget = study.budget
    assert budget is not None, "the study has a budget of hours"
    on_gpu = budget.gpu_hours is not None
    share = study.resources.gpus if isinstance(study.resources.gpus, int | float) else 1.0
    step_s = time_step(study.base, site, on_gpu=on_gpu)
    return step_s * measure_epoch(study.base, site).steps * (share if on_gpu else 1.0)


@dataclass(frozen=True)
class Purse:
    """Report to a running search how many epochs its hours still hold.

    Attributes:
        study: The study, resolved.
        plan: How its hours were divided when it began.
        per: Devices that a training occupies: cores, or GPUs.
        spent: Returns (epochs, seconds) of all trainings so far.
    """

    study: Study
    plan: HoursPlan
    per: float
    spent: Callable[[], tuple[int, float]]

    def budget(self) -> Budget:
        """Return the budget of the search, by the time that epochs have taken so far.

        Raises:
            SpecError: The first epochs show that the hours cannot hold search and comparison.
        """
        hours = self.study.budget
        assert hours is not None, "the study has a budget of hours"
        done, seconds = self.spent()
        if 0 < done <= first_stop(self.study):
            epoch_s = MARGIN * self.per * seconds / done
            self._refuse_too_few(hours, done=done, left=self._left(), epoch_s=epoch_s)
        return Budget(self.search_epochs(), self.study.base.epochs)

    def search_epochs(self) -> int:
        """Return the epochs that the search may spend, by the time that epochs have taken so far."""
        done, _ = self.spent()
        if not done:
            return self.plan.search
        left = self._left()
        return done + int(left - self._reserve(left + done))

    def _refuse_too_few(self, hours: Hours, *, done: int, left: float, epoch_s: float) -> None:
        search, proof = needed_epochs(self.study)
        if done + left < search + proof:
            raise _too_few(self.study, hours, epochs=search + proof, epoch_s=epoch_s)

    def _reserve(self, total: float) -> float:
        """Return the epochs set aside for the comparison, out of all that the hours hold."""
        if self.plan.at_most is None:
            return self.plan.proof
        pair = num_arms(self.study) * self.study.base.epochs
        least = FEWEST_SIGNS * pair
        return max(least, min(self.plan.proof, total - USEFUL * self.study.base.epochs))

    def settle(self, path: Path) -> Study:
        """Return the study with the pairs that the hours left hold, at least six; kept on disk.

        Their number is fixed here, before the first pair is trained, and not changed afterwards.
        """
        plan = self.plan
        if plan.at_most is None or plan.settled:
            return self.study
        pairs = int(self._left() // (num_arms(self.study) * self.study.base.epochs))
        at_most = max(FEWEST_SIGNS, min(plan.at_most, pairs))
        settled = plan.model_copy(update={"at_most": at_most, "settled": True})
        folders.write(path / NAME, settled.model_dump_json(indent=2) + "\n")
        return self.study.model_copy(update={"seeds": SeedLimit(at_most=at_most)})

    def _left(self) -> float:
        """Return the epochs that the hours still hold."""
        assert self.study.budget is not None, "the study has a budget of hours"
        done, seconds = self.spent()
        epoch_s = MARGIN * self.per * seconds / done if done else self.plan.epoch_s
        return (self.study.budget.hours * 3600 - self.per * seconds) / max(epoch_s, 1e-9)


def open_purse(
    study: Study, path: Path, *, records: Records, slots: TrialResources
) -> Purse | None:
    """Return what reports to a running search how much it may spend; None without a budget of hours.

    Args:
        study: The study, resolved.
        path: Its folder.
        records: Recorded epochs of its trainings.
        slots: Resources of a training.

    Raises:
        SpecError: The budget is in GPU-hours and trainings have no GPU, or the reverse.
    """
    if study.budget is None:
        return None
    if bool(slots.gpus) != (study.budget.gpu_hours is not None):
        message = (
            f"A budget in {study.budget.unit} is for trainings {'on CPUs' if slots.gpus else 'on GPUs'}"
            f", these have {slots.gpus:g} GPUs each. Use "
            f"{'gpu_hours' if slots.gpus else 'core_hours'}, or set resources.gpus."
        )
        with concerning("budget", study.budget.key):
            raise SpecError(message)
    per = slots.gpus or float(slots.cpus)
    return Purse(study, read_plan(path / NAME), per, lambda: (records.epochs, records.seconds))


def hours_lines(study: Study, plan: HoursPlan) -> list[str]:
    """Return the division of a study's hours as lines for a terminal."""
    budget, epochs = study.budget, study.base.epochs
    assert budget is not None, "the study has a budget of hours"
    pairs = "" if plan.at_most is None else f" (at most {plan.at_most} repeats)"
    return [
        f"budget: {budget}, about {budget.hours * 3600 / plan.epoch_s / epochs:.3g} full trainings of "
        f"{epochs * plan.epoch_s / 3600:.3g} {budget.unit}, by a timed step; validation comes on top, "
        "and the time of the first epochs replaces the estimate",
        f"budget of the search: {plan.search / epochs:.3g} trainings; set aside for the final "
        f"comparison: {plan.proof / epochs:.3g}{pairs}",
    ]
