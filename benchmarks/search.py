"""Measure the cost of a search: the production rules against rivals, on recorded trainings.

    make bench-search

A simulated clock with two workers runs each way of searching over recorded learning curves, 200
times with different random draws; one seed gives every rival the same random learning rates. The
score is the test score of the winner at a cost, and a winner must be trained to full length: if the
leader is not, a full training is added to the cost.
Prints Markdown; `--write` puts it into docs/search-benchmark.md and draws its figure.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna

from . import report
from .ours import Ours, study_of
from .rivals import (
    Full,
    OneEpoch,
    Pruned,
    RayStop,
    TpeFull,
    by_hand,
    hyperband,
    sha,
    stream,
)
from .simulate import Maker, Outcomes, Table, alexnet, deberta, lr_tables, outcomes

ROOT = Path(__file__).parents[1]
OWN = ROOT / "benchmarks" / "data" / "lr_table.npz"
CURVES = ROOT.parent / "shared" / "data" / "lr_curves"
GRID = tuple(q / 4 for q in range(2, 41))  # costs, in full trainings
TRIALS = 32
OURS, RAY, RANDOM = "promote (ours)", "Ray AsyncHyperBand", "random, full"

RIVALS: dict[str, Maker] = {
    OURS: lambda table, seed: Ours(study_of(table, seed, trials=TRIALS)),
    "fixed LR 1e-4": lambda table, seed: Full(iter([1e-4])),  # noqa: ARG005
    "4 LRs by hand, full": lambda table, seed: Full(iter(by_hand(table))),  # noqa: ARG005
    RANDOM: lambda table, seed: Full(stream(table, seed)),
    "TPE, full": TpeFull,
    "1 epoch of 16, the best": lambda table, seed: OneEpoch(islice(stream(table, seed), 16)),
    RAY: lambda table, seed: RayStop(stream(table, seed), epochs=table.epochs),
    "Optuna SuccessiveHalving": lambda table, seed: Pruned(
        stream(table, seed), sha(table.epochs), table=table, seed=seed
    ),
    "Optuna Hyperband": lambda table, seed: Pruned(
        stream(table, seed), hyperband(table.epochs), table=table, seed=seed
    ),
}


def _ours(**search: Any) -> Maker:
    return lambda table, seed: Ours(study_of(table, seed, **{"trials": TRIALS, **search}))


def _asha(**rule: Any) -> Maker:
    return _ours(scheduler={"kind": "asha", "rule": "promote", **rule})


VARIANTS: dict[str, Maker] = {
    OURS: RIVALS[OURS],
    "random LRs all along": _ours(sampler="random"),
    "12 trials": _ours(trials=12),
    "64 trials": _ours(trials=64),
    "reduction 2": _asha(reduction=2),
    "reduction 4": _asha(reduction=4),
    "grace 1": _asha(grace_epochs=1),
    "grace 9": _asha(grace_epochs=9),
}


def best_lr(table: Table) -> float:
    """Return the learning rate of a table's best test scores, as another study could find it."""
    top = np.argsort(-table.test)[: max(len(table.test) // 50, 1)]
    return float(np.exp(np.median(np.log(table.lr[top]))))


def _prior(shift: float) -> Maker:
    """Center a prior a factor of 10^shift away from the best rate, where the range is wider."""

    def make(table: Table, seed: int) -> Ours:
        best = best_lr(table)
        up = np.log(table.high / best) > np.log(best / table.low)
        center = best * 10 ** (shift if up else -shift)
        center = float(np.clip(center, table.low, table.high))
        return Ours(study_of(table, seed, trials=TRIALS, prior={"center": center}))

    return make


PRIORS: dict[str, Maker] = {
    "no prior": RIVALS[OURS],
    "prior right": _prior(0.0),
    "prior wrong by a factor of 100": _prior(2.0),
}


class Problem(NamedTuple):
    """Tables whose searches are pooled."""

    name: str
    tables: tuple[Table, ...]

    def outcomes(self, make: Maker, seeds: int) -> Outcomes:
        """Run `seeds` searches in all, the same number on each table."""
        each = range(max(seeds // len(self.tables), 1))
        found = [outcomes(make, t, each, [round(c * t.epochs) for c in GRID]) for t in self.tables]
        return Outcomes(
            np.concatenate([o.gaps for o in found]), np.concatenate([o.diverging for o in found])
        )


def problems(curves: Path, own: Path) -> list[Problem]:
    """Return every recording that is present."""
    found = []
    if own.exists():
        found.append(Problem("cryosphere", tuple(lr_tables(own))))
    if curves.is_dir():
        found.append(Problem("deberta-base", (deberta(curves / "deberta-base.npz"),)))
        found.append(Problem("alexnet", (alexnet(curves / "alexnet.npz"),)))
    return found


def samplers(problem: Problem, seeds: int) -> Mapping[str, Outcomes]:
    """Run TPE and GP from the same initial points; few short searches, since GP is slow."""
    pair = {name: _ours(trials=16, sampler=name) for name in ("tpe", "gp")}
    return {name: problem.outcomes(make, seeds) for name, make in pair.items()}


def sections(found: list[Problem], seeds: int, *, figure: Path | None) -> list[str]:
    """Run all searches; return the page's tables, and draw the figure if a path is given."""
    lines: list[str] = []
    drawn: dict[str, Mapping[str, Outcomes]] = {}
    for problem in found:
        played = {name: problem.outcomes(make, seeds) for name, make in RIVALS.items()}
        drawn[problem.name] = played
        lines += report.rivals(problem.name, len(problem.tables), played, GRID, OURS)
        lines += report.ratios(played, GRID, OURS, (RAY, RANDOM))
    for problem in found:
        variants = {name: problem.outcomes(make, seeds // 5) for name, make in VARIANTS.items()}
        lines += report.paired(f"Variants: {problem.name}", variants, GRID, OURS)
        priors = {name: problem.outcomes(make, seeds // 3) for name, make in PRIORS.items()}
        lines += report.paired(f"Priors: {problem.name}", priors, GRID, "no prior")
        lines += report.paired(
            f"Samplers: {problem.name}", samplers(problem, seeds // 13), GRID, "tpe"
        )

    if figure is not None:
        report.figure(drawn, GRID, figure)
    return lines


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--curves", type=Path, default=CURVES, help="folder of lr_curves")
    parser.add_argument("--table", type=Path, default=OWN, help="our own recording")
    parser.add_argument("--seeds", type=int, default=200, help="searches of each way on a problem")
    parser.add_argument("--write", action="store_true", help="into docs/search-benchmark.md")
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    figure = ROOT / "docs" / "search-benchmark.png" if asked.write else None
    lines = sections(problems(asked.curves, asked.table), asked.seeds, figure=figure)
    report.say(lines)
    if asked.write:
        report.into_page(lines, ROOT / "docs" / "search-benchmark.md")


if __name__ == "__main__":
    main()
