"""Measure how well early scores predict final ones: raw weights against averaged ones.

    python -m benchmarks.rank_fidelity

For every dataset, encoder and seed of our own recording: Spearman's correlation over the learning
rates, between the best validation score so far at a rung and the final score of the training.
"""

# P recordings (dataset, encoder, seed), L learning rates, N epochs

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .report import DRAWS, LEVEL, table

OWN = Path(__file__).parent / "data" / "lr_table.npz"
RUNGS = (1, 3, 9)  # of 27 epochs, at a reduction of 3
KINDS = {"raw": "", "average": "_ema"}
Floats = NDArray[np.float64]


class Recording(NamedTuple):
    """Trainings at all learning rates for one dataset, encoder and seed.

    Attributes:
        val: Best validation score so far by kind of weights, (L, N).
        test: Test score of the final checkpoint, by kind of weights, (L,).
    """

    val: dict[str, Floats]
    test: dict[str, Floats]


def recordings(path: Path) -> Iterator[Recording]:
    """Yield every recording that holds all learning rates; a diverged one scores 0."""
    with np.load(path) as file:
        arrays = {name: file[name].astype(float) for name in ("val", "val_ema", "test", "test_ema")}
        trained = file["trained"]
    for t, e, s in np.argwhere(trained.all(axis=2)):
        chosen = {name: np.nan_to_num(array[t, e, :, s]) for name, array in arrays.items()}
        yield Recording(
            {k: np.maximum.accumulate(chosen[f"val{tail}"], axis=1) for k, tail in KINDS.items()},
            {k: chosen[f"test{tail}"][:, -1] for k, tail in KINDS.items()},
        )


def fidelity(found: list[Recording], kind: str, rung: int, target: str) -> Floats:
    """Return Spearman's correlation of each recording, (P,); nan where all scores are equal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return np.array(
            [
                stats.spearmanr(
                    r.val[kind][:, rung - 1],
                    r.val[kind][:, -1] if target == "val" else r.test[kind],
                ).statistic
                for r in found
            ]
        )


def kept(found: list[Recording], kind: str, rung: int) -> Floats:
    """Return whether the best third at a rung contains the final best rate, (P,)."""
    held = []
    for r in found:
        early, last = r.val[kind][:, rung - 1], r.val[kind][:, -1]
        third = np.argsort(-early, kind="stable")[: len(early) // 3]
        held.append(float(last.argmax() in third))
    return np.array(held)


def interval(values: Floats) -> tuple[float, float, float]:
    """Return the mean and its bootstrap interval, with recordings resampled."""
    values = values[~np.isnan(values)]
    chance = np.random.default_rng(0)
    drawn = values[chance.integers(len(values), size=(DRAWS, len(values)))].mean(axis=1)
    low, high = np.percentile(drawn, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(values.mean()), float(low), float(high)


def lines(found: list[Recording]) -> list[str]:
    """Return the study as Markdown."""
    rows = []
    measures: dict[str, Callable[[str, int], Floats]] = {
        "Spearman with the final validation score": lambda k, r: fidelity(found, k, r, "val"),
        "Spearman with the final test score": lambda k, r: fidelity(found, k, r, "test"),
        "best third holds the final winner": lambda k, r: kept(found, k, r),
    }
    for name, measure in measures.items():
        for rung in RUNGS:
            raw, average = measure("raw", rung), measure("average", rung)
            delta = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*interval(average - raw))
            rows.append(
                [
                    f"{name}, epoch {rung}",
                    f"{np.nanmean(raw):.3f}",
                    f"{np.nanmean(average):.3f}",
                    delta,
                ]
            )
    final = {k: np.array([r.test[k][r.val[k][:, -1].argmax()] for r in found]) for k in KINDS}
    delta = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*interval(final["average"] - final["raw"]))
    means = [f"{values.mean():.3f}" for values in final.values()]
    rows.append(["test mIoU of the rate that wins on validation", *means, delta])
    titles = ["measure", "raw", "average", "average minus raw"]
    return [f"### Rank fidelity ({len(found)} recordings)", "", *table(titles, rows), ""]


def main() -> None:
    """Print the study, with the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", type=Path, default=OWN, help="our own recording")
    sys.stdout.write("\n".join(lines(list(recordings(parser.parse_args().table)))) + "\n")


if __name__ == "__main__":
    main()
