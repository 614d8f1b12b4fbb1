"""Measure what validation score should choose a learning rate: the best epoch's, the last, a smooth one.

    python -m benchmarks.selection_score ../shared/data/lr_curves

For each recorded table: rank correlation of a score with the test score of the kept checkpoint, the gap
of the rate that the score would choose, the score's optimism (its mean lead over the mean of the last
three epochs) and its standard deviation between seeds. Whatever chooses, the kept checkpoint stays that
of the best epoch.
"""

# L learning rates, N epochs, S seeds

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from .report import say, table
from .simulate import kept_best

Floats = NDArray[np.float64]
OWN = Path(__file__).parent / "data" / "lr_table.npz"
THIRD = 9  # of 27 epochs
WINDOW = 3  # epochs
GROUP = 16  # runs that one search of the other tables chooses from
DRAWS = 200
TIE = 0.015  # scores that differ by less are tied: the noise that few scenes leave (scene_noise)


def smooth(val_N: Floats) -> Floats:
    """Return running means over the last `WINDOW` epochs, of fewer at the beginning."""
    sums = np.cumsum(np.concatenate([np.zeros_like(val_N[..., :1]), val_N], axis=-1), axis=-1)
    ends = np.arange(1, val_N.shape[-1] + 1)
    starts = np.maximum(ends - WINDOW, 0)
    means: Floats = (sums[..., ends] - sums[..., starts]) / (ends - starts)
    return means


SCORES: dict[str, Callable[[Floats], Floats]] = {
    "best epoch (in use)": lambda val: val.max(axis=-1),
    "last epoch": lambda val: val[..., -1],
    "mean of the last three": lambda val: smooth(val)[..., -1],
    "best of running means of three": lambda val: smooth(val).max(axis=-1),
}


def _tied(score_L: Floats) -> NDArray[np.intp]:
    return np.flatnonzero(score_L >= score_L.max() - TIE)


def _with_neighbors(score_L: Floats) -> Floats:
    """Return the mean of each rate's score and its neighbors'."""
    wide = np.pad(score_L, 1, mode="edge")
    means: Floats = (wide[:-2] + wide[1:-1] + wide[2:]) / 3
    return means


