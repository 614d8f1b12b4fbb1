"""Define the budget of a study in hours of a device, for search and final comparison together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator

from .frozen import ConstraintErrors, Frozen, Problem


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


@dataclass(frozen=True, slots=True)
class Length:
    """Hold what may decide the length of a search, of which exactly one is to be given.

    Attributes:
        trials: Number of configurations.
        trainings: Budget in full trainings.
        budget: Hours of the whole study.
        gpus: GPUs of a trial, or "auto".
    """

    trials: int | None
    trainings: float | None
    budget: Hours | None
    gpus: float | str

    def problems(self) -> Iterator[Problem]:
        """Yield why a search has no length, or two."""
        if self.trials is None and self.trainings is None and self.budget is None:
            message = (
                "Required key is missing. Add it, the number of configurations to try; or add "
                "`budget`, the cost of the search in full trainings."
            )
            yield Problem(("search", "trials"), message)
        if self.trials is not None and self.trainings is not None:
            message = (
                f"A search has a number of trials or a budget, this one has both: {self.trials} "
                f"trials and a budget of {self.trainings:g} trainings. Drop one of the two."
            )
            yield Problem(("search", "budget"), message)
        if self.budget is not None:
            yield from self._hours_problems(self.budget)

    def _hours_problems(self, budget: Hours) -> Iterator[Problem]:
        if self.trials is not None or self.trainings is not None:
            message = (
                f"A budget of {budget} decides the length of the search, and `search` has its own. "
                "Drop one of the two."
            )
            yield Problem(("budget",), message)
        if not isinstance(self.gpus, str) and (self.gpus == 0) != (budget.gpu_hours is None):
            message = (
                f"A trial has resources.gpus: {self.gpus:g}, so its cost is not in {budget.unit}. "
                f"Use {'core_hours' if self.gpus == 0 else 'gpu_hours'}."
            )
            yield Problem(("budget", budget.key), message)
