"""Start searches at known points, on every recording, with portfolios that have not seen it.

For each recording (length, window size, regime, labels) two portfolios are tried: lessons of all
recordings, without those of the task at hand; and lessons of the other recordings, without the task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import report
from .known import default, foreign, known, own_portfolio, wrong
from .ours import Ours, study_of
from .problems import GRID, OWN, Bench, Problem
from .rivals import Full, by_hand, dropping, shuffled
from .simulate import Maker, Outcomes, Table, lr_tables
from .untuned import Recorded, few_rates, untuned

AIM, WITHIN, UPPER = 1.5, 1.0, 3.0  # full trainings, and points: of the gap, of its upper end
DEARER = 1.25  # times the cost of the even start: what a wrong portfolio may cost
LAST = 8.0  # full trainings, up to which a known start is held to rates by hand
TRIALS = 32
RECORDINGS = {
    "27 epochs": OWN,
    "9 epochs": OWN.with_name("lr_table_9.npz"),
    "81 epochs": OWN.with_name("lr_table_81.npz"),
    "windows of 64": OWN.with_name("lr_table_64.npz"),
    "8 training scenes": OWN.with_name("lr_table_few.npz"),
    "frozen encoder": OWN.with_name("lr_table_frozen.npz"),
    "encoder without weights": OWN.with_name("lr_table_scratch.npz"),
    "constant rate": OWN.with_name("lr_table_constant.npz"),
}
"""What was recorded; all but the first change one thing of it."""
TEACH = tuple(what for what in RECORDINGS if what != "encoder without weights")
"""Recordings with lessons: a portfolio does not know whether its encoders had weights."""
OPTIMIZERS = OWN.with_name("lr_table_optimizers.npz")
SCHEDULE_FREE = OWN.with_name("lr_table_schedule_free.npz")
SCHEDULE_FREE_AT = {
    "9 epochs": OWN.with_name("lr_table_schedule_free_9.npz"),
    "81 epochs": OWN.with_name("lr_table_schedule_free_81.npz"),
}
FEW = (1, 2, 4)  # rates that are trained to full length
EVEN, TASK, BOTH = "even (today)", "known, the other tasks", "known, neither task nor setting seen"
SHIPPED = "known, the shipped portfolio without the task"
SHIPPED_DEFAULT = "one default of the shipped portfolio without the task, no search"
DEFAULT, FIXED = "one default of the other tasks, no search", "fixed LR 1e-4, no search"
ASCENDING, SHUFFLED = "4 LRs by hand, ascending", "4 LRs by hand, shuffled"
WRONG = "known, wrong by a factor of 100"

PLAIN: dict[str, Maker] = {
    EVEN: lambda table, seed: Ours(study_of(table, seed, trials=TRIALS)),
    ASCENDING: lambda table, seed: dropping(Full(iter(by_hand(table)))),  # noqa: ARG005
    SHUFFLED: lambda table, seed: dropping(Full(shuffled(table, seed))),
    FIXED: lambda table, seed: Full(iter([1e-4])),  # noqa: ARG005
}


class Played(NamedTuple):
    """The outcomes of all starts on one recording."""

    what: str
    tables: int
    ways: Mapping[str, Outcomes]


def played(bench: Bench) -> Iterator[Played]:
    """Yield the outcomes of every recording that is present, the main one first."""
    present = {what: file for what, file in RECORDINGS.items() if file.exists()}
    for what, file in present.items():
        tables = tuple(lr_tables(file))
        if not tables:
            continue
        problem = Problem(f"cryosphere, {what}", tables, tuple(present.values()))
        each = max(bench.seeds // 2 // len(tables), 1) * len(tables)
        ways = bench.play(problem, _ways(bench, what, present), each)
        if file == OWN:
            ways |= _without_search(tables, each // len(tables))
        elif what in SCHEDULE_FREE_AT:
            ways |= _rates_of_another_length(what, file, tables)
        yield Played(what, len(tables), ways)


def _ways(bench: Bench, what: str, present: Mapping[str, Path]) -> dict[str, Maker]:
    teaching = [file for name, file in present.items() if name in TEACH]
    others = [file for file in teaching if file != present[what]]
    every = own_portfolio(*teaching)
    shipped = own_portfolio(OWN)
    ways = {**PLAIN, SHIPPED_DEFAULT: default(shipped), DEFAULT: default(every)}
    ways |= {SHIPPED: known(shipped), TASK: known(every)}
    if others:
        ways[BOTH] = known(own_portfolio(*others))
    if present[what] == OWN:
        ways[WRONG] = wrong(own_portfolio(OWN))
        for other in bench.problems:
            if len(other.tables) == 1:
                ways[f"known, portfolio of {other.name}"] = known(foreign(other.tables[0]))
    return ways


def _without_search(tables: Sequence[Table], each: int) -> dict[str, Outcomes]:
    """Return what trainings are worth whose optimizer or rates are chosen beforehand."""
    if not OPTIMIZERS.exists():
        return {}
    found = untuned(OPTIMIZERS, tables, GRID, each)
    ways = {f"{name}, no search": out for name, out in found.items()}
    rates = {"adamw": Recorded.read(OWN)}
    if SCHEDULE_FREE.exists():
        own_value = Recorded.read(OPTIMIZERS).of("schedule-free")
        rates["schedule-free"] = Recorded.read(SCHEDULE_FREE).beside(own_value)
    for name, recorded in rates.items():
        for count in FEW:
            title = f"{name}, the {count} best rates of the other tasks"
            ways[title.replace("the 1 best rates", "the best rate")] = few_rates(
                recorded, tables, GRID, count
            )
    return ways


def _rates_of_another_length(what: str, file: Path, tables: Sequence[Table]) -> dict[str, Outcomes]:
    """Return what one training is worth at the rate that is best on the other tasks at 27 epochs."""
    recordings = {"adamw": (file, OWN), "schedule-free": (SCHEDULE_FREE_AT[what], SCHEDULE_FREE)}
    return {
        f"{name}, the best rate of the other tasks at 27 epochs": few_rates(
            Recorded.read(mine), tables, GRID, 1, lessons=Recorded.read(lessons)
        )
        for name, (mine, lessons) in recordings.items()
        if mine.exists()
    }


def starts(bench: Bench) -> list[str]:
    """Return a table of gaps at rising costs for each recording."""
    lines: list[str] = []
    for what, tables, ways in played(bench):
        title = f"cryosphere, {what}, {tables} tables"
        lines += report.against_aims(title, ways, GRID, AIM)
    return lines


def aims(bench: Bench) -> list[str]:
    """Return the aims that were set for a known start, each with what was measured."""
    rows: list[list[str]] = []
    for what, _, ways in played(bench):
        for name in (TASK, BOTH):
            if name in ways:
                rows += [is_near(f"{what}: {name}", ways[name])]
                rows += [beats_hand(f"{what}: {name}", ways, name)]
        rows += [
            is_cheap(f"{what}: {name}", ways, name)
            for name in ways
            if name == WRONG or "portfolio of" in name
        ]
    return [*report.table(["aim", "measured", "reached"], rows), ""]


def is_near(title: str, out: Outcomes) -> list[str]:
    """Return the row of the gap that is to be reached early."""
    aim = f"{title}: gap at most {WITHIN:g} at {AIM:g} trainings, upper end at most {UPPER:g}"
    column = out.gaps[:, GRID.index(AIM)]
    if np.isnan(column).any():
        return [aim, "not every search has a winner", "no"]
    gap, low, high = report.interval(column, out.tables)
    return [aim, f"{gap:.2f} [{low:.1f}, {high:.1f}]", _word(gap <= WITHIN and high <= UPPER)]


def beats_hand(title: str, ways: Mapping[str, Outcomes], name: str) -> list[str]:
    """Return the row of a comparison with rates by hand, in the better order at each cost."""
    aim = f"{title}: never worse than four by hand up to {LAST:g}"
    costs = [cost for cost in GRID if cost <= LAST]
    mine = report.means(ways[name].gaps)[: len(costs)]
    hand = np.fmin(*(report.means(ways[way].gaps)[: len(costs)] for way in (ASCENDING, SHUFFLED)))
    behind = np.where(np.isfinite(hand), mine - hand, -np.inf)
    worst = int(np.argmax(behind))
    if behind[worst] <= 0:
        return [aim, "ahead at every cost", "yes"]
    return [aim, f"behind by up to {behind[worst]:.2f}, at {costs[worst]:g}", "no"]


def is_cheap(title: str, ways: Mapping[str, Outcomes], name: str) -> list[str]:
    """Return the row of what a wrong portfolio costs."""
    aim = f"{title}: to 5 and to 2 points at most {100 * (DEARER - 1):.0f} % dearer than even"
    pairs = [
        (report.cost_to(ways[name].gaps, GRID, gap), report.cost_to(ways[EVEN].gaps, GRID, gap))
        for gap in (5.0, 2.0)
    ]
    told = ", ".join(f"{mine:g} in place of {even:g}" for mine, even in pairs)
    return [aim, told, _word(all(mine <= DEARER * even for mine, even in pairs))]


def _word(reached: bool) -> str:  # noqa: FBT001  a cell of the table
    return "yes" if reached else "no"
