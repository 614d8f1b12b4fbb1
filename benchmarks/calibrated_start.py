"""Start searches at a calibrated default, on every recording, and pair them with the even start and with rivals.

The portfolio is the shipped one without the task at hand: what it taught was recorded at 27 epochs. The start
was chosen on that recording; the others are its test. All recordings share five datasets, so the
interval over them draws datasets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import report
from .known import around, calibrated, default, mistaken, own_portfolio, shifted
from .ours import Ours, study_of
from .problems import GRID, OWN, Bench, Problem
from .rivals import Full, RayStop, dropping, even_stream, shuffled
from .simulate import Maker, Outcomes, lr_tables
from .starts import RECORDINGS, TRIALS

SHIPPED = own_portfolio(OWN)
EVEN, START = "even", "**calibrated**"
DOWN, UP = "4 LRs around the default (1, 1/4, 4, 1/16)", "4 LRs around the default (1, 4, 1/4, 16)"
HAND, RAY, ALONE = "4 LRs by hand, shuffled", "Ray AsyncHyperBand, even", "the default alone, 1"


def even(**search: Any) -> Maker:
    """Return searches that start evenly."""
    return lambda table, seed: Ours(study_of(table, seed, **{"trials": TRIALS, **search}))


WAYS: dict[str, Maker] = {
    EVEN: even(),
    START: calibrated(SHIPPED),
    ALONE: default(SHIPPED),
    HAND: lambda table, seed: dropping(Full(shuffled(table, seed))),
    DOWN: around(SHIPPED, (1, 1 / 4, 4, 1 / 16)),
    UP: around(SHIPPED, (1, 4, 1 / 4, 16)),
    RAY: lambda table, seed: dropping(
        RayStop(even_stream(table, seed), epochs=table.epochs),
    ),
}
OTHERS: dict[str, Maker] = {
    "portfolio wrong by a factor of 100": lambda table, seed: calibrated(shifted(SHIPPED, table))(
        table, seed
    ),
    "portfolio right elsewhere, its default a hundred times too low here": mistaken(SHIPPED),
}
for _rate in (1e-3, 1e-2):
    OTHERS[f"even, fixed rate {_rate:g}"] = even(baseline=_rate)
    OTHERS[f"calibrated, fixed rate {_rate:g}"] = calibrated(SHIPPED, baseline=_rate)
"""Ways that are tried at 27 epochs alone: a wrong portfolio, and other rates of the baseline."""
DATASETS = 5  # of all recordings
COSTS = (1.5, 2.0, 4.0, 8.0)
PAIRED = ((EVEN, 2.0), (EVEN, 4.0), (EVEN, 8.0), (HAND, 4.0), (DOWN, 4.0), (UP, 4.0), (RAY, 4.0))
REFUSED = "frozen encoder"  # the shipped portfolio has no lesson of this regime
LENGTHS: tuple[dict[str, float], ...] = tuple({"trials": trials} for trials in (8, 12, 16))
BUDGETS: tuple[dict[str, float], ...] = tuple(
    {"budget": budget} for budget in (2.25, 3.25, 4.0, 8.0)
)


def calibrated_start(bench: Bench) -> list[str]:
    """Return the gaps of every way on every recording, and what the start gains in pairs."""
    played = {what: _played(bench, what) for what in RECORDINGS}
    rows = [
        [what, name, *(_gap(out, cost) for cost in COSTS)]
        for what, ways in played.items()
        for name, out in ways.items()
        if what != REFUSED or name in (EVEN, HAND, RAY)
    ]
    titles = ["recording", "search", *(f"gap at {cost:g}" for cost in COSTS)]
    return [*report.table(titles, rows), "", *_pairs(played), *_ends(bench)]


def _played(bench: Bench, what: str) -> dict[str, Outcomes]:
    problem, seeds = _problem(bench, what)
    ways = {**WAYS, **OTHERS} if RECORDINGS[what] == OWN else WAYS
    named = {f"calibrated start: {name}": make for name, make in ways.items()}
    outs = bench.play(problem, named, seeds)
    return dict(zip(ways, outs.values(), strict=True))


def _problem(bench: Bench, what: str) -> tuple[Problem, int]:
    tables = tuple(lr_tables(RECORDINGS[what]))
    seeds = max(bench.seeds // 2 // len(tables), 1) * len(tables)
    return Problem(f"cryosphere, {what}", tables, (RECORDINGS[what], OWN)), seeds


def _pairs(played: Mapping[str, Mapping[str, Outcomes]]) -> list[str]:
    rows = [
        [what, *(_less(ways[START], ways[other], cost) for other, cost in PAIRED)]
        for what, ways in played.items()
        if what != REFUSED
    ]
    tests = [ways for what, ways in played.items() if RECORDINGS[what] != OWN]
    applies = [ways for what, ways in played.items() if RECORDINGS[what] != OWN and what != REFUSED]
    for title, settings in (
        ("**the seven others**, over datasets", tests),
        ("the six of them to which the portfolio applies", applies),
    ):
        whole = {way: by_dataset([ways[way] for ways in settings]) for way in WAYS}
        rows.append([title, *(_less(whole[START], whole[other], cost) for other, cost in PAIRED)])
    titles = ["calibrated minus", *(f"{other} at {cost:g}" for other, cost in PAIRED)]
    return [*report.table(titles, rows), ""]


def by_dataset(outs: Sequence[Outcomes], datasets: int = DATASETS) -> Outcomes:
    """Return the searches of several recordings of the same datasets, those of a dataset together."""
    gaps, lost = (
        np.concatenate([x.reshape(datasets, -1, x.shape[1]) for x in parts], axis=1)
        for parts in ([out.gaps for out in outs], [out.diverging for out in outs])
    )
    flat = (-1, gaps.shape[2])
    return Outcomes(gaps.reshape(flat), lost.reshape(flat), datasets)


def _ends(bench: Bench) -> list[str]:
    """Return the cost and gap of searches that run to their own end, on all recordings but the first."""
    settings = [what for what in RECORDINGS if RECORDINGS[what] != OWN and what != REFUSED]
    rows = []
    for length in (*LENGTHS, *BUDGETS):
        (key, size), *_ = length.items()
        search: dict[str, Any] = {"trials": None, **length}
        makes: dict[str, Maker] = {
            "even": even(**search),
            "calibrated": calibrated(SHIPPED, **search),
        }
        ends = {
            name: by_dataset(
                [_end(bench, what, f"{name} {key} {size:g}", make) for what in settings]
            )
            for name, make in makes.items()
        }
        cells = [
            f"{out.gaps[:, 0].mean():.2f} / {out.gaps[:, 1].mean():.2f}" for out in ends.values()
        ]
        mine, other = (ends[name].gaps[:, 1] for name in ("calibrated", "even"))
        less = report.difference(mine, other, tables=DATASETS)
        rows.append([f"`{key}: {size:g}`", *cells, "{:+.2f} [{:+.2f}, {:+.2f}]".format(*less)])
    titles = ["setting", "even: cost / gap", "calibrated: cost / gap", "gap, calibrated minus even"]
    return [*report.table(titles, rows), ""]


def _end(bench: Bench, what: str, way: str, make: Maker) -> Outcomes:
    problem, seeds = _problem(bench, what)
    return bench.ends(problem, f"calibrated start: {way}", make, seeds)


def _gap(out: Outcomes, cost: float) -> str:
    gap = report.means(out.gaps)[GRID.index(cost)]
    return f"{gap:.2f}" if np.isfinite(gap) else "-"


def _less(mine: Outcomes, other: Outcomes, cost: float) -> str:
    """Return a paired difference of gaps with its interval; "-" where a search has no winner."""
    column = GRID.index(cost)
    less = report.difference(mine.gaps[:, column], other.gaps[:, column], tables=mine.tables)
    return "{:+.2f} [{:+.2f}, {:+.2f}]".format(*less) if less[0] == less[0] else "-"
