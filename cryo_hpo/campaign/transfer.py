"""Transfer good values from finished cells to later ones, as priors of their search.

A cell's offers are written to a file before its first trial, so a resumed campaign offers the same
again, whatever has finished since.
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
from ..results.campaign import Offer, load_offers
from ..search.source import winner
from ..study import folder as folders

if TYPE_CHECKING:
    from ..config import Campaign, Cell
    from ..results.study import Result
    from .cell import CellRun

OFFERS = "offers.json"
SPREAD = 3.0  # least factor around the siblings' values: optima move between datasets


@dataclass(frozen=True, slots=True)
class _Finished:
    cell: Cell
    study: str
    params: dict[str, Scalar]


class Transfer:
    """Collect the winners of finished cells, and offer their values to cells that begin."""

    def __init__(self, campaign: Campaign, folder: Path) -> None:
        """Read the offers that a campaign has made so far.

        Raises:
            StorageError: Their file is damaged.
        """
        self._on, self._file = campaign.transfer, folder / OFFERS
        self._finished: list[_Finished] = []
        self._offers = load_offers(self._file)

    def searched(self, run: CellRun) -> None:
        """Record the winner of a cell whose search is over."""
        if run.trials:
            best = winner(run.trials)
            self._take(run.cell, run.study, dict(best.params))

    def finished(self, cell: Cell, study: Study, result: Result) -> None:
        """Record the winner of a cell that an earlier run of the campaign finished."""
        trials = {trial.number: trial.params for trial in result.trials}
        if result.winner is not None:
            self._take(cell, study, dict(trials[result.winner]))

    def informed(self, run: CellRun) -> Study:
        """Return a cell's study with the offers of finished siblings, the same at every call."""
        if not self._on:
            return run.study
        name = run.study.name
        if name not in self._offers:
            offers = [Offer(study=f.study, params=f.params) for f in self._siblings(run.cell)]
            self._offers[name] = offers
            self._keep()
        return with_belief(run.study, self._offers[name])

    def as_begun(self, study: Study) -> Study:
        """Return a cell's study with its recorded offers, unchanged if the cell has not begun."""
        return with_belief(study, self._offers.get(study.name, ()))

    def offers(self, study: str) -> tuple[Offer, ...]:
        """Return the recorded offers of a cell, by the name of its study."""
        return tuple(self._offers.get(study, ()))

    def _take(self, cell: Cell, study: Study, params: dict[str, Scalar]) -> None:
        assert study.search is not None, "a campaign has a search"
        space = study.search.space
        names = tuple(space.params) if isinstance(space, SearchSpace) else ()
        flat = study.recipe(params).flat()
        values = {name: flat[name] for name in names}
        chosen = {name: value for name, value in values.items() if value is not None}
        self._finished.append(_Finished(cell, study.name, chosen))

    def _siblings(self, cell: Cell) -> list[_Finished]:
        """Return finished cells of the same regime and encoder; if none, regime and dataset."""
        same = [f for f in self._finished if f.cell.regime == cell.regime]
        for axis in ("encoder", "dataset"):
            siblings = [f for f in same if getattr(f.cell, axis) == getattr(cell, axis)]
            if siblings:
                return siblings
        return []

    def _keep(self) -> None:
        raw = {
            study: [offer.model_dump(mode="json") for offer in offers]
            for study, offers in self._offers.items()
        }
        folders.write(self._file, json.dumps(raw, indent=2) + "\n")


def with_belief(study: Study, offers: Sequence[Offer]) -> Study:
    """Return a study with its siblings' values as a search prior; its own prior comes first.

    Args:
        study: Study of the cell that begins.
        offers: Offers of the siblings; without one the study is unchanged.
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
    """Return center and spread of a parameter's prior from good values, within its range.

    On a logarithmic scale: the geometric mean, and the standard deviation as a factor, at least
    `SPREAD`. Else the mean, and the standard deviation, at least a sixth of the range.
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
