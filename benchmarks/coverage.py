"""Measure how often the intervals contain the truth, on real scores with heavy tails.

The populations are final test scores of real fine-tunings at two learning rates; a comparison
draws a few seeds from each. `python benchmarks/coverage.py CURVES` prints the table of
docs/statistics.md, where CURVES holds deberta-base.npz and alexnet.npz (see its README for their
origin and license).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cryo_hpo.stats import Interval, bca_ratio, typical_gain
from cryo_hpo.stats.paired import fieller, paired_gains

Floats = NDArray[np.float64]
SEEDS = (3, 4, 5, 8, 10)
LEVEL = 0.95
# tuned LR, baseline LR; runs within a factor of 1.15 (AlexNet: 1.3, it has half as many)
POPULATIONS = {
    "DeBERTa 2e-5 / 1e-4": ("deberta-base", 2e-5, 1e-4, 1.15),
    "DeBERTa 2e-5 / 5e-5": ("deberta-base", 2e-5, 5e-5, 1.15),
    "DeBERTa 1e-5 / 2e-5": ("deberta-base", 1e-5, 2e-5, 1.3),
    "DeBERTa 1e-4 / 1e-4": ("deberta-base", 1e-4, 1e-4, 1.15),
    "DeBERTa 5e-5 / 2e-4": ("deberta-base", 5e-5, 2e-4, 1.15),
    "AlexNet 0.05 / 0.1": ("alexnet", 0.05, 0.1, 1.3),
}


class Row(NamedTuple):
    """Shares of comparisons of one population and number of seeds."""

    population: str
    seeds: int
    typical: float  # the deciding interval contains the median gain
    fieller: float  # Fieller's interval contains the ratio of the means
    bca: float  # the bootstrap's interval contains the ratio of the means
    improved: float  # verdicts
    worse: float


def population(folder: Path, name: str) -> tuple[Floats, Floats]:
    """Return all final scores near the tuned and near the baseline learning rate."""
    file, tuned, baseline, factor = POPULATIONS[name]
    with np.load(folder / f"{file}.npz") as data:
        rates, final = data["lr"], np.nan_to_num(data["test"][:, -1])
    near = [(rates > lr / factor) & (rates < lr * factor) for lr in (tuned, baseline)]
    return final[near[0]].astype(float), final[near[1]].astype(float)


def median_gain(tuned: Floats, baseline: Floats) -> float:
    """Return the median gain over all pairs of a population."""
    return float(
        np.median(paired_gains(np.repeat(tuned, len(baseline)), np.tile(baseline, len(tuned))))
    )


def cover(folder: Path, name: str, seeds: int, *, repeats: int, bootstraps: int) -> Row:
    """Repeat the comparison, and return the shares."""
    rng = np.random.default_rng(seeds)
    tuned, baseline = population(folder, name)
    truth, means = median_gain(tuned, baseline), 100 * (tuned.mean() / baseline.mean() - 1)
    drawn = [(rng.choice(tuned, seeds), rng.choice(baseline, seeds)) for _ in range(repeats)]
    typical = [typical_gain(t, b, LEVEL) for t, b in drawn]
    return Row(
        name,
        seeds,
        _share(holds(found, truth) for found in typical),
        _share(holds(fieller(t, b, LEVEL), means) for t, b in drawn),
        _share(holds(bca_ratio(t, b, LEVEL), means) for t, b in drawn[:bootstraps]),
        _share(found.low > 0 for found in typical),
        _share(found.high < 0 for found in typical),
    )


def holds(interval: Interval, truth: float) -> bool:
    """Return whether an interval contains a value."""
    return interval.low <= truth <= interval.high


def one_seed(folder: Path, name: str, *, repeats: int) -> tuple[float, float, float]:
    """Return the true median gain, and the range of the gain on a single seed.

    Returns:
        The truth, and the 2.5 and 97.5 % quantiles of the gain on one seed.
    """
    rng = np.random.default_rng(1)
    tuned, baseline = population(folder, name)
    shown = paired_gains(rng.choice(tuned, repeats), rng.choice(baseline, repeats))
    low, high = np.quantile(shown, [0.025, 0.975])
    return median_gain(tuned, baseline), float(low), float(high)


def _share(hits: Iterator[bool]) -> float:
    found = list(hits)
    return sum(found) / len(found)


def main() -> None:
    """Print the table."""
    folder = Path(sys.argv[1])
    print("population | seeds | typical | Fieller | BCa | improved | worse")
    for name in POPULATIONS:
        tuned, baseline = population(folder, name)
        print(
            f"{name}: {len(tuned)} / {len(baseline)} runs, median gain "
            f"{median_gain(tuned, baseline):+.2f} %, means {100 * (tuned.mean() / baseline.mean() - 1):+.2f} %"
        )
        for seeds in SEEDS:
            row = cover(folder, name, seeds, repeats=2000, bootstraps=400)
            print(name, seeds, *(f"{value:.3f}" for value in row[2:]), sep=" | ", flush=True)


if __name__ == "__main__":
    main()
