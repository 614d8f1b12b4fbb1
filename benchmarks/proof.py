"""Compare the pairs a verdict needs: a fixed number of seeds against stopping once decided.

Comparisons are drawn from real trainings (see `coverage`). For each population and rule the table
counts pairs trained, verdicts, and how often the deciding interval contains the true median gain.

    python -m benchmarks.proof ../shared/data/lr_curves
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.coverage import POPULATIONS, median_gain, population
from cryo_hpo.stats.intervals import Interval
from cryo_hpo.stats.paired import paired_gains, typical_gain
from cryo_hpo.stats.sequential import bound_median, decide

Floats = NDArray[np.float64]
AT_MOST = 16
REPEATS = 2000


class Outcome(NamedTuple):
    """One comparison: the pairs trained, and the deciding interval."""

    pairs: int
    interval: Interval


class Row(NamedTuple):
    """Means over comparisons of one population and rule."""

    pairs: float
    improved: float
    worse: float
    covered: float


def compare_fixed(tuned: Floats, baseline: Floats, *, seeds: int) -> Outcome:
    """Compare on a number of seeds fixed beforehand."""
    return Outcome(seeds, typical_gain(tuned[:seeds], baseline[:seeds]))


def compare_anytime(tuned: Floats, baseline: Floats) -> Outcome:
    """Train pair after pair until the comparison is decided or futile."""
    gains = paired_gains(tuned, baseline).tolist()
    undecided = (
        n for n in range(1, AT_MOST + 1) if decide(gains[:n], at_most=AT_MOST) != "undecided"
    )
    pairs = next(undecided)
    return Outcome(pairs, bound_median(gains[:pairs]))


RULES: dict[str, Callable[[Floats, Floats], Outcome]] = {
    "6 fixed": lambda t, b: compare_fixed(t, b, seeds=6),
    "8 fixed": lambda t, b: compare_fixed(t, b, seeds=8),
    "16 fixed": lambda t, b: compare_fixed(t, b, seeds=16),
    "anytime, at most 16": compare_anytime,
}


def simulate(folder: Path, name: str, *, repeats: int) -> Iterator[tuple[str, Row]]:
    """Yield the row of every rule, all from the same draws."""
    rng = np.random.default_rng(0)
    tuned, baseline = population(folder, name)
    truth = median_gain(tuned, baseline)
    draws = [(rng.choice(tuned, AT_MOST), rng.choice(baseline, AT_MOST)) for _ in range(repeats)]
    for rule, compare in RULES.items():
        outcomes = [compare(t, b) for t, b in draws]
        yield rule, average(outcomes, truth)


def average(outcomes: list[Outcome], truth: float) -> Row:
    """Return the means of the outcomes; intervals are compared with the true median gain."""
    intervals = [outcome.interval for outcome in outcomes]
    return Row(
        pairs=float(np.mean([outcome.pairs for outcome in outcomes])),
        improved=float(np.mean([interval.low > 0 for interval in intervals])),
        worse=float(np.mean([interval.high < 0 for interval in intervals])),
        covered=float(np.mean([i.low <= truth <= i.high for i in intervals])),
    )


def main() -> None:
    """Print the table."""
    folder = Path(sys.argv[1])
    print("| tuned / baseline LR | rule | repeats | improved | worse | interval holds |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name in POPULATIONS:
        for rule, row in simulate(folder, name, repeats=REPEATS):
            numbers = f"{row.pairs:.1f} | {row.improved:.3f} | {row.worse:.3f} | {row.covered:.3f}"
            print(f"| {name} | {rule} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
