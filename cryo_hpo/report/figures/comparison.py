"""Draw the comparison: seeds in pairs, intervals of the gain, IoU of every class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ...results.study import Result, SeedResult
from ...stats import Improvement, Interval
from .. import wording as tables
from ..evidence import name_intervals
from .style import BLUE, GREY, INK, ORANGE, PAPER, OpenFigure, figure, save, save_axes

SEEDS, CLASSES = "paired-seeds", "class-iou"
MAX_CLASSES = 12  # classes; more do not fit, and the table lists them


def paired_seeds(result: Result, stem: Path) -> list[Path]:
    """Draw every seed's scores as a pair, with the intervals of the gain below.

    Returns:
        `stem` with .svg and .png; nothing without a tuned arm.
    """
    return save_axes(partial(draw_seeds, result), stem)


def draw_seeds(result: Result, open_figure: OpenFigure) -> NDArray[Any] | None:
    """Draw the figure of `paired_seeds` and return its axes, (2,): the pairs, and the intervals."""
    improvement = result.improvement
    arms = {arm.name: arm for arm in result.arms}
    if improvement is None or tables.TUNED not in arms:
        return None
    num = len(arms[tables.TUNED].seeds)
    fig = open_figure(1.9 + 0.24 * num)
    axes: NDArray[Any] = fig.subplots(2, 1, height_ratios=[num + 1.2, 3.4])
    _pairs(axes[0], result)
    _intervals(axes[1], improvement)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return axes


def class_iou(result: Result, stem: Path) -> list[Path]:
    """Draw the IoU of every class, baseline and tuned: the mean over seeds, and each seed.

    Returns:
        `stem` with .svg and .png; nothing without a tuned arm.
    """
    arms = [arm for arm in result.arms if arm.name in (tables.BASELINE, tables.TUNED)]
    names = result.classes[:MAX_CLASSES]
    if len(arms) < 2:
        return []
    with figure(1.1 + 0.42 * len(names)) as fig:
        ax = fig.add_subplot()
        for offset, color, arm in zip((-0.15, 0.15), (GREY, BLUE), arms, strict=True):
            label = arm.name
            for row, name in enumerate(names):
                values = [s.test_iou.get(name) for s in arm.seeds]
                scores = [100 * v for v in values if v is not None]
                if not scores:
                    continue
                ax.plot(
                    [0, float(np.mean(scores))], [row + offset] * 2, color=color, lw=5, alpha=0.25
                )
                ax.scatter(scores, [row + offset] * len(scores), color=color, s=14, label=label)
                label = ""
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_xlim(0, 100)
        ax.set_xlabel("Test IoU (%): bars the means, points the seeds")
        ax.grid(visible=False, axis="y")
        fig.legend(loc="outside upper center", ncols=2)
        return save(fig, stem)


def _pairs(ax: Axes, result: Result) -> None:
    arms = [result.arm(name) for name in (tables.BASELINE, tables.TUNED)]
    seeds = [s.seed for s in arms[0].seeds]
    before, after = ([100 * s.test_miou for s in arm.seeds] for arm in arms)
    left = _left_end([seed for arm in arms for seed in arm.seeds])
    for row, (low, high) in enumerate(zip(before, after, strict=True)):
        ends = [max(low, left), max(high, left)]
        ax.plot(ends, [row, row], color=BLUE if high >= low else ORANGE, lw=1.6, zorder=2)
    rows = range(len(seeds))
    hollow: dict[str, Any] = {"facecolor": PAPER, "edgecolor": INK, "s": 34}
    full: dict[str, Any] = {"color": BLUE, "s": 34}
    for values, label, style in (
        (before, "baseline", hollow),
        (after, "tuned", full),
    ):
        inside = [(value, row) for value, row in zip(values, rows, strict=True) if value >= left]
        ax.scatter(
            *(zip(*inside, strict=True) if inside else ((), ())), label=label, zorder=3, **style
        )
        for value, row in zip(values, rows, strict=True):
            if value < left:
                _mark_lost(ax, left, row, value, color=style.get("color", INK))
    if math.isfinite(left):
        ax.set_xlim(left=left)
    ax.set_yticks(rows, [f"seed {seed}" for seed in seeds])
    ax.set_ylim(len(seeds) - 0.4, -0.6)
    ax.set_xlabel("Test mIoU (%)")
    ax.grid(visible=False, axis="y")


def _left_end(seeds: Sequence[SeedResult]) -> float:
    """Return where the axis begins: lost trainings far below all others do not stretch it."""
    kept = [100 * s.test_miou for s in seeds if not (s.collapsed or s.diverged)]
    lost = [100 * s.test_miou for s in seeds if s.collapsed or s.diverged]
    if not kept or not lost:
        return -math.inf
    room = max(max(kept) - min(kept), 2.0)
    return min(kept) - room if min(lost) < min(kept) - 2 * room else -math.inf


def _mark_lost(ax: Axes, left: float, row: int, value: float, *, color: str) -> None:
    """Mark a score beyond the axis at its edge, with its number."""
    ax.scatter(left, row, marker="<", color=color, s=30, zorder=4, clip_on=False)
    offset: dict[str, Any] = {"textcoords": "offset points", "xytext": (6, 5), "fontsize": 7}
    ax.annotate(f"{value:.1f}", (left, row), color=color, **offset)


def _intervals(ax: Axes, improvement: Improvement) -> None:
    """Draw the intervals of the relative improvement; an open end is an arrow."""
    rows = name_intervals(improvement)
    left, right = _reach(list(rows.values()))
    room = max(0.12 * (right - left), 0.5)
    left, right = left - room, right + room
    ax.axvline(0, color=GREY, lw=1, ls=(0, (4, 3)), zorder=1)
    for row, (name, interval) in enumerate(rows.items()):
        if np.isfinite(interval.mid) and (interval.is_bounded or "BCa" not in name):
            _draw_interval(ax, row, interval, (left, right), decides=row == 0)
    ax.set_xlim(left, right)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set_ylim(len(rows) - 0.5, -0.6)
    level = improvement.relative_pct.level
    ax.set_xlabel(f"Relative improvement (%), {100 * level:g} % intervals")
    ax.grid(visible=False, axis="y")


def _reach(intervals: Sequence[Interval]) -> tuple[float, float]:
    """Return the values to show: 0, all estimates, and limits that are not far beyond the rest.

    Limits farther than three times the span of estimates and the interval that decides are
    drawn as arrows.
    """
    first = intervals[0]
    core = [0.0, *(of.mid for of in intervals), first.low, first.high]
    finite = [value for value in core if np.isfinite(value)]
    low, high = min(finite), max(finite)
    room = 3 * max(high - low, 0.5)
    ends = [v for of in intervals for v in (of.low, of.high) if np.isfinite(v)]
    near = [v for v in ends if low - room <= v <= high + room]
    return min([low, *near]), max([high, *near])


def _draw_interval(
    ax: Axes, row: int, interval: Interval, limits: tuple[float, float], *, decides: bool
) -> None:
    color, width = (BLUE, 2.4) if decides else (GREY, 1.4)
    ends = np.clip((interval.low, interval.high), *limits)
    ax.plot(ends, [row, row], color=color, lw=width)
    for end, value, mark in zip(ends, (interval.low, interval.high), "<>", strict=True):
        beyond = not limits[0] <= value <= limits[1]
        ax.plot(end, row, mark if beyond else "|", color=color)
    ax.scatter(interval.mid, row, color=color, s=30, zorder=3)
