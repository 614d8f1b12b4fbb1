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
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna

from . import report
from .known import default, foreign, known, own_portfolio, wrong
from .ours import Ours, study_of
from .parts import Parts
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
from .simulate import Maker, Outcomes, Table, alexnet, deberta, ends, lr_tables, outcomes
from .untuned import untuned

ROOT = Path(__file__).parents[1]
OWN = ROOT / "benchmarks" / "data" / "lr_table.npz"
SHORT = OWN.with_name("lr_table_9.npz")  # the same tasks, a third as long
OPTIMIZERS = OWN.with_name("lr_table_optimizers.npz")  # the same tasks, other optimizers
CURVES = ROOT.parent / "shared" / "data" / "lr_curves"
KEPT = ROOT / "build" / "bench-search"
GRID = tuple(q / 4 for q in range(2, 41))  # costs, in full trainings
TRIALS = 32
UNCAPPED = 128  # trials: no variant runs out of them before the last cost of the grid
LENGTHS = (6, 9, 12, 16, 32)  # trials of searches that run to their own end
AIM = 1.5  # full trainings, at which a start at known points is to be within 1 point
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


class Problem(NamedTuple):
    """Tables whose searches are pooled."""

    name: str
    tables: tuple[Table, ...]

    def outcomes(self, make: Maker, seeds: int) -> Outcomes:
        """Run `seeds` searches in all, the same number on each table."""
        each = range(max(seeds // len(self.tables), 1))
        found = [outcomes(make, t, each, [round(c * t.epochs) for c in GRID]) for t in self.tables]
        return Outcomes(
            np.concatenate([o.gaps for o in found]),
            np.concatenate([o.diverging for o in found]),
            len(self.tables),
        )

    def ends(self, make: Maker, seeds: int) -> list[tuple[float, float]]:
        """Return cost and gap of `seeds` searches in all that run to their own end."""
        each = range(max(seeds // len(self.tables), 1))
        return [(e.cost, e.gap) for table in self.tables for e in ends(make, table, each)]


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
                f"{problem.name} {name}", seeds, partial(problem.outcomes, make, seeds)
            )
            for name, make in ways.items()
        }


def problems(curves: Path, own: Path) -> list[Problem]:
    """Return every recording that is present."""
    found = []
    if own.exists():
        found.append(Problem("cryosphere", tuple(lr_tables(own))))
    if curves.is_dir():
        found.append(Problem("deberta-base", (deberta(curves / "deberta-base.npz"),)))
        found.append(Problem("alexnet", (alexnet(curves / "alexnet.npz"),)))
    return found


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
    for problem in bench.problems:
        played = bench.play(problem, FAIR, bench.seeds)
        title = f"{problem.name}, rivals with the even beginning"
        lines += report.rivals(title, len(problem.tables), played, GRID, OURS)
        lines += report.ratios(played, GRID, OURS, (f"{RAY}, even",))
    return lines


def frontier(bench: Bench) -> list[str]:
    """Run searches of several lengths to their own end."""
    found = {
        trials: {p.name: p.ends(_ours(trials=trials), bench.seeds // 2) for p in bench.problems}
        for trials in LENGTHS
    }
    return [f"{bench.seeds // 2} searches of each problem in a cell.", "", *report.frontier(found)]


def variants(bench: Bench) -> list[str]:
    """Compare settings of our own search, priors and samplers."""
    lines: list[str] = []
    pair = {name: _ours(trials=16, sampler=name) for name in ("tpe", "gp")}
    for problem in bench.problems:
        for title, ways, share, base in (
            ("Variants", VARIANTS, 5, OURS),
            ("Priors", PRIORS, 3, "no prior"),
            ("Samplers", pair, 13, "tpe"),  # few short searches, since GP is slow
        ):
            named = {f"{title}: {name}": make for name, make in ways.items()}
            played = bench.play(problem, named, bench.seeds // share)
            shown = {name.partition(": ")[2]: out for name, out in played.items()}
            lines += report.paired(f"{title}: {problem.name}", shown, GRID, base)
    return lines


def starts(bench: Bench) -> list[str]:
    """Start at known points, with portfolios that have seen neither task nor length, and wrong ones."""
    lines: list[str] = []
    own = {27: OWN, 9: SHORT}
    for epochs, file in own.items():
        if not file.exists():
            continue
        tables = tuple(lr_tables(file))
        problem = Problem(f"cryosphere, {epochs} epochs", tables)
        ways = {
            "even (today)": RIVALS[OURS],
            "4 LRs by hand, ascending": FAIR["4 LRs by hand, ascending"],
            "4 LRs by hand, shuffled": FAIR["4 LRs by hand, shuffled"],
            "fixed LR 1e-4, no search": RIVALS["fixed LR 1e-4"],
            "one default of the other tasks, no search": default(own_portfolio(file)),
            "known, the other tasks": known(own_portfolio(file)),
        }
        others = [path for length, path in own.items() if length != epochs and path.exists()]
        if others:
            ways["known, the other tasks at the other length"] = known(own_portfolio(*others))
        if epochs == 27:
            ways["known, wrong by a factor of 100"] = wrong(own_portfolio(file))
            for other in bench.problems:
                if len(other.tables) == 1:
                    ways[f"known, portfolio of {other.name}"] = known(foreign(other.tables[0]))
        played = bench.play(problem, ways, bench.seeds)
        if epochs == 27 and OPTIMIZERS.exists():
            each = max(bench.seeds // len(tables), 1)
            others_played = untuned(OPTIMIZERS, tables, GRID, each)
            played |= {f"{name}, no search": out for name, out in others_played.items()}
        lines += report.against_aims(f"{problem.name}, {len(tables)} tables", played, GRID, AIM)
    return lines


PARTS: dict[str, Callable[[Bench], list[str]]] = {
    "rivals": rivals,
    "fair": fair,
    "frontier": frontier,
    "starts": starts,
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
    recordings = (asked.table, SHORT, *sorted(asked.curves.glob("*.npz")))
    bench = Bench(
        problems(asked.curves, asked.table),
        asked.seeds,
        Parts(asked.kept, recordings),
        ROOT / "docs" / "search-benchmark.png" if asked.write else None,
    )
    for name in asked.part or PARTS:
        lines = PARTS[name](bench)
        report.say(lines)
        if asked.write:
            report.into_page(lines, ROOT / "docs" / "search-benchmark.md", name)


if __name__ == "__main__":
    main()