CHOICES: dict[str, Callable[[Floats], int]] = {
    "highest score (in use)": lambda s: int(s.argmax()),
    "of ties, the lowest rate": lambda s: int(_tied(s)[0]),
    "of ties, the middle rate": lambda s: int(_tied(s)[len(_tied(s)) // 2]),
    "best mean with both neighbors": lambda s: int(_with_neighbors(s).argmax()),
}
"""Ways to choose from the scores of rising learning rates."""


class Recording(NamedTuple):
    """One choice among rising learning rates: validation curves (L, N) and test scores (L,)."""

    val: Floats
    test: Floats


class Line(NamedTuple):
    """What a score is worth on one table."""

    rank: float
    gap: float
    optimism: float
    noise: float


def own(path: Path) -> dict[str, list[Recording]]:
    """Return the recordings of our own tables, by task and encoder."""
    with np.load(path) as file:
        names = [f"{t}/{e}" for t in file["tasks"] for e in file["encoders"]]
        val = file["val"].astype(float).reshape(-1, *file["val"].shape[2:])
        test = file["test"].astype(float).reshape(val.shape)[..., -1].mean(axis=2)
    return {
        name: [Recording(np.nan_to_num(val[i][:, s]), test[i]) for s in range(val.shape[2])]
        for i, name in enumerate(names)
    }


def others(folder: Path) -> dict[str, list[Recording]]:
    """Return random choices among the runs of the public tables, without those that diverge."""
    found = {}
    for file in sorted(folder.glob("*.npz")):
        with np.load(file) as held:
            order = np.argsort(held["lr"])
            val, raw_test = (held[name].astype(float)[order] for name in ("val", "test"))
        _, test = kept_best(val, raw_test)
        whole = ~np.isnan(val).any(axis=1)
        val, test = val[whole], test[whole]
        chance = np.random.default_rng(0)
        rows = (np.sort(chance.choice(len(val), GROUP, replace=False)) for _ in range(DRAWS))
        found[file.stem] = [Recording(val[r], test[r]) for r in rows]
    return found


def measure(recordings: list[Recording], score: Callable[[Floats], Floats], epochs: int) -> Line:
    """Measure a score after a number of epochs on the recordings of one table."""
    scores = [score(r.val[:, :epochs]) for r in recordings]
    pairs = list(zip(scores, recordings, strict=True))
    ranks = [spearmanr(s, r.test).statistic for s, r in pairs if np.ptp(s) and np.ptp(r.test)]
    gaps = [100 * (r.test.max() - r.test[s.argmax()]) for s, r in pairs]
    last = [smooth(r.val[:, :epochs])[:, -1] for r in recordings]
    lead = [100 * (s - m)[s.argmax()] for s, m in zip(scores, last, strict=True)]
    noise = 100 * float(np.std(scores, axis=0, ddof=1).mean()) if _seeds(recordings) else np.nan
    return Line(float(np.mean(ranks)), float(np.mean(gaps)), float(np.mean(lead)), noise)


def _seeds(recordings: list[Recording]) -> bool:
    """Return whether recordings are seeds of the same rates, not choices among different runs."""
    return len(recordings) > 1 and all(
        np.array_equal(r.test, recordings[0].test) for r in recordings
    )


def lines(tables: dict[str, list[Recording]]) -> Iterator[str]:
    """Yield the tables of the page, at a third of a training and at its end."""
    for epochs in (THIRD, 27):
        rows = []
        for name, score in SCORES.items():
            found = [measure(recordings, score, epochs) for recordings in tables.values()]
            base = [measure(r, SCORES["best epoch (in use)"], epochs) for r in tables.values()]
            better = sum(f.rank > b.rank for f, b in zip(found, base, strict=True))
            worse = sum(f.rank < b.rank for f, b in zip(found, base, strict=True))
            mean = [np.nanmean([line[i] for line in found]) for i in range(4)]
            rows.append([name, *(f"{v:.2f}" for v in mean), f"{better} / {worse}"])
        titles = [
            "score",
            "rank correlation",
            "gap",
            "optimism",
            "noise",
            "better / worse on tables",
        ]
        yield f"### After {epochs} of 27 epochs ({len(tables)} tables)"
        yield ""
        yield from table(titles, rows)
        yield ""


def choices(tables: dict[str, list[Recording]]) -> Iterator[str]:
    """Yield the table of what other choices from the same scores are worth."""
    for epochs in (THIRD, 27):
        gaps = {
            name: [_gap(recordings, choose, epochs) for recordings in tables.values()]
            for name, choose in CHOICES.items()
        }
        base = next(iter(gaps.values()))
        rows = []
        for name, found in gaps.items():
            better = sum(f < b for f, b in zip(found, base, strict=True))
            worse = sum(f > b for f, b in zip(found, base, strict=True))
            rows.append([name, f"{np.mean(found):.2f}", f"{better} / {worse}"])
        yield f"### Choices after {epochs} of 27 epochs ({len(tables)} tables)"
        yield ""
        yield from table(["choice", "gap", "better / worse on tables"], rows)
        yield ""


def _gap(recordings: list[Recording], choose: Callable[[Floats], int], epochs: int) -> float:
    scores = [r.val[:, :epochs].max(axis=-1) for r in recordings]
    gaps = [r.test.max() - r.test[choose(s)] for r, s in zip(recordings, scores, strict=True)]
    return 100 * float(np.mean(gaps))


if __name__ == "__main__":
    public = others(Path(sys.argv[1])) if len(sys.argv) > 1 else {}
    every = {**own(OWN), **public}
    say([*lines(every), *choices(every)])
