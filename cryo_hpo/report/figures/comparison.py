"""Draw the comparison: seeds in pairs, intervals of the gain, IoU of every class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ...results.study import Result
from ...stats import Improvement, Interval
from .. import wording as tables
from ..evidence import name_intervals
from .style import BLUE, GREY, INK, ORANGE, PAPER, figure, save

SEEDS, CLASSES = "paired-seeds", "class-iou"
MAX_CLASSES = 12  # classes; more do not fit, and the table lists them


def paired_seeds(result: Result, stem: Path) -> list[Path]:
    """Draw every seed's scores as a pair, with the intervals of the gain below.

    Returns:
        `stem` with .svg and .png; nothing without a tuned arm.
    """
    improvement = result.improvement
    arms = {arm.name: arm for arm in result.arms}
    if improvement is None or tables.TUNED not in arms:
        return []
    num = len(arms[tables.TUNED].seeds)
    with figure(1.9 + 0.24 * num) as fig:
        top, below = fig.subplots(2, 1, height_ratios=[num + 1.2, 3.4])
        _pairs(top, result)
        _intervals(below, improvement)
        fig.legend(*top.get_legend_handles_labels(), loc="outside upper center", ncols=2)
        return save(fig, stem)


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
    for row, (low, high) in enumerate(zip(before, after, strict=True)):
        ax.plot([low, high], [row, row], color=BLUE if high >= low else ORANGE, lw=1.6, zorder=2)
    rows = range(len(seeds))
    hollow: dict[str, Any] = {"facecolor": PAPER, "edgecolor": INK, "s": 34}
    ax.scatter(before, rows, label="baseline", zorder=3, **hollow)
    ax.scatter(after, rows, label="tuned", zorder=3, color=BLUE, s=34)
    ax.set_yticks(rows, [f"seed {seed}" for seed in seeds])
    ax.set_ylim(len(seeds) - 0.4, -0.6)
    ax.set_xlabel("Test mIoU (%)")
    ax.grid(visible=False, axis="y")


def _intervals(ax: Axes, improvement: Improvement) -> None:
    """Draw the intervals of the relative improvement; an open end is an arrow."""
    rows = name_intervals(improvement)
    values = [v for of in rows.values() for v in (of.low, of.mid, of.high) if np.isfinite(v)]
    left, right = min([*values, 0.0]), max([*values, 0.0])
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


def _draw_interval(
    ax: Axes, row: int, interval: Interval, limits: tuple[float, float], *, decides: bool
) -> None:
    color, width = (BLUE, 2.4) if decides else (GREY, 1.4)
    ends = np.clip((interval.low, interval.high), *limits)
    ax.plot(ends, [row, row], color=color, lw=width)
    for end, value, mark in zip(ends, (interval.low, interval.high), "<>", strict=True):
        ax.plot(end, row, "|" if np.isfinite(value) else mark, color=color)
    ax.scatter(interval.mid, row, color=color, s=30, zorder=3)
