"""Draw searches of several parameters: importance, slices, and parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from ...results.study import Result, TrialResult
from .. import wording as tables
from ..selection import Selection
from .style import BLUE, GREY, INK, LR_COLORS, PAPER, figure, save

IMPORTANCE, SLICES, PARALLEL = "importance", "slices", "parallel"
COLUMNS = 2
MAX_PARAMETERS = 8  # parameters in a figure
WIDE = 30  # values over a larger range than this get a log axis


def varied(result: Result) -> list[str]:
    """Return the parameters that took more than one value, the most important first."""
    names = dict.fromkeys(name for trial in result.trials for name in trial.params)
    several = [n for n in names if len({t.params[n] for t in result.trials if n in t.params}) > 1]
    return sorted(several, key=lambda name: -result.importance.get(name, 0.0))[:MAX_PARAMETERS]


def importance(result: Result, stem: Path) -> list[Path]:
    """Draw the importance of each parameter; nothing where it is unknown."""
    if not result.importance:
        return []
    names = list(result.importance)[:MAX_PARAMETERS]
    with figure(0.8 + 0.3 * len(names)) as fig:
        ax = fig.add_subplot()
        shares = [100 * result.importance[name] for name in names]
        ax.barh(names, shares, color=BLUE, height=0.6)
        ax.invert_yaxis()
        ax.set_xlabel("Share of importance (%)")
        ax.grid(visible=False, axis="y")
        return save(fig, stem)


def slices(result: Result, stem: Path) -> list[Path]:
    """Draw every trial's score against each parameter; nothing with fewer than two parameters."""
    names = varied(result)
    if len(names) < 2:
        return []
    rows = math.ceil(len(names) / COLUMNS)
    with figure(0.5 + 1.9 * rows) as fig:
        grid = fig.subplots(rows, COLUMNS, sharey=True, squeeze=False)
        for ax, name in zip(grid.flat, names, strict=False):
            _slice(ax, result, name)
        for ax in grid.flat[len(names) :]:
            ax.set_visible(False)
        for row in grid:
            row[0].set_ylabel(f"Best val {Selection.of(result).label}")
        fig.legend(*grid[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
        return save(fig, stem)


def parallel(result: Result, stem: Path) -> list[Path]:
    """Draw every trial with a score as a line over all parameters, the best in orange."""
    names = varied(result)
    trials = [t for t in result.trials if t.curve and all(n in t.params for n in names)]
    if len(names) < 2 or len(trials) < 2:
        return []
    shown = Selection.of(result)
    scores = [shown.value(t.score) for t in trials]
    scale = ScalarMappable(Normalize(min(scores), max(scores)), LR_COLORS)
    with figure(3.0) as fig:
        ax = fig.add_subplot()
        columns = [_heights([t.params[name] for t in trials]) for name in names]
        order = np.argsort([t.score or 0.0 for t in trials])
        for index in order:
            best = trials[index].number == result.winner
            heights = [column[index] for column in columns]
            ax.plot(heights, color=scale.to_rgba(scores[index]), lw=3 if best else 1.1)
        for x, name in enumerate(names):
            ax.axvline(x, color=GREY, lw=0.8, zorder=0)
            low, high = _ends([t.params[name] for t in trials])
            for y, text, side in ((-0.04, low, "top"), (1.04, high, "bottom")):
                ax.text(x, y, text, ha="center", va=side, fontsize=7, color=INK)
        ax.set_xticks(range(len(names)), [name.replace(".", "\n", 1) for name in names], fontsize=7)
        ax.tick_params(axis="x", pad=14, length=0)
        ax.set_yticks([])
        ax.set_ylim(-0.02, 1.02)
        ax.spines[["left", "bottom"]].set_visible(False)
        fig.colorbar(scale, ax=ax, label=f"Best validation {shown.label}", aspect=30)
        return save(fig, stem)


def _slice(ax: Axes, result: Result, name: str) -> None:
    trials = [t for t in result.trials if t.curve and name in t.params]
    kinds: dict[str, tuple[list[TrialResult], dict[str, Any]]] = {
        "full length": (
            [t for t in trials if t.state == "complete"],
            {"color": BLUE, "s": 26},
        ),
        "not of full length": (
            [t for t in trials if t.state != "complete"],
            {"facecolor": PAPER, "edgecolor": BLUE, "s": 22},
        ),
        "winner": (
            [t for t in trials if t.number == result.winner],
            {"marker": "*", "s": 150, "color": BLUE, "edgecolor": PAPER, "zorder": 4},
        ),
    }
    for label, (group, style) in kinds.items():
        values: list[Any] = [_shown(t.params[name]) for t in group]
        ax.scatter(
            values, [Selection.of(result).value(t.score) for t in group], label=label, **style
        )
    if _is_log([t.params[name] for t in trials]):
        ax.set_xscale("log")
    ax.set_xlabel(name, fontsize=8)


def _shown(value: Any) -> Any:
    return value if _is_number(value) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_log(values: Sequence[Any]) -> bool:
    if not values or not all(_is_number(v) and v > 0 for v in values):
        return False
    return bool(max(values) / min(values) > WIDE)


def _heights(values: Sequence[Any]) -> NDArray[np.float64]:
    """Return values as heights between 0 and 1; words in alphabetical order."""
    if all(_is_number(v) for v in values):
        numbers = np.log(values) if _is_log(values) else np.array(values, dtype=float)
    else:
        names = sorted({str(v) for v in values})
        numbers = np.array([names.index(str(v)) for v in values], dtype=float)
    span = float(np.ptp(numbers))
    heights: NDArray[np.float64] = (numbers - numbers.min()) / (span or 1.0)
    return heights


def _ends(values: Sequence[Any]) -> tuple[str, str]:
    if all(_is_number(v) for v in values):
        return tables.plain(float(min(values))), tables.plain(float(max(values)))
    names = sorted({str(v) for v in values})
    return names[0], names[-1]
