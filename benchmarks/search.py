"""Measure the cost of a search: the production rules against rivals, on recorded trainings.

    make bench-search                                    # every part
    python -m benchmarks.search --part rivals --write    # one of them

A simulated clock with two workers runs each way of searching over recorded learning curves, 200
times with different random draws; one seed gives every rival the same random learning rates. The
score is the test score of the winner at a cost, and a winner must be trained to full length: if the
leader is not, a full training is added to the cost.
Prints Markdown; `--write` puts each part into docs/search-benchmark.md and draws its figure. What has
been run is kept in `--kept`, so the same command resumes where it was cut short.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from . import report
from .calibrated_start import calibrated_start
from .ours import Ours, study_of
from .parts import Parts
from .problems import CURVES, GRID, OWN, ROOT, Bench, problems
from .rivals import (
    Full,
    OneEpoch,
    Pruned,
    RayStop,
    TpeFull,
    by_hand,
    dropping,
    even_stream,
    hyperband,
    sha,
    shuffled,
    stream,
)
from .simulate import Maker, Outcomes, Table
from .starts import aims, starts

KEPT = ROOT / "build" / "bench-search"
TRIALS = 32
UNCAPPED = 128  # trials: no variant runs out of them before the last cost of the grid
LENGTHS = (6, 9, 12, 16, 32)  # trials of searches that run to their own end
BUDGETS = (1.5, 2.0, 3.0, 4.0, 8.0)  # full trainings that a search may spend
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


FAIR: dict[str, Maker] = {
    OURS: RIVALS[OURS],
    "4 LRs by hand, ascending": lambda table, seed: dropping(Full(iter(by_hand(table)))),  # noqa: ARG005
    "4 LRs by hand, shuffled": lambda table, seed: dropping(Full(shuffled(table, seed))),
    "even, full": lambda table, seed: dropping(Full(even_stream(table, seed))),
    "1 epoch of 16 even, the best": lambda table, seed: dropping(
        OneEpoch(islice(even_stream(table, seed), 16))
    ),
    f"{RAY}, even": lambda table, seed: dropping(
        RayStop(even_stream(table, seed), epochs=table.epochs)
    ),
    "Optuna SuccessiveHalving, even": lambda table, seed: dropping(
        Pruned(even_stream(table, seed), sha(table.epochs), table=table, seed=seed)
    ),
    "Optuna Hyperband, even": lambda table, seed: dropping(
        Pruned(even_stream(table, seed), hyperband(table.epochs), table=table, seed=seed)
    ),
}
"""Rivals with what ours has: an even beginning, and no winner that diverges."""


def _ours(**search: Any) -> Maker:
    return lambda table, seed: Ours(study_of(table, seed, **{"trials": UNCAPPED, **search}))


def _asha(**rule: Any) -> Maker:
    return _ours(scheduler={"kind": "asha", "rule": "promote", **rule})


VARIANTS: dict[str, Maker] = {
    OURS: _ours(),
    "random LRs all along": _ours(sampler="random"),
    "reduction 2": _asha(reduction=2),
    "reduction 4": _asha(reduction=4),
    "grace 1": _asha(grace_epochs=1),
    "grace 2": _asha(grace_epochs=2),
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
        return Ours(study_of(table, seed, trials=UNCAPPED, prior={"center": center}))

    return make


PRIORS: dict[str, Maker] = {
    "no prior": _ours(),
    "prior right": _prior(0.0),
    "prior wrong by a factor of 100": _prior(2.0),
}


def rivals(bench: Bench) -> list[str]:
    """Compare with every rival as it comes; draw the figure."""
    lines: list[str] = []
    drawn: dict[str, Mapping[str, Outcomes]] = {}
    for problem in bench.problems:
        played = drawn[problem.name] = bench.play(problem, RIVALS, bench.seeds)
        lines += report.rivals(problem.name, len(problem.tables), played, GRID, OURS)
        lines += report.ratios(played, GRID, OURS, (RAY, RANDOM))
    if bench.figure is not None:
        report.figure(drawn, GRID, bench.figure)
    return lines


def fair(bench: Bench) -> list[str]:
    """Compare with rivals that begin evenly and drop leaders that diverge."""
    lines: list[str] = []
    pooled: list[dict[str, Outcomes]] = []
    most = max(len(problem.tables) for problem in bench.problems)
    for problem in bench.problems:
        played = bench.play(problem, FAIR, bench.seeds)
        title = f"{problem.name}, rivals with the even beginning"
        lines += report.rivals(title, len(problem.tables), played, GRID, OURS)
        lines += report.ratios(played, GRID, OURS, (f"{RAY}, even",))
        each = max(bench.seeds // most, 1)
        pooled.append({name: report.first(out, each) for name, out in played.items()})
    whole = {name: report.pooled([played[name] for played in pooled]) for name in FAIR}
    tables = sum(len(problem.tables) for problem in bench.problems)
    title = f"All {tables} tables, each with the same weight"
    return lines + report.paired(title, whole, GRID, OURS, costs=(2.0, 4.0, 8.0))


def frontier(bench: Bench) -> list[str]:
    """Run searches of several lengths and budgets to their own end."""
    seeds = bench.seeds // 2
    ways = {f"trials: {trials}": _ours(trials=trials) for trials in LENGTHS}
    ways |= {f"budget: {budget:g}": _ours(trials=None, budget=budget) for budget in BUDGETS}
    found = {
        name: {p.name: bench.ends(p, name, make, seeds) for p in bench.problems}
        for name, make in ways.items()
    }
    return [f"{seeds} searches of each problem in a cell.", "", *report.frontier(found)]


def variants(bench: Bench) -> list[str]:
    """Compare settings of our own search, priors and samplers."""
    lines: list[str] = []
    pair = {name: _ours(trials=16, sampler=name) for name in ("tpe", "gp")}
    for problem in bench.problems:
        for title, ways, share, base in (
            ("Variants", VARIANTS, 2, OURS),
            ("Priors", PRIORS, 2, "no prior"),
            ("Samplers", pair, 10, "tpe"),  # few short searches, since GP is slow
        ):
            named = {f"{title}: {name}": make for name, make in ways.items()}
            played = bench.play(problem, named, bench.seeds // share)
            shown = {name.partition(": ")[2]: out for name, out in played.items()}
            lines += report.paired(f"{title}: {problem.name}", shown, GRID, base)
    return lines


PARTS: dict[str, Callable[[Bench], list[str]]] = {
    "rivals": rivals,
    "fair": fair,
    "frontier": frontier,
    "calibrated": calibrated_start,
    "starts": starts,
    "aims": aims,
    "variants": variants,
}


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--curves", type=Path, default=CURVES, help="folder of lr_curves")
    parser.add_argument("--table", type=Path, default=OWN, help="our own recording")
    parser.add_argument("--seeds", type=int, default=200, help="searches of each way on a problem")
    parser.add_argument("--part", choices=PARTS, action="append", help="left out: every part")
    parser.add_argument("--kept", type=Path, default=KEPT, help="folder of what has been run")
    parser.add_argument("--write", action="store_true", help="into docs/search-benchmark.md")
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    bench = Bench(
        problems(asked.curves, asked.table),
        asked.seeds,
        Parts(asked.kept),
        ROOT / "docs" / "search-benchmark.png" if asked.write else None,
    )
    for name in asked.part or PARTS:
        lines = PARTS[name](bench)
        report.say(lines)
        if asked.write:
            report.into_page(lines, ROOT / "docs" / "search-benchmark.md", name)


if __name__ == "__main__":
    main()
