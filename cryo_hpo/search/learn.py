"""Learn the lessons of a portfolio from finished studies and from recorded tables."""

# E encoders, L learning rates, N epochs, S seeds, T tasks

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Recipe
from ..config.optim import ADAMW
from ..config.space import Scalar
from ..errors import SpecError
from ..results.portfolio import Lesson, Portfolio
from ..results.study import NAME, Result, TrialResult, load_result
from .portfolio import RATE
from .source import BASELINE

FIXED = 1e-4  # the learning rate that stands for the baseline in a table
EARLY = 9  # the share of a training after which known points are held to the baseline
LEAST_RATES = 8  # of a table's grid, from which a best one can be chosen


def learn(sources: Iterator[Path] | list[Path]) -> Portfolio:
    """Return the lessons of finished studies and of recorded tables.

    Args:
        sources: `result.json` files, folders that hold one, or `.npz` tables.

    Raises:
        CryoError: A source is neither, or has nothing to teach; the message gives the remedy.
    """
    return Portfolio(lessons=tuple(lesson for path in sources for lesson in _lessons(path)))


def _lessons(path: Path) -> Iterator[Lesson]:
    if path.suffix == ".npz":
        yield from _of_table(path)
    else:
        yield _of_result(load_result(path), path / NAME if path.is_dir() else path)


def _recipe(raw: object, file: Path) -> Recipe:
    """Read a recipe of a result.

    Raises:
        SpecError: It is none, or of another version.
    """
    try:
        return Recipe.model_validate_json(json.dumps(raw))
    except ValueError as error:
        _, place, problem = (*str(error).splitlines(), "", "")[:3]  # as pydantic writes them
        message = (
            f"'{file}' holds a recipe that this version of cryo_hpo does not read: {place}: "
            f"{problem.partition(' [')[0].strip()}. Leave it out, or restore the file."
        )
        raise SpecError(message) from error


def _of_result(result: Result, file: Path) -> Lesson:
    """Return what a finished study taught: the values of its winner."""
    if result.winner is None:
        message = f"Study '{result.study}' had no search, so it taught no best values. Leave '{file}' out."
        raise SpecError(message)
    base, best = _recipe(result.spec.get("base"), file), _recipe(result.best_recipe, file).flat()
    trials = {trial.number: trial for trial in result.trials}
    if not {result.winner, BASELINE} <= trials.keys():
        message = f"'{file}' lacks the trial that won, or the baseline. Leave it out, or restore the file."
        raise SpecError(message)
    names = dict.fromkeys((RATE, *(n for trial in result.trials for n in trial.params)))
    values: dict[str, Scalar] = {n: v for n in names if (v := best.get(n)) is not None}
    return Lesson(
        problem=result.dataset,
        encoder=base.model.encoder,
        regime=base.model.tune,
        optimizer=base.optim.name,
        schedule=base.optim.schedule,
        loss=base.loss.name,
        epochs=base.epochs,
        best=values,
        lead=_lead(trials[result.winner], trials[BASELINE], base.epochs),
        trainings=len(trials),
        source=_provenance(file, of=result.study),
    )


def _lead(best: TrialResult, baseline: TrialResult, epochs: int) -> float | None:
    early = max(round(epochs / EARLY), 1)
    if not (early in best.curve and early in baseline.curve):
        return None
    return round(best.curve[early] - baseline.curve[early], 4)


def _of_table(path: Path) -> Iterator[Lesson]:
    """Yield a lesson for each task and encoder of a recorded table (benchmarks/data/README.md)."""
    try:
        with np.load(path) as file:
            table = {name: file[name] for name in file.files}
        recipes = [json.loads(str(recipe)) for recipe in table["recipes"]]
        places = [(t, e) for t in range(len(table["tasks"])) for e in range(len(recipes))]
    except (OSError, ValueError, KeyError) as error:
        message = (
            f"'{path}' is no recorded table ({error}). Record one: benchmarks/record_lr_table.py."
        )
        raise SpecError(message) from error
    for t, e in places:
        rates = table["trained"][t, e].any(axis=1)
        if rates.sum() >= LEAST_RATES:
            grid = {"lr": table["lr"][rates], "val": table["val"][t, e][rates]}
            yield _of_grid(grid, str(table["tasks"][t]), recipes[e], _provenance(path))


def _of_grid(
    grid: Mapping[str, NDArray[np.float64]], problem: str, recipe: Mapping[str, Any], source: str
) -> Lesson:
    """Return what a grid of learning rates taught: the one with the best mean validation score."""
    lr_L = grid["lr"].astype(float)
    rates_S = (~np.isnan(grid["val"][:, :, 0])).sum(axis=0)
    val_LSN = grid["val"][:, rates_S == rates_S.max()].astype(float)  # a seed cut short misleads
    best_LSN = np.fmax.accumulate(np.nan_to_num(val_LSN), axis=2)
    epochs = val_LSN.shape[2]
    early = max(round(epochs / EARLY), 1) - 1
    best = int(best_LSN[:, :, -1].mean(axis=1).argmax())
    fixed = int(np.abs(np.log(lr_L / FIXED)).argmin())
    early_L = best_LSN[:, :, early].mean(axis=1)
    ends_L = best_LSN[:, :, -1].mean(axis=1)
    return Lesson(
        problem=problem,
        encoder=recipe["encoder"],
        regime=recipe["tune"],
        optimizer=recipe.get("optimizer", ADAMW),  # tables of earlier versions have none
        schedule=recipe["schedule"],
        loss=recipe["loss"],
        epochs=epochs,
        steps=epochs * recipe["steps_per_epoch"],
        best={RATE: float(f"{lr_L[best]:.6g}")},
        response=tuple(
            (float(f"{lr:.6g}"), round(float(score), 4), round(float(end), 4))
            for lr, score, end in zip(lr_L, early_L, ends_L, strict=True)
        ),
        lead=round(float(early_L[best] - early_L[fixed]), 4),
        trainings=math.prod(val_LSN.shape[:2]),
        source=source,
    )


def _provenance(file: Path, *, of: str = "") -> str:
    """Return a file's name, the study that it is of, and the first letters of its hash."""
    name = f"{file.name} of {of}" if of else file.name
    return f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"
