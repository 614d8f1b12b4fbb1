"""Run the production search on recorded curves instead of a cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import optuna

from cryo_hpo.config import Recipe, Study
from cryo_hpo.results.epochs import EPOCH, SCORE
from cryo_hpo.search.jobs import Job
from cryo_hpo.search.journal import Journal
from cryo_hpo.search.known_start import KnownStart
from cryo_hpo.search.source import SearchSource

from .simulate import Table, Task


class MemoryJournal(Journal):
    """A journal without a file: a simulated search has no crash to survive."""

    def __init__(self) -> None:
        self._path = Path("memory")
        self._study = optuna.create_study(direction="maximize")
        self._storage = self._study._storage
        self._ids = {}


class _Silence:
    """A listener that ignores everything."""

    def started(self, key: str, recipe: Recipe, *, kind: str) -> None: ...
    def epoch(self, key: str, metrics: Mapping[str, float]) -> None: ...
    def paused(self, key: str, epoch: int) -> None: ...
    def ended(self, key: str, state: str, message: str) -> None: ...
    def reconcile(
        self,
        key: str,
        recipe: Recipe,
        *,
        kind: str,
        epochs: int,
        state: str | None = None,
        message: str = "",
    ) -> None: ...


class Ours:
    """Adapts `SearchSource` to the simulated clock."""

    only_complete = True

    def __init__(
        self, study: Study, journal: Journal | None = None, *, start: KnownStart | None = None
    ) -> None:
        assert study.search is not None, "a search is what is simulated"
        assert hasattr(study.search.space, "suggest"), "its space is a value"
        self.journal = journal or MemoryJournal()
        self.source = SearchSource(
            study,
            suggest=study.search.space.suggest,
            journal=self.journal,
            folder=Path("memory"),
            listener=_Silence(),
            start=start,
        )
        self._jobs: dict[int, Job] = {}

    def next(self) -> Task | Literal["wait"] | None:
        """See `Method`."""
        job = self.source.next()
        if not isinstance(job, Job):
            return job
        number = int(job.key.rpartition("-")[2])
        self._jobs[number] = job
        return Task(number, Recipe.model_validate_json(job.recipe).optim.lr)

    def epoch(self, trial: int, epoch: int, score: float) -> bool:
        """See `Method`."""
        return self.source.epoch(self._jobs[trial], {EPOCH: epoch, SCORE: score})

    def ended(self, trial: int, *, diverged: bool) -> None:
        """See `Method`."""
        self.source.ended(self._jobs[trial], "diverged" if diverged else "done", "")


def study_of(
    table: Table,
    seed: int,
    *,
    trials: int | None = 32,
    baseline: float = 1e-4,
    prior: Mapping[str, Any] | None = None,
    **search: Any,
) -> Study:
    """Return a study of the learning rate over a table's range, with the product's defaults."""
    lr = {"kind": "float", "low": table.low, "high": table.high, "log": True}
    fields = {
        "name": "simulated",
        "base": {
            "data": {"name": "lakes-demo"},
            "epochs": table.epochs,
            "optim": {"lr": baseline},
            "seed": 0,
        },
        "search": {
            "space": {"params": {"optim.lr": lr}},
            "trials": trials,
            "seed": seed,
            "prior": {} if prior is None else {"optim.lr": dict(prior)},
            **search,
        },
    }
    return Study.model_validate_json(json.dumps(fields))
