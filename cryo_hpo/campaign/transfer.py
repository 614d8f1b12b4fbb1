"""What finished cells offer to later ones: where good values lay, as a belief of their search.

What a cell was offered is written down before its first trial, so a campaign that goes on offers
the same again, whatever has finished since.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Study
from ..config.space import Float, Int, Scalar, SearchSpace
from ..results.campaign import Offer
from ..search.source import winner
from ..study import folder as folders

if TYPE_CHECKING:
    from ..config import Campaign, Cell
    from ..results.study import Result
    from .cell import CellRun

OFFERS = "offers.json"
SPREAD = 3.0  # at least this factor around what siblings found: optima move between datasets


@dataclass(frozen=True, slots=True)
class _Finished:
    cell: Cell
    study: str
    params: dict[str, Scalar]


class Transfer:
    """Collects what cells found, and tells those that begin."""

    def __init__(self, campaign: Campaign, folder: Path) -> None:
        self._on, self._file = campaign.transfer, folder / OFFERS
        self._finished: list[_Finished] = []
        told = json.loads(self._file.read_text()) if self._file.exists() else {}
        self._told: dict[str, list[Offer]] = {
            study: [Offer.model_validate_json(json.dumps(one)) for one in offers]
            for study, offers in told.items()
        }

    def searched(self, run: CellRun) -> None:
        """Take note of a cell whose search is over."""
        if run.trials:
            best = winner(run.trials)
            self._take(run.cell, run.study, dict(best.params))

    def finished(self, cell: Cell, study: Study, result: Result) -> None:
        """Take note of a cell that an earlier run of the campaign finished."""
        trials = {trial.number: trial.params for trial in result.trials}
        if result.winner is not None:
            self._take(cell, study, dict(trials[result.winner]))

    def informed(self, run: CellRun) -> Study:
        """Return a cell's study with what its finished siblings offer, the same at every call."""
        if not self._on:
            return run.study
        name = run.study.name
        if name not in self._told:
            offers = [Offer(study=f.study, params=f.params) for f in self._siblings(run.cell)]
            self._told[name] = offers
            self._keep()
        return with_belief(run.study, self._told[name])

    def as_begun(self, study: Study) -> Study:
        """Return a cell's study as it began, with what it was offered; as it is, if it has not."""
        return with_belief(study, self._told.get(study.name, ()))

    def offers(self, study: str) -> tuple[Offer, ...]:
        """Return what a cell was offered."""
        return tuple(self._told.get(study, ()))

    def _take(self, cell: Cell, study: Study, params: dict[str, Scalar]) -> None:
        assert study.search is not None, "a campaign has a search"
        space = study.search.space
        names = tuple(space.params) if isinstance(space, SearchSpace) else ()
        flat = study.recipe(params).flat()
        values = {name: flat[name] for name in names}
        found = {name: value for name, value in values.items() if value is not None}
        self._finished.append(_Finished(cell, study.name, found))

    def _siblings(self, cell: Cell) -> list[_Finished]:
        """The same encoder in the same regime; if there is none, the same dataset likewise."""
        same = [f for f in self._finished if f.cell.regime == cell.regime]
        for axis in ("encoder", "dataset"):
            found = [f for f in same if getattr(f.cell, axis) == getattr(cell, axis)]
            if found:
                return found
        return []

    def _keep(self) -> None:
        raw = {
            study: [one.model_dump(mode="json") for one in offers]
            for study, offers in self._told.items()
        }
        folders.write(self._file, json.dumps(raw, indent=2) + "\n")


def with_belief(study: Study, offers: Sequence[Offer]) -> Study:
    """Return a study whose search believes in what siblings found; its own belief comes first.

    Args:
        study: Of the cell that begins.
        offers: At least one for a belief.
    """
    assert study.search is not None, "a campaign has a search"
    space = study.search.space
    if not offers or not isinstance(space, SearchSpace):
        return study
    raw = study.model_dump(mode="json")
    own = raw["search"].get("prior", {})
    for name, param in space.params.items():
        values = [o.params[name] for o in offers if name in o.params]
        if isinstance(param, Float | Int) and values and name not in own:
            own[name] = belief(param, [float(value) for value in values])
    return Study.model_validate_json(json.dumps({**raw, "search": {**raw["search"], "prior": own}}))


def belief(param: Float | Int, values: Sequence[float]) -> dict[str, Any]:
    """Return center and spread of a parameter's good values, within its range.

    On a logarithmic scale: the geometric mean, and a factor that covers the values, at least
    `SPREAD`. Else the mean, and a difference that covers them, at least a sixth of the range.
    """
    if param.log:
        logs = [math.log(value) for value in values]
        center = math.exp(statistics.fmean(logs))
        spread = max(SPREAD, math.exp(statistics.pstdev(logs)))
    else:
        center = statistics.fmean(values)
        spread = max((param.high - param.low) / 6, statistics.pstdev(values))
    inside = min(max(center, float(param.low)), float(param.high))
    return {"center": inside, "spread": spread or 1.0}
