"""Start searches at known points, with portfolios that have not seen the problem or its length."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryo_hpo.config import Study
from cryo_hpo.results.portfolio import Lesson, Portfolio
from cryo_hpo.search.calibrated import calibrated_start
from cryo_hpo.search.known_start import KnownStart
from cryo_hpo.search.learn import learn
from cryo_hpo.search.portfolio import RATE, alike, choose_start
from cryo_hpo.search.rungs import rungs_of

from .ours import Ours, study_of
from .rivals import Full, dropping
from .simulate import Floats, Maker, Table

TRIALS = 32
ENCODERS = ("unet", "galileo-nano")  # of our own recordings
FIXED = 1e-4
PARTS = 3  # problems that one table of another domain stands for


def known(portfolio: Portfolio) -> Maker:
    """Return searches that start from a portfolio without the lessons of the problem at hand."""

    def make(table: Table, seed: int) -> Ours:
        study, start = _start(portfolio, table, seed)
        return Ours(study, start=start)

    return make


def calibrated(portfolio: Portfolio, *, baseline: float = FIXED, **search: Any) -> Maker:
    """Return searches that start at the default of other tasks and go on: `start: calibrated`."""

    def make(table: Table, seed: int) -> Ours:
        study = _study(table, seed, baseline=baseline, **search)
        assert study.search is not None, "it has one"
        others = portfolio.without(problem=table.name.partition("/")[0])
        rungs = rungs_of(study.search, table.epochs)
        return Ours(study, start=calibrated_start(others, study, rungs))

    return make


def mistaken(portfolio: Portfolio) -> Maker:
    """Return such searches whose default is a hundred times too low for what the lessons promise of it."""

    def make(table: Table, seed: int) -> Ours:
        right = calibrated(portfolio)(table, seed)
        assert isinstance(right, Ours), "it is a search of ours"
        points = tuple({RATE: float(point[RATE]) / 100} for point in right.source.start.points)
        start = right.source.start.model_copy(update={"points": points})
        return Ours(_study(table, seed), start=start)

    return make


def default(portfolio: Portfolio) -> Maker:
    """Return one training at the mean of the best rates of other tasks: `baselines: calibrated`."""
    return lambda table, seed: Full(iter([default_rate(portfolio, table, seed) or FIXED]))


def around(portfolio: Portfolio, factors: Sequence[float]) -> Maker:
    """Return trainings at multiples of the default of other tasks, one after another; none without one."""

    def make(table: Table, seed: int) -> Full:
        rate = default_rate(portfolio, table, seed)
        rates = [] if rate is None else [min(max(rate * f, table.low), table.high) for f in factors]
        return dropping(Full(iter(rates)))

    return make


def default_rate(portfolio: Portfolio, table: Table, seed: int) -> float | None:
    """Return the mean of the best rates of other tasks; None: too few of them are alike."""
    others = portfolio.without(problem=table.name.partition("/")[0]).lessons
    lessons = alike(others, _study(table, seed), steps=None)
    return geometric_mean([float(lesson.best[RATE]) for lesson in lessons]) if lessons else None


def _study(table: Table, seed: int, **changes: Any) -> Study:
    study = study_of(table, seed, **{"trials": TRIALS, "baseline": FIXED, **changes})
    return _as_recorded(study, table.recipe)


def _start(portfolio: Portfolio, table: Table, seed: int) -> tuple[Study, KnownStart]:
    """Return a study of a table's problem, and where it starts by what others have taught."""
    task = table.name.partition("/")[0]
    study = _study(table, seed)
    assert study.search is not None, "it has one"
    start = choose_start(
        portfolio.without(problem=task),
        study,
        rungs_of(study.search, table.epochs),
        steps=table.recipe["steps_per_epoch"] * table.epochs,
    )
    return study, start


def own_portfolio(*tables: Path) -> Portfolio:
    """Return the lessons of our own recordings."""
    return learn(list(tables))


def shifted(portfolio: Portfolio, table: Table) -> Portfolio:
    """Return a portfolio whose rates are wrong by a factor of 100, where the range is wider."""
    middle = np.mean([math.log10(float(x.best[RATE])) for x in portfolio.lessons])
    up = math.log10(table.high) - middle > middle - math.log10(table.low)
    factor = 100.0 if up else 0.01
    return Portfolio(lessons=tuple(_moved(x, factor, table) for x in portfolio.lessons))


def _moved(lesson: Lesson, factor: float, table: Table) -> Lesson:
    """Return a lesson with other rates, those that stay inside a table's range."""
    response = [(factor * lr, early, end) for lr, early, end in lesson.response]
    kept = tuple(point for point in response if _inside(point[0], table) == point[0])
    best = {RATE: _inside(factor * float(lesson.best[RATE]), table)}
    return lesson.model_copy(update={"best": best, "response": kept})


def wrong(portfolio: Portfolio) -> Maker:
    """Return searches that start from a portfolio whose rates are wrong by a factor of 100."""
    return lambda table, seed: known(shifted(portfolio, table))(table, seed)


def foreign(other: Table) -> Portfolio:
    """Return what a table of another domain taught, for every encoder of our own recordings."""
    chance = np.random.default_rng(0)
    parts = np.array_split(chance.permutation(len(other.lr)), PARTS)
    lessons = [
        _lesson(f"{other.name} {number}", encoder, other, rows)
        for number, rows in enumerate(parts)
        for encoder in ENCODERS
    ]
    return Portfolio(lessons=tuple(lessons))


def _lesson(problem: str, encoder: str, table: Table, runs: NDArray[np.intp]) -> Lesson:
    val = np.nan_to_num(table.val[runs])
    best = float(table.lr[runs][val[:, -1].argmax()])
    near, fixed = (_nearest(table.lr[runs], lr) for lr in (best, FIXED))
    early = table.epochs // 9 - 1
    fields: dict[str, Any] = {
        "problem": problem,
        "encoder": encoder,
        "regime": "full",
        "schedule": "multistep",
        "loss": "ce",
        "epochs": table.epochs,
        "best": {RATE: best},
        "lead": float(val[near, early].mean() - val[fixed, early].mean()),
        "trainings": len(runs),
        "source": table.name,
    }
    return Lesson.model_validate_json(json.dumps(fields))


def _nearest(lr: Floats, rate: float, count: int = 4) -> NDArray[np.intp]:
    nearest: NDArray[np.intp] = np.argsort(np.abs(np.log(lr / rate)), kind="stable")[:count]
    return nearest


def _inside(rate: float, table: Table) -> float:
    """Return a rate whose neighbors, half a decade away, are inside a table's range too."""
    return min(max(rate, table.low * 4), table.high / 4)


def _as_recorded(study: Study, recipe: Mapping[str, Any]) -> Study:
    """Return a study of the encoder, regime, schedule and loss with which a table was recorded."""
    raw = json.loads(study.model_dump_json())
    raw["base"]["model"] |= {"encoder": recipe["encoder"], "tune": recipe["tune"]}
    raw["base"]["optim"]["schedule"], raw["base"]["loss"]["name"] = (
        recipe["schedule"],
        recipe["loss"],
    )
    return Study.model_validate_json(json.dumps(raw))
