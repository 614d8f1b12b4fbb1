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
COSTS = (1.0, 2.0, 4.0, 8.0)  # full trainings
PAIRED = (1.5, 2.0, 4.0)
DRAWS, LEVEL = 1000, 95.0
START, END = "<!-- measured: start -->", "<!-- measured: end -->"
Floats = NDArray[np.float64]


def means(gaps: Floats) -> Floats:
    """Return the mean gap at each cost; infinite where a search has no winner yet."""
    found: Floats = np.where(np.isnan(gaps), np.inf, gaps).mean(axis=0)
    return found


def cost_to(gaps: Floats, grid: Sequence[float], target: float) -> float:
    """Return the least cost at which the mean gap over searches is within a target."""
    reached = np.flatnonzero(means(gaps) <= target)
    return grid[reached[0]] if reached.size else float("inf")


def ratio(
    mine: Floats, other: Floats, grid: Sequence[float], target: float
) -> tuple[float, float, float]:
    """Return cost(mine) / cost(other) with its bootstrap interval: seeds drawn in pairs."""
    chance = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        rows = chance.integers(len(mine), size=len(mine))
        below = cost_to(other[rows], grid, target)
        # an unreached target counts as the grid's end: the ratio is then an upper bound
        drawn.append(cost_to(mine[rows], grid, target) / min(below, grid[-1]))
    low, high = np.percentile(drawn, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    point = cost_to(mine, grid, target) / min(cost_to(other, grid, target), grid[-1])
    return point, float(low), float(high)


def difference(mine: Floats, other: Floats) -> tuple[float, float, float]:
    """Return the mean paired difference of gaps with its bootstrap interval; nan: no winner."""
    both = ~(np.isnan(mine) | np.isnan(other))
    if not both.any():
        return (float("nan"),) * 3
    d = (mine - other)[both]
    chance = np.random.default_rng(0)
    drawn = d[chance.integers(len(d), size=(DRAWS, len(d)))].mean(axis=1)
    low, high = np.percentile(drawn, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(d.mean()), float(low), float(high)


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
        gaps = means(out.gaps)
        cells = [_cost(cost_to(out.gaps, grid, target)) for target in TARGETS]
        cells += [_points(gaps[list(grid).index(c)]) for c in COSTS]
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
            point, low, high = ratio(played[ours].gaps, played[other].gaps, grid, target)
            lines.append(
                f"- Cost to gap {target:g}, as a share of {other}: **{point:.2f}** "
                f"[{low:.2f}, {high:.2f}]"
            )
    return [*lines, ""]


def paired(
    title: str, played: Mapping[str, Outcomes], grid: Sequence[float], base: str
) -> list[str]:
    """Return the paired differences of gaps from a base, with intervals."""
    searches = len(played[base].gaps)
    titles = ["search", "cost to gap 1.0", "to 0.6"]
    titles += [f"gap at {c:g}, minus {base}" for c in PAIRED]
    rows = []
    for name, out in played.items():
        cells = [_cost(cost_to(out.gaps, grid, target)) for target in TARGETS]
        for cost in PAIRED:
            column = list(grid).index(cost)
            if name == base:
                cells.append(f"({_points(means(out.gaps)[column])})")
                continue
            found = difference(out.gaps[:, column], played[base].gaps[:, column])
            cells.append(
                "{:+.2f} [{:+.2f}, {:+.2f}]".format(*found) if found[0] == found[0] else "-"
            )
        rows.append([name, *cells])
    return [f"### {title} ({searches} searches)", "", *table(titles, rows), ""]


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
            axis.plot(grid, np.maximum(gaps, 0.05), lw=2.6 if not number else 1.2, label=method)
        axis.set(title=name, xlabel="cost, full trainings", yscale="log", xlim=(0, grid[-1]))
    axes[0][0].set_ylabel("mean gap on test, points")
    names = axes[0][0].get_legend_handles_labels()
    fig.legend(*names, loc="outside lower center", ncols=5, fontsize=8)
    fig.savefig(path, dpi=110)
    plt.close(fig)


def say(lines: Sequence[str]) -> None:
    """Print lines."""
    sys.stdout.write("\n".join(lines) + "\n")


def into_page(lines: Sequence[str], page: Path) -> None:
    """Write lines between the markers of a page."""
    text = page.read_text()
    before, after = text.split(START)[0], text.split(END)[1]
    page.write_text("\n".join([f"{before}{START}", "", *lines, f"{END}{after}"]))


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table, its first column left-aligned and the others right-aligned."""
    line = ["---", *["---:"] * (len(titles) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (titles, line, *rows)]


def _cost(cost: float) -> str:
    return f"{cost:g}" if np.isfinite(cost) else "never"


def _points(gap: float) -> str:
    return f"{gap:.2f}" if np.isfinite(gap) else "-"
