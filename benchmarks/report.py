"""Make the tables and the figure of the search benchmark."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .simulate import Outcomes

TARGETS = (1.0, 0.6)  # points below the reference
COARSE = (5.0, 2.0)  # where no search comes closer: tables with few seeds and sharp optima
COSTS = (2.0, 4.0, 8.0)  # full trainings
PAIRED = (1.5, 2.0, 4.0)
# As the classes of cryo_hpo/data/palette.py, without yellow, which is faint on white.
LINES = (
    *("#0173B3", "#800000", "#009E73", "#B880A0", "#E69F00"),
    *("#56B4E9", "#D65F01", "#586068", "#1A1A1A"),
)
DRAWS, LEVEL = 1000, 95.0
Floats = NDArray[np.float64]


def draw(chance: np.random.Generator, searches: int, tables: int) -> NDArray[np.intp]:
    """Draw searches with replacement: first tables, then the searches of each.

    So an interval is over problems as well as over seeds, where there are several problems.
    """
    each = searches // tables
    drawn = chance.integers(tables, size=tables)
    inside = chance.integers(each, size=(tables, each))
    return (drawn[:, None] * each + inside).ravel()


def interval(gaps: Floats, tables: int) -> tuple[float, float, float]:
    """Return the mean gap with its bootstrap interval over tables and seeds; nan: no winner."""
    chance = np.random.default_rng(0)
    means_D = [np.nanmean(gaps[draw(chance, len(gaps), tables)]) for _ in range(DRAWS)]
    low, high = np.percentile(means_D, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(np.nanmean(gaps)), float(low), float(high)


def means(gaps: Floats) -> Floats:
    """Return the mean gap at each cost; infinite where a search has no winner yet."""
    found: Floats = np.where(np.isnan(gaps), np.inf, gaps).mean(axis=0)
    return found


def cost_to(gaps: Floats, grid: Sequence[float], target: float) -> float:
    """Return the least cost at which the mean gap over searches is within a target."""
    reached = np.flatnonzero(means(gaps) <= target)
    return grid[reached[0]] if reached.size else float("inf")


def ratio(
    mine: Floats, other: Floats, grid: Sequence[float], target: float, *, tables: int = 1
) -> tuple[float, float, float]:
    """Return cost(mine) / cost(other) with its bootstrap interval: searches drawn in pairs."""
    chance = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        rows = draw(chance, len(mine), tables)
        below = cost_to(other[rows], grid, target)
        # an unreached target counts as the grid's end: the ratio is then an upper bound
        drawn.append(cost_to(mine[rows], grid, target) / min(below, grid[-1]))
    low, high = np.percentile(
        drawn, [(100 - LEVEL) / 2, (100 + LEVEL) / 2], method="nearest"
    )  # a ratio is infinite where ours never gets there
    point = cost_to(mine, grid, target) / min(cost_to(other, grid, target), grid[-1])
    return point, float(low), float(high)


def difference(mine: Floats, other: Floats, *, tables: int = 1) -> tuple[float, float, float]:
    """Return the mean paired difference of gaps with its bootstrap interval; nan: no winner."""
    both = ~(np.isnan(mine) | np.isnan(other))
    if not both.any():
        return (float("nan"),) * 3
    return interval(np.where(both, mine - other, np.nan), tables)


def rivals(
    name: str, num: int, played: Mapping[str, Outcomes], grid: Sequence[float], ours: str
) -> list[str]:
    """Return the main table of a problem."""
    searches = len(next(iter(played.values())).gaps)
    tables = f", {num} tables" if num > 1 else ""
    head = [f"gap at {c:g}" for c in COSTS]
    titles = ["search", "cost to gap 1.0", "to 0.6", *head, "crowns a diverging one"]
    rows = []
    for method, out in played.items():
        cells = [_cost(cost_to(out.gaps, grid, target)) for target in TARGETS]
        cells += [_within(out.gaps[:, list(grid).index(c)], out.tables) for c in COSTS]
        cells.append(f"{100 * out.diverging.any(axis=1).mean():.0f} %")
        rows.append([f"**{method}**" if method == ours else method, *cells])
    return [f"### {name} ({searches} searches{tables})", "", *table(titles, rows), ""]


def ratios(
    played: Mapping[str, Outcomes], grid: Sequence[float], ours: str, others: Sequence[str]
) -> list[str]:
    """Return our cost as a share of the rivals', a line for each rival and target."""
    lines = []
    for other in others:
        for target in (*COARSE, *TARGETS):
            if not np.isfinite(cost_to(played[other].gaps, grid, target)):
                lines.append(f"- {other} does not come within {target:g} points by {grid[-1]:g}.")
                continue
            mine, rival = played[ours], played[other]
            point, low, high = ratio(mine.gaps, rival.gaps, grid, target, tables=mine.tables)
            lines.append(
                f"- Cost to gap {target:g}, as a share of {other}: **{point:.2f}** "
                f"[{low:.2f}, {high:.2f}]"
            )
    return [*lines, ""]


def first(out: Outcomes, each: int) -> Outcomes:
    """Return the first searches of each table."""
    shape = (out.tables, -1, *out.gaps.shape[1:])
    gaps, diverging = (x.reshape(shape)[:, :each] for x in (out.gaps, out.diverging))
    flat = (-1, *out.gaps.shape[1:])
    return Outcomes(gaps.reshape(flat), diverging.reshape(flat), out.tables)


