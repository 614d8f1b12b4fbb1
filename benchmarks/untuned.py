"""Score trainings without a search: optimizers at their own values, and rates known from other tasks."""

# T tasks, E encoders, L learning rates or optimizers, S seeds, N epochs; P tables

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .simulate import Floats, Outcomes, Table

WHOLE = 1.0  # full trainings, from which there is a winner: the only one


def untuned(
    path: Path, tables: Sequence[Table], grid: Sequence[float], searches: int
) -> dict[str, Outcomes]:
    """Return what one training with each recorded optimizer is worth on every table.

    An optimizer that was not recorded on all of the tables has no row.

    Args:
        path: The recording, whose axis of learning rates is one of optimizers.
        tables: Tables of the same tasks and encoders, whose references gaps are measured from.
        grid: Costs, in full trainings.
        searches: Rows of the outcomes of each table, so that they pair with those of searches.
    """
    recorded = Recorded.read(path)
    found = {}
    for number, name in enumerate(recorded.optimizers):
        tests = recorded.test_PLS[:, number]
        scores = dict(zip(recorded.places, _means(tests), strict=True))
        if all(np.isfinite(scores.get(table.name, np.nan)) for table in tables):
            gaps = [100 * (table.reference - scores[table.name]) for table in tables]
            rows = np.repeat(np.array(gaps)[:, None], searches, axis=0)
            found[name] = _from(WHOLE, rows, grid, len(tables))
    return found


def few_rates(
    recorded: Recorded,
    tables: Sequence[Table],
    grid: Sequence[float],
    count: int,
    *,
    lessons: Recorded | None = None,
) -> Outcomes:
    """Return what the rates that do best on the other tasks are worth, `count` of them trained.

    They are those of which the better one, by validation, has the best mean over the other tasks
    with the same encoder. A row is a seed: the rate with the best score on it wins, and counts with
    its mean test score over the seeds.

    Args:
        recorded: Trainings of one optimizer over rates.
        tables: Tables of the same tasks and encoders, whose references gaps are measured from.
        grid: Costs, in full trainings.
        count: Number of rates, each of which costs a training.
        lessons: Trainings that choose the rates, of the same optimizer in another setting; None: the
            recorded ones.
    """
    chosen_by = recorded if lessons is None else lessons.at(recorded.lr)
    rows = []
    for table in tables:
        place = recorded.places.index(table.name)
        there = chosen_by.places.index(table.name)
        rates = [recorded.rate(chosen_by.lr[i]) for i in _best_elsewhere(chosen_by, there, count)]
        val_LS = recorded.val_PLS[place, rates]
        test_L = _means(recorded.test_PLS[place, rates])
        best_S = np.argmax(val_LS[:, ~np.isnan(val_LS).any(axis=0)], axis=0)
        rows.append(100 * (table.reference - np.resize(test_L[best_S], _seeds(recorded))))
    return _from(count, np.concatenate(rows)[:, None], grid, len(tables))


class Recorded(NamedTuple):
    """Hold the end of every recorded training: best validation score, and test score there.

    Attributes:
        places: Names of the tables, as task/encoder.
        optimizers: Names of the optimizers, one for each rate.
        lr: Learning rates, (L,).
        val_PLS: Best validation scores; nan: not recorded.
        test_PLS: Test scores of that checkpoint; 0 where the training diverged.
    """

    places: list[str]
    optimizers: list[str]
    lr: Floats
    val_PLS: Floats
    test_PLS: Floats

    @classmethod
    def read(cls, path: Path) -> Recorded:
        """Read a recording."""
        with np.load(path) as file:
            places = [f"{task}/{encoder}" for task in file["tasks"] for encoder in file["encoders"]]
            trained, diverged = file["trained"], file["diverged"]
            best = np.fmax.accumulate(file["val"], axis=-1)[..., -1]
            ends = [
                np.where(trained, np.where(diverged, 0.0, x), np.nan).astype(float)
                for x in (best, file["test"][..., -1])
            ]
            names = file["optimizers"] if "optimizers" in file else ["adamw"] * len(file["lr"])
            val_PLS, test_PLS = (x.reshape(-1, *x.shape[2:]) for x in ends)
            return cls(places, [str(n) for n in names], file["lr"], val_PLS, test_PLS)

    def of(self, optimizer: str) -> Recorded:
        """Return the trainings of one optimizer."""
        kept = [i for i, name in enumerate(self.optimizers) if name == optimizer]
        lr, names = self.lr[kept], [optimizer] * len(kept)
        return Recorded(self.places, names, lr, self.val_PLS[:, kept], self.test_PLS[:, kept])

    def at(self, lr_L: Floats) -> Recorded:
        """Return the trainings at these rates."""
        kept = [i for i, lr in enumerate(self.lr) if np.isclose(lr, lr_L, rtol=1e-3).any()]
        names = [self.optimizers[i] for i in kept]
        return Recorded(
            self.places, names, self.lr[kept], self.val_PLS[:, kept], self.test_PLS[:, kept]
        )

    def rate(self, lr: float) -> int:
        """Return the index of a rate."""
        return int(np.argmin(np.abs(np.log(self.lr / lr))))

    def beside(self, other: Recorded) -> Recorded:
        """Return the rates of two recordings of the same tables; the seeds that both can have."""
        order = [other.places.index(place) for place in self.places]
        seeds = min(self.val_PLS.shape[2], other.val_PLS.shape[2])
        val, test = (
            np.concatenate([mine[..., :seeds], theirs[order][..., :seeds]], axis=1)
            for mine, theirs in (
                (self.val_PLS, other.val_PLS),
                (self.test_PLS, other.test_PLS),
            )
        )
        lr = np.concatenate([self.lr, other.lr])
        return Recorded(self.places, [*self.optimizers, *other.optimizers], lr, val, test)


def _best_elsewhere(recorded: Recorded, place: int, count: int) -> Iterator[int]:
    task, _, encoder = recorded.places[place].partition("/")
    others = [
        i
        for i, name in enumerate(recorded.places)
        if name.endswith(f"/{encoder}") and not name.startswith(f"{task}/")
    ]
    known = ~np.isnan(recorded.val_PLS[others]).all(axis=2).any(axis=0)
    means = {
        rates: float(np.nanmean(recorded.val_PLS[others][:, list(rates)].max(axis=1)))
        for rates in combinations(np.flatnonzero(known).tolist(), count)
    }
    best, _ = max(means.items(), key=lambda item: item[1])
    return iter(best)


def _seeds(recorded: Recorded) -> int:
    return int(recorded.val_PLS.shape[2])


def _means(test_XS: Floats) -> Floats:
    """Return mean test scores over the recorded seeds; nan: not recorded."""
    count = (~np.isnan(test_XS)).sum(axis=-1)
    means: Floats = np.where(count, np.nansum(test_XS, axis=-1) / np.maximum(count, 1), np.nan)
    return means


def _from(cost: float, rows: Floats, grid: Sequence[float], tables: int) -> Outcomes:
    """Return outcomes that are the same from a cost on."""
    known = np.where(np.array(grid) >= cost, rows, np.nan)
    return Outcomes(known, np.zeros(known.shape, bool), tables)
