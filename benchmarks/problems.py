"""Define the problems of the search benchmark: recorded trainings on which searches are replayed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .parts import Parts
from .simulate import Maker, Outcomes, Table, alexnet, deberta, ends, lr_tables, outcomes

ROOT = Path(__file__).parents[1]
OWN = ROOT / "benchmarks" / "data" / "lr_table.npz"
CURVES = ROOT.parent / "shared" / "data" / "lr_curves"
GRID = tuple(q / 4 for q in range(2, 41))  # costs, in full trainings


class Problem(NamedTuple):
    """Tables whose searches are pooled, and the recordings that decide their outcomes."""

    name: str
    tables: tuple[Table, ...]
    files: tuple[Path, ...]

    def outcomes(self, make: Maker, seeds: int) -> Outcomes:
        """Run `seeds` searches in all, the same number on each table."""
        each = range(max(seeds // len(self.tables), 1))
        found = [outcomes(make, t, each, [round(c * t.epochs) for c in GRID]) for t in self.tables]
        return Outcomes(
            np.concatenate([o.gaps for o in found]),
            np.concatenate([o.diverging for o in found]),
            len(self.tables),
        )

    def ends(self, make: Maker, seeds: int) -> Outcomes:
        """Run `seeds` searches in all to their own end: as outcomes with cost and gap in two columns."""
        each = range(max(seeds // len(self.tables), 1))
        pairs = np.array([e for table in self.tables for e in ends(make, table, each)])
        return Outcomes(pairs, np.zeros(pairs.shape, bool), len(self.tables))


class Bench(NamedTuple):
    """What the parts of the benchmark share: problems, number of searches, kept outcomes."""

    problems: list[Problem]
    seeds: int
    parts: Parts
    figure: Path | None = None

    def play(self, problem: Problem, ways: Mapping[str, Maker], seeds: int) -> dict[str, Outcomes]:
        """Run ways of searching on a problem, or read what has been run."""
        return {
            name: self.parts.outcomes(
                f"{problem.name} {name}",
                seeds,
                partial(problem.outcomes, make, seeds),
                problem.files,
            )
            for name, make in ways.items()
        }

    def ends(self, problem: Problem, way: str, make: Maker, seeds: int) -> Outcomes:
        """Run searches to their own end, or read what has been run."""
        name = f"{problem.name} ends {way}"
        return self.parts.outcomes(name, seeds, partial(problem.ends, make, seeds), problem.files)


def problems(curves: Path, own: Path) -> list[Problem]:
    """Return every recording that is present."""
    found = []
    if own.exists():
        found.append(Problem("cryosphere", tuple(lr_tables(own)), (own,)))
    for name, read in (("deberta-base", deberta), ("alexnet", alexnet)):
        file = curves / f"{name}.npz"
        if file.exists():
            found.append(Problem(name, (read(file),), (file,)))
    return found
