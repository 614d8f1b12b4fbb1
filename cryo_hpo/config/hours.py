"""Define the budget of a study in hours of a device, for search and final comparison together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from .frozen import ConstraintErrors, Frozen, Problem

if TYPE_CHECKING:
    from .study import Study


class Hours(Frozen):
    """Hours of training and validation that a whole study may spend, search and comparison."""

    gpu_hours: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="GPU-hours of all trainings together; half of them where a trial has half a GPU.",
    )
    core_hours: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="Core-hours of all trainings together, on CPUs: hours times `resources.cpus`.",
    )

    @model_validator(mode="after")
    def _laws(self) -> Self:
        if (self.gpu_hours is None) == (self.core_hours is None):
            message = "A budget has gpu_hours or core_hours, exactly one of them. Drop or add one."
            raise ConstraintErrors([Problem((), message)])
        return self

    @property
    def hours(self) -> float:
        """The number of hours."""
        return self.core_hours if self.gpu_hours is None else self.gpu_hours  # type: ignore[return-value]

    @property
    def unit(self) -> str:
        """What they are hours of: GPU-hours or core-hours."""
        return "core-hours" if self.gpu_hours is None else "GPU-hours"

    @property
    def key(self) -> str:
        """Key that holds the number."""
        return "core_hours" if self.gpu_hours is None else "gpu_hours"

    def __str__(self) -> str:
        return f"{self.hours:g} {self.unit}"


def length_problems(study: Study) -> Iterator[Problem]:
    """Yield why a search has no length, or two."""
    search, budget = study.search, study.budget
    if search is None:
        if budget is not None:
            message = (
                "A budget is for a search and its proof, and this study has no search. Drop it."
            )
            yield Problem(("budget",), message)
        return
    if search.trials is None and search.budget is None and budget is None:
        message = (
            "Required key is missing. Add it, the number of configurations to try; or add "
            "`budget`, the cost of the search in full trainings."
        )
        yield Problem(("search", "trials"), message)
    if search.trials is not None and search.budget is not None:
        message = (
            f"A search has a number of trials or a budget, this one has both: {search.trials} "
            f"trials and a budget of {search.budget:g} trainings. Drop one of the two."
        )
        yield Problem(("search", "budget"), message)
    if budget is not None:
        yield from _hours_problems(study, budget)


def _hours_problems(study: Study, budget: Hours) -> Iterator[Problem]:
    search, gpus = study.search, study.resources.gpus
    if search is not None and (search.trials is not None or search.budget is not None):
        message = (
            f"A budget of {budget} decides the length of the search, and `search` has its own. "
            "Drop one of the two."
        )
        yield Problem(("budget",), message)
    if gpus != "auto" and (gpus == 0) != (budget.gpu_hours is None):
        message = (
            f"A trial has resources.gpus: {gpus:g}, so its cost is not in {budget.unit}. Use "
            f"{'core_hours' if gpus == 0 else 'gpu_hours'}."
        )
        yield Problem(("budget", budget.key), message)
