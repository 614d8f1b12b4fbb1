"""Score optimizers that nobody tuned: one training at their own values, as rows beside the searches."""

# T tasks, E encoders, O optimizers, S seeds, N epochs

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
    with np.load(path) as file:
        names = [str(name) for name in file["optimizers"]]
        places = [f"{task}/{encoder}" for task in file["tasks"] for encoder in file["encoders"]]
        tests_PO = _means(file["test"][..., -1], file["trained"], file["diverged"])
    scores = dict(zip(places, tests_PO, strict=True))
    found = {}
    for number, name in enumerate(names):
        tests = [scores[table.name][number] for table in tables if table.name in scores]
        if len(tests) == len(tables) and np.isfinite(tests).all():
            gaps = [100 * (t.reference - score) for t, score in zip(tables, tests, strict=True)]
            found[name] = _constant(gaps, grid, searches)
    return found


def _means(test_TEOS: Floats, trained_TEOS: Floats, diverged_TEOS: Floats) -> Floats:
    """Return mean test scores over the recorded seeds, (T * E, O); nan: not recorded."""
    scores = np.where(diverged_TEOS, 0.0, test_TEOS).astype(float)
    count = trained_TEOS.sum(axis=-1)
    total = np.where(trained_TEOS, scores, 0.0).sum(axis=-1)
    means: Floats = np.where(count, total / np.maximum(count, 1), np.nan)
    return means.reshape(-1, means.shape[-1])


def _constant(gaps: Sequence[float], grid: Sequence[float], searches: int) -> Outcomes:
    rows = np.repeat(np.array(gaps)[:, None], searches, axis=0)
    known = np.where(np.array(grid) >= WHOLE, rows, np.nan)
    return Outcomes(known, np.zeros(known.shape, bool), len(gaps))
