"""Estimate a study's minutes: from its recorded trainings, or from a step timed on this machine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch

from ..errors import CryoError
from ..monitoring.heartbeat import phase
from ..results.study import NAME as RESULT
from ..results.study import load_result
from ..training.build import dataset_of
from . import folder as folders
from .timing import measure_epoch, time_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config import Recipe, Site, Study
    from ..config.hours import Hours
    from .plan import Plan

log = logging.getLogger(__name__)

UNKNOWN = "minutes: unknown, the data are not here or not in order (`check`)"


Basis = Literal["budget", "recorded", "timed on a core", "timed on a GPU"]
BASES: dict[Basis, str] = {
    "budget": "the budget of hours",
    "recorded": "recorded epochs",
    "timed on a core": "training steps timed now on one core of this machine",
    "timed on a GPU": "training steps timed now on this machine's GPU",
}


class Minutes(NamedTuple):
    """Hold the minutes of studies, one training at a time.

    Attributes:
        search: Of the search.
        proof: Of the final comparison.
        bases: What the estimate is made from.
    """

    search: float
    proof: float
    bases: frozenset[Basis]

    @property
    def total(self) -> float:
        """Search and final comparison."""
        return self.search + self.proof


class Clock:
    """Estimate minutes; each distinct step is timed once, however many studies have it."""

    def __init__(self, site: Site) -> None:
        """Time nothing yet.

        Args:
            site: Locations of data, weights and storage.
        """
        self._site = site
        self._steps: dict[str, float] = {}

    def minutes(self, study: Study, plan: Plan) -> Minutes | None:
        """Return the minutes of a study; None where its data are not here."""
        if study.budget is not None:
            return _within(study, study.budget, share=plan.epochs_confirm / _epochs(plan))
        epoch = self._recorded(study) or self._timed(study)
        if epoch is None:
            return None
        seconds, basis = epoch
        return Minutes(
            search=plan.epochs_expected * seconds / 60,
            proof=plan.epochs_confirm * seconds / 60,
            bases=frozenset({basis}),
        )

    def _recorded(self, study: Study) -> tuple[float, Basis] | None:
        """Return the mean seconds of an epoch, of a finished study of the same recipe."""
        file = folders.of(study, self._site) / RESULT
        try:
            result = load_result(file) if file.is_file() else None
        except CryoError:  # damaged: `run` reports it
            return None
        if result is None or result.spec.get("base") != study.base.model_dump(mode="json"):
            return None
        spent = result.costs
        epochs = spent.epochs_search + spent.epochs_confirm
        if not epochs:
            return None
        return (spent.seconds_search + spent.seconds_confirm) / epochs, "recorded"

    def _timed(self, study: Study) -> tuple[float, Basis] | None:
        """Return the seconds of the training steps of an epoch, from a timed one."""
        try:
            steps = measure_epoch(study.base, self._site).steps
        except CryoError:  # a plan can be made where the data are not
            return None
        on_gpu = study.resources.gpus != 0 and torch.cuda.is_available()
        step_s = self._time_step(study.base, on_gpu=on_gpu)
        return steps * step_s, "timed on a GPU" if on_gpu else "timed on a core"

    def _time_step(self, recipe: Recipe, *, on_gpu: bool) -> float:
        key = _key_of_step(recipe)
        if key not in self._steps:
            name = f"{recipe.model.encoder} ({recipe.model.tune}), {recipe.batch_size} windows"
            log.info("timing a training step of %s", name)
            with phase(f"timing a training step of {name}"):
                self._steps[key] = time_step(recipe, self._site, on_gpu=on_gpu)
        return self._steps[key]


def _epochs(plan: Plan) -> int:
    return max(plan.epochs_expected + plan.epochs_confirm, 1)


def _within(study: Study, budget: Hours, *, share: float) -> Minutes:
    """Return the minutes of a study that a budget of hours ends.

    Args:
        study: The study.
        budget: Its hours.
        share: Share of the final comparison in all epochs.
    """
    gpus = study.resources.gpus
    devices = study.resources.cpus if budget.gpu_hours is None else 1.0 if gpus == "auto" else gpus
    total = 60 * budget.hours / devices
    return Minutes(search=total * (1 - share), proof=total * share, bases=frozenset({"budget"}))


def _key_of_step(recipe: Recipe) -> str:
    """Return all that the duration of a step depends on, as text."""
    bands = [band.name for band in dataset_of(recipe.data).bands]
    model = recipe.model.model_dump_json(exclude={"weights"})
    return f"{model} {bands} {recipe.data.crop} {recipe.batch_size}"


def sum_minutes(parts: Sequence[Minutes]) -> Minutes:
    """Return the minutes of several studies together."""
    return Minutes(
        search=sum(part.search for part in parts),
        proof=sum(part.proof for part in parts),
        bases=frozenset().union(*(part.bases for part in parts)),
    )


def minutes_line(minutes: Minutes | None) -> str:
    """Return minutes as a line for a terminal."""
    if minutes is None:
        return UNKNOWN
    if minutes.bases == {"budget"}:
        return (
            f"minutes: about {short_minutes(minutes.total)}, one training at a time, which the budget "
            "of hours allows; scoring and start-up come on top"
        )
    return (
        f"minutes: about {short_minutes(minutes.total)}, one training at a time: search "
        f"{short_minutes(minutes.search)}, paired retraining {short_minutes(minutes.proof)}; from "
        f"{' and '.join(BASES[basis] for basis in sorted(minutes.bases))}{_left_out(minutes)}"
    )


def _left_out(minutes: Minutes) -> str:
    is_timed = bool(minutes.bases - {"recorded", "budget"})
    return ", so validation, scoring and start-up come on top" if is_timed else ""


def short_minutes(minutes: float) -> str:
    """Return minutes with two significant digits, whole from ten on."""
    return f"{minutes:,.0f}" if minutes >= 10 else f"{minutes:.2g}"
