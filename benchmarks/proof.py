"""Compare the pairs a verdict needs: a fixed number of seeds against stopping once decided.

Comparisons are drawn from real trainings (see `coverage`), and from our own recordings: rates next to
the best one against rates next to 1e-4. For each population and rule the table counts pairs trained,
verdicts, and how often the deciding interval contains the true median gain. A second table is of whole
campaigns, whose cells may share a total of repeats.

    python -m benchmarks.proof ../shared/data/lr_curves
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.coverage import POPULATIONS, median_gain, population
from cryo_hpo.stats.intervals import Interval
from cryo_hpo.stats.paired import paired_gains, rank_of, typical_gain
from cryo_hpo.stats.sequential import bound_median, decide, find_stop
from cryo_hpo.stats.shared_repeats import share_repeats

Floats = NDArray[np.float64]
OWN = Path(__file__).parent / "data" / "lr_table.npz"
FIXED = 1e-4
AT_MOST = 16
REPEATS = 2000
CELLS = 6
CAMPAIGNS = 1000
NO_GAIN = list(POPULATIONS).index("DeBERTa 1e-4 / 1e-4")  # tuned is the baseline
TOTALS = (30, 36, 42, 48)  # repeats that the cells of a campaign share
Gains = list[list[float]]  # of each cell, all repeats that it could train


class Outcome(NamedTuple):
    """One comparison: the pairs trained, and the deciding interval."""

    pairs: int
    interval: Interval


class Cell(NamedTuple):
    """The scores that a cell of a campaign draws from, and their true median gain."""

    tuned: Floats
    baseline: Floats
    truth: float

    @classmethod
    def of(cls, tuned: Floats, baseline: Floats) -> Cell:
        """Make a cell of a population."""
        return cls(tuned, baseline, median_gain(tuned, baseline))


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


class CampaignRow(NamedTuple):
    """Means over campaigns of one rule; the last two are the most of any campaign and of any cell."""

    right: float
    wrong: float
    repeats: float
    most: int
    most_of_a_cell: int


def grant_fixed(gains: Gains, *, seeds: int) -> list[int]:
    """Return the repeats of each cell if their number is fixed."""
    return [seeds] * len(gains)


def grant_alone(gains: Gains) -> list[int]:
    """Return the repeats of each cell if each stops by itself."""
    return [find_stop(of, at_most=AT_MOST).pairs for of in gains]


def grant_shared(gains: Gains, *, total: int) -> list[int]:
    """Return the repeats of each cell if all share a total."""
    return [grant.repeats for grant in share_repeats(gains, at_most=AT_MOST, total=total)]


CAMPAIGN_RULES: dict[str, Callable[[Gains], list[int]]] = {
    "6 fixed": partial(grant_fixed, seeds=6),
    "8 fixed": partial(grant_fixed, seeds=8),
    "at_most: 16": grant_alone,
    **{f"at_most: 16, total: {total}": partial(grant_shared, total=total) for total in TOTALS},
}


def simulate_campaigns(
    draw: Callable[[np.random.Generator], list[Cell]], *, campaigns: int
) -> Iterator[tuple[str, CampaignRow]]:
    """Yield the row of every rule, all from the same campaigns.

    Args:
        draw: Draws the population of each cell.
        campaigns: Number of campaigns.
    """
    rng = np.random.default_rng(0)
    drawn = [_draw_campaign(draw(rng), rng) for _ in range(campaigns)]
    for rule, grant in CAMPAIGN_RULES.items():
        fixed = rule.endswith("fixed")
        counted = [_count(gains, grant(gains), truths, fixed=fixed) for gains, truths in drawn]
        right, wrong, repeats = np.mean([row[:3] for row in counted], axis=0).tolist()
        most = max(row[2] for row in counted), max(row[3] for row in counted)
        yield rule, CampaignRow(right, wrong, repeats, *most)


def _draw_campaign(cells: list[Cell], rng: np.random.Generator) -> tuple[Gains, list[float]]:
    """Return the gains of each cell, drawn with replacement, and its true median gain."""
    pairs = [(rng.choice(tuned, AT_MOST), rng.choice(fixed, AT_MOST)) for tuned, fixed, _ in cells]
    return [paired_gains(*pair).tolist() for pair in pairs], [cell.truth for cell in cells]


def _count(
    gains: Gains, repeats: list[int], truths: list[float], *, fixed: bool
) -> tuple[int, int, int, int]:
    """Return cells decided rightly and wrongly, repeats of all cells, and of the cell with most."""
    sign_of = _sign_fixed if fixed else _sign_anytime
    signs = [sign_of(of[:n]) for of, n in zip(gains, repeats, strict=True)]
    right = sum(sign * truth > 0 for sign, truth in zip(signs, truths, strict=True))
    return right, sum(sign != 0 for sign in signs) - right, sum(repeats), max(repeats)


def _sign_fixed(gains: list[float]) -> int:
    """Return 1 for an improvement, -1 for the opposite, 0 without a verdict, from k-th order gains."""
    ordered, rank = sorted(gains), rank_of(len(gains), 0.95)
    return (ordered[rank - 1] > 0) - (ordered[-rank] < 0)


def _sign_anytime(gains: list[float]) -> int:
    decision = find_stop(gains, at_most=AT_MOST).decision
    return (decision == "improved") - (decision == "worse")


def main() -> None:
    """Print the tables."""
    folder = Path(sys.argv[1])
    print("| tuned / baseline LR | rule | repeats | improved | worse | interval holds |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name in POPULATIONS:
        show(name, simulate(*population(folder, name), repeats=REPEATS))
    own = own_populations(OWN).values()
    each = REPEATS // len(own)
    rows = mean_rows(simulate(tuned, fixed, repeats=each) for tuned, fixed in own)
    show(f"cryosphere, best / 1e-4 ({len(own)} tables)", rows)
    print()
    given = [Cell.of(*population(folder, name)) for name in POPULATIONS]
    show_campaigns(given, [Cell.of(*pair) for pair in own])


def show_campaigns(populations: list[Cell], own: list[Cell]) -> None:
    """Print the table of campaigns of six cells."""
    print("| cells | rule | decided rightly | wrongly | repeats | most | most of a cell |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    mixes: dict[str, Callable[[np.random.Generator], list[Cell]]] = {
        "one of each of the six populations": lambda _: populations,
        "six of our ten tables": lambda rng: [
            own[i] for i in rng.choice(len(own), CELLS, replace=False)
        ],
        "three of our tables, three without a gain": lambda rng: [
            *(own[i] for i in rng.choice(len(own), CELLS // 2, replace=False)),
            *[populations[NO_GAIN]] * (CELLS // 2),
        ],
    }
    for name, draw in mixes.items():
        for rule, row in simulate_campaigns(draw, campaigns=CAMPAIGNS):
            means = f"{row.right:.2f} | {row.wrong:.3f} | {row.repeats:.1f}"
            print(f"| {name} | {rule} | {means} | {row.most} | {row.most_of_a_cell} |", flush=True)


def show(name: str, rows: Iterable[tuple[str, Row]]) -> None:
    """Print the rows of a population."""
    for rule, row in rows:
        numbers = f"{row.pairs:.1f} | {row.improved:.3f} | {row.worse:.3f} | {row.covered:.3f}"
        print(f"| {name} | {rule} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