def pooled(parts: Sequence[Outcomes]) -> Outcomes:
    """Return the searches of several problems as those of one; as many of each table."""
    return Outcomes(
        np.concatenate([out.gaps for out in parts]),
        np.concatenate([out.diverging for out in parts]),
        sum(out.tables for out in parts),
    )


def paired(
    title: str,
    played: Mapping[str, Outcomes],
    grid: Sequence[float],
    base: str,
    *,
    costs: Sequence[float] = PAIRED,
) -> list[str]:
    """Return the paired differences of gaps from a base, with intervals."""
    searches = len(played[base].gaps)
    titles = ["search", "cost to gap 1.0", "to 0.6"]
    titles += [f"gap at {c:g}, minus {base}" for c in costs]
    rows = []
    for name, out in played.items():
        cells = [_cost(cost_to(out.gaps, grid, target)) for target in TARGETS]
        for cost in costs:
            column = list(grid).index(cost)
            if name == base:
                cells.append(f"({_points(means(out.gaps)[column])})")
                continue
            found = difference(out.gaps[:, column], played[base].gaps[:, column], tables=out.tables)
            cells.append(
                "{:+.2f} [{:+.2f}, {:+.2f}]".format(*found) if found[0] == found[0] else "-"
            )
        rows.append([name, *cells])
    return [f"### {title} ({searches} searches)", "", *table(titles, rows), ""]


def against_aims(
    title: str, played: Mapping[str, Outcomes], grid: Sequence[float], aim: float
) -> list[str]:
    """Return the table of starts: gaps at rising costs, and an interval at the aim's cost."""
    searches = len(next(iter(played.values())).gaps)
    costs = (aim, 2.0, 3.0, 4.0, 6.0, 8.0)
    titles = [
        "search",
        *(f"gap at {c:g}" for c in costs),
        f"interval at {aim:g}",
        "cost to 5",
        "2",
        "1",
    ]
    rows = []
    for name, out in played.items():
        mean = means(out.gaps)
        cells = [_points(mean[list(grid).index(c)]) for c in costs]
        column = out.gaps[:, list(grid).index(aim)]
        _, low, high = interval(column, out.tables)
        cells.append("-" if np.isnan(column).any() else f"[{low:.1f}, {high:.1f}]")
        cells += [_cost(cost_to(out.gaps, grid, target)) for target in (5.0, 2.0, 1.0)]
        rows.append([name, *cells])
    return [f"### {title} ({searches} searches)", "", *table(titles, rows), ""]


def frontier(ends: Mapping[str, Mapping[str, Outcomes]]) -> list[str]:
    """Return the table of searches run to their own end: setting -> problem -> costs and gaps."""
    names = list(next(iter(ends.values())))
    rows = []
    for setting, problems in ends.items():
        cells = [
            f"{out.gaps[:, 0].mean():.2f} / {_within(out.gaps[:, 1], out.tables)}"
            for out in problems.values()
        ]
        rows.append([f"`{setting}`", *cells])
    return [*table(["setting", *(f"{n}: cost / gap" for n in names)], rows), ""]


def figure(drawn: Mapping[str, Mapping[str, Outcomes]], grid: Sequence[float], path: Path) -> None:
    """Draw the mean gap against the cost, a panel for each problem."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    fig, axes = plt.subplots(
        1, len(drawn), figsize=(5 * len(drawn), 4.6), squeeze=False, layout="constrained"
    )
    for axis, (name, played) in zip(axes[0], drawn.items(), strict=True):
        for number, (method, out) in enumerate(played.items()):
            gaps = np.where(np.isfinite(means(out.gaps)), means(out.gaps), np.nan)
            color = LINES[number % len(LINES)]
            dashes = ("-", "--", ":")[number // len(LINES) % 3]
            width = 2.6 if not number else 1.2
            axis.plot(grid, np.maximum(gaps, 0.05), dashes, color=color, lw=width, label=method)
        axis.set(title=name, xlabel="cost, full trainings", yscale="log", xlim=(0, grid[-1]))
    axes[0][0].set_ylabel("mean gap on test, points")
    names = axes[0][0].get_legend_handles_labels()
    fig.legend(*names, loc="outside lower center", ncols=5, fontsize=8)
    fig.savefig(path, dpi=110)
    plt.close(fig)


def say(lines: Sequence[str]) -> None:
    """Print lines."""
    sys.stdout.write("\n".join(lines) + "\n")


def into_page(lines: Sequence[str], page: Path, part: str) -> None:
    """Write lines between the markers of a part of a page."""
    start, end = f"<!-- measured: {part} -->", f"<!-- measured: end of {part} -->"
    text = page.read_text()
    before, after = text.split(start)[0], text.split(end)[1]
    page.write_text("\n".join([f"{before}{start}", "", *lines, f"{end}{after}"]))


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table, its first column left-aligned and the others right-aligned."""
    line = ["---", *["---:"] * (len(titles) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (titles, line, *rows)]


def _cost(cost: float) -> str:
    return f"{cost:g}" if np.isfinite(cost) else "never"


def _points(gap: float) -> str:
    return f"{gap:.2f}" if np.isfinite(gap) else "-"


def _within(gaps: Floats, tables: int) -> str:
    """Return a mean gap with its interval; "-" where a search has no winner yet."""
    if np.isnan(gaps).any():
        return "-"
    return "{:.2f} [{:.1f}, {:.1f}]".format(*interval(gaps, tables))
