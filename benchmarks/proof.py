"""Compare the pairs a verdict needs: a fixed number of seeds against stopping once decided.

Comparisons are drawn from real trainings (see `coverage`), and from our own recordings: rates next to
the best one against rates next to 1e-4. For each population and rule the table counts pairs trained,
verdicts, and how often the deciding interval contains the true median gain.

    python -m benchmarks.proof ../shared/data/lr_curves
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.coverage import POPULATIONS, median_gain, population
from cryo_hpo.stats.intervals import Interval
from cryo_hpo.stats.paired import paired_gains, typical_gain
from cryo_hpo.stats.sequential import bound_median, decide

Floats = NDArray[np.float64]
OWN = Path(__file__).parent / "data" / "lr_table.npz"
FIXED = 1e-4
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
    "4 fixed": lambda t, b: compare_fixed(t, b, seeds=4),
    "5 fixed": lambda t, b: compare_fixed(t, b, seeds=5),
    "6 fixed": lambda t, b: compare_fixed(t, b, seeds=6),
    "8 fixed": lambda t, b: compare_fixed(t, b, seeds=8),
    "16 fixed": lambda t, b: compare_fixed(t, b, seeds=16),
    "anytime, at most 16": compare_anytime,
}


def own_populations(path: Path) -> dict[str, tuple[Floats, Floats]]:
    """Return final test scores near the best rate and near 1e-4, for each of our own tables."""
    with np.load(path) as file:
        lr, val, test = file["lr"], file["val"], file["test"]
        places = [(t, e) for t in range(len(file["tasks"])) for e in range(len(file["encoders"]))]
        names = [f"{file['tasks'][t]}/{file['encoders'][e]}" for t, e in places]
    fixed = int(np.abs(np.log(lr / FIXED)).argmin())
    found = {}
    for name, place in zip(names, places, strict=True):
        best = int(np.nanmax(val[place], axis=2).mean(axis=1).argmax())
        tuned, baseline = (test[place][_beside(rate, len(lr)), :, -1] for rate in (best, fixed))
        found[name] = (tuned.ravel().astype(float), baseline.ravel().astype(float))
    return found


def _beside(rate: int, rates: int) -> slice:
    """Return a rate of a grid with its neighbors: one rate alone has too few seeds to draw from."""
    return slice(max(rate - 1, 0), min(rate + 2, rates))


def simulate(tuned: Floats, baseline: Floats, *, repeats: int) -> Iterator[tuple[str, Row]]:
    """Yield the row of every rule, all from the same draws."""
    rng = np.random.default_rng(0)
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


def mean_rows(tables: Iterable[Iterable[tuple[str, Row]]]) -> Iterator[tuple[str, Row]]:
    """Yield the mean row of every rule over tables, each with the same weight."""
    found = [dict(rows) for rows in tables]
    for rule in RULES:
        yield rule, Row(*np.mean([rows[rule] for rows in found], axis=0).tolist())


def main() -> None:
    """Print the table."""
    folder = Path(sys.argv[1])
    print("| tuned / baseline LR | rule | repeats | improved | worse | interval holds |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name in POPULATIONS:
        show(name, simulate(*population(folder, name), repeats=REPEATS))
    own = own_populations(OWN).values()
    each = REPEATS // len(own)
    rows = mean_rows(simulate(tuned, fixed, repeats=each) for tuned, fixed in own)
    show(f"cryosphere, best / 1e-4 ({len(own)} tables)", rows)


def show(name: str, rows: Iterable[tuple[str, Row]]) -> None:
    """Print the rows of a population."""
    for rule, row in rows:
        numbers = f"{row.pairs:.1f} | {row.improved:.3f} | {row.worse:.3f} | {row.covered:.3f}"
        print(f"| {name} | {rule} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
