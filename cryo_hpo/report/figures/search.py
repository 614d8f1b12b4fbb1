"""Draw the figures of the search: the response to the learning rate, and the learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter

from ...results.lr_response import LrResponse, response
from ...results.study import Result, TrialResult
from .. import wording as tables
from ..selection import Selection
from .style import (
    BLUE,
    GREY,
    INK,
    LR_COLORS,
    LR_FORMAT,
    ORANGE,
    PAPER,
    OpenFigure,
    figure,
    lr_axis,
    lr_ticks,
    miou_axis,
    save,
    save_axes,
)

LOST: dict[str, dict[str, Any]] = {
    "diverged": {"marker": "x", "color": ORANGE},
    "failed": {"marker": "v", "color": GREY},
}
NEAR = 14.0  # pixels from a mark at which a number beside it is still legible
CROWD = 30  # with more paused trials than this, their epochs are not written beside them
LR_RESPONSE, CURVES = "lr-response", "curves"


def lr_response(result: Result, path_stem: Path) -> list[Path]:
    """Draw the best validation mIoU of every trial against its learning rate.

    The band is the plateau, hatching marks divergence, lines are the fixed and the
    recommended learning rate; see `lr_response.LrResponse`.

    Returns:
        `path_stem` with .svg and .png; nothing if the study has no trials.
    """
    return save_axes(partial(draw_lr_response, result), path_stem)


def draw_lr_response(result: Result, open_figure: OpenFigure) -> Axes | None:
    """Draw the figure of `lr_response` and return its axes; None if the study has no trials."""
    trials, curve = result.trials, response(result)
    if curve is None:
        return None
    fig = open_figure(3.6)
    ax = fig.add_subplot()
    lr_axis(ax, [curve.fixed_lr, *(trial.lr for trial in trials)])
    shown = Selection.of(result)
    scores = [_point(t, shown)[1] for t in trials if t.curve]
    miou_axis(ax, scores, f"Best validation {shown.label}")
    _ranges(ax, curve)
    _fixed_line(ax, curve.fixed_lr)
    _points(ax, result)
    _bottom_edge(ax, trials)
    fig.legend(loc="outside upper center", ncols=2)
    return ax


def _ranges(ax: Axes, curve: LrResponse) -> None:
    """Shade the plateau and the range beyond the divergence edge; mark the recommendation."""
    if curve.plateau_low is not None and curve.plateau_high is not None:
        low, high = curve.plateau_low / 1.04, curve.plateau_high * 1.04
        label = "plateau, within noise of the best"
        ax.axvspan(low, high, color=BLUE, alpha=0.13, lw=0, zorder=0, label=label)
    if curve.recommended_lr is not None:
        label = f"recommended ({tables.short_lr(curve.recommended_lr)})"
        ax.axvline(curve.recommended_lr, color=BLUE, lw=1, zorder=1, label=label)
    if curve.divergence_edge is not None:
        label = f"diverged from {tables.short_lr(curve.divergence_edge)}"
        end = ax.get_xlim()[1]
        ax.axvspan(
            curve.divergence_edge, end, color=ORANGE, alpha=0.12, lw=0, zorder=0, label=label
        )


def curves(result: Result, path_stem: Path) -> list[Path]:
    """Draw the validation mIoU of every trial over its epochs, colored by learning rate.

    Returns:
        `path_stem` with .svg and .png; nothing if no trial finished an epoch.
    """
    trials = [trial for trial in result.trials if trial.curve]
    if not trials:
        return []
    with figure() as fig:
        ax = fig.add_subplot()
        rates = [trial.lr for trial in trials]
        scale = ScalarMappable(LogNorm(min(rates) / 1.3, max(rates) * 1.3), LR_COLORS)
        for trial, color in zip(trials, scale.to_rgba(np.array(rates)), strict=True):
            _curve(ax, trial, result, color=color)
        ax.set_xlabel("Epoch")
        ax.set_xlim(0, tables.full_length(result) * 1.02)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        shown = Selection.of(result)
        scores = [shown.value(score) for trial in trials for score in trial.curve.values()]
        miou_axis(ax, scores, f"Best validation {shown.label} so far")
        bar = fig.colorbar(scale, ax=ax, label="Learning rate", pad=0.02, aspect=30)
        bar.ax.yaxis.set_major_locator(lr_ticks(rates))
        bar.ax.yaxis.set_major_formatter(LR_FORMAT)
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
        _explain_curves(fig, trials, result)
        return save(fig, path_stem)


def _fixed_line(ax: Axes, lr: float) -> None:
    ax.axvline(lr, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    words, top = f"fixed {tables.short_lr(lr)}", ("data", "axes fraction")
    style: dict[str, Any] = {"textcoords": "offset points", "color": GREY, "va": "top"}
    ax.annotate(words, (lr, 1), xycoords=top, xytext=(4, -2), **style)


def _points(ax: Axes, result: Result) -> None:
    """Mark the trials that have a score: filled if complete, hollow if pruned."""
    scored = [t for t in result.trials if t.state in ("complete", "pruned") and t.curve]
    winner = [t for t in scored if t.number == result.winner]
    baseline = [t for t in scored if t.number == 0 and t not in winner]
    rest = [t for t in scored if t not in (*winner, *baseline)]
    paused = [t for t in rest if t.state == "pruned"]
    full = [t for t in rest if t.state == "complete"]
    name = f"winner ({tables.short_lr(winner[0].lr)})" if winner else ""
    mark = partial(_scatter, ax, Selection.of(result))
    mark(winner, name, marker="*", s=190, color=BLUE, edgecolor=PAPER, zorder=5)
    waited = bool(baseline) and baseline[0].state == "pruned"
    inside = PAPER if waited else INK
    mark(baseline, "baseline", marker="s", s=42, facecolor=inside, edgecolor=INK, zorder=4)
    mark(full, "complete", marker="o", s=36, color=BLUE, zorder=4)
    beside = [*paused, *baseline] if waited else paused
    write = len(beside) <= CROWD
    label = "pruned, at the epoch beside it" if write else "pruned"
    mark(paused, label, marker="o", s=30, facecolor=PAPER, edgecolor=BLUE, zorder=3)
    if write:
        _write_epochs(ax, beside, scored, Selection.of(result))


def _scatter(
    ax: Axes, shown: Selection, trials: Sequence[TrialResult], label: str, **style: Any
) -> None:
    if trials:
        ax.scatter(*np.transpose([_point(t, shown) for t in trials]), label=label, **style)


def _point(trial: TrialResult, shown: Selection) -> tuple[float, float]:
    return trial.lr, shown.value(trial.score)


def _write_epochs(
    ax: Axes, paused: Sequence[TrialResult], scored: Sequence[TrialResult], shown: Selection
) -> None:
    """Write its epochs beside each paused trial, on the side where other marks are farthest."""
    dots_XY = [ax.transData.transform(_point(t, shown)) for t in scored]
    for trial in paused:
        own = ax.transData.transform(_point(trial, shown))
        others = [dot for dot in dots_XY if not np.array_equal(dot, own)]
        ways = 8 * np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])
        free = [min((np.hypot(*(own + w - o)) for o in others), default=NEAR) for w in ways]
        # the right side, unless something is near it and another side is freer
        way = ways[int(np.argmax(np.minimum(free, NEAR)))]
        style: dict[str, Any] = {"fontsize": 7, "color": GREY, "ha": "center", "va": "center"}
        ax.annotate(
            str(trial.epochs), _point(trial, shown), xytext=way, textcoords="offset points", **style
        )
        dots_XY.append(own + way)


def _bottom_edge(ax: Axes, trials: Sequence[TrialResult]) -> None:
    """Mark the trials that ended without a score on the axis itself: they are off the scale."""
    edge: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "clip_on": False, "zorder": 6}
    for state, mark in LOST.items():
        rates = [t.lr for t in trials if t.state == state]
        if rates:
            ax.scatter(rates, [0.0] * len(rates), label=state, **mark, **edge)


def _curve(ax: Axes, trial: TrialResult, result: Result, *, color: Any) -> None:
    """Draw one learning curve and a mark for its end."""
    shown = Selection.of(result)
    epochs, scores = list(trial.curve), [shown.value(score) for score in trial.curve.values()]
    line: dict[str, Any] = {"color": color, "linewidth": 1.2, "zorder": 3}
    if trial.number == 0:
        line |= {"linewidth": 1.8, "linestyle": (0, (4, 2))}
    if trial.number == result.winner:
        line |= {"linewidth": 3.0, "zorder": 4}
    ax.plot(epochs, scores, **line)
    hollow = {"marker": "o", "s": 24, "facecolor": PAPER, "edgecolor": color}
    ends = {"complete": {"marker": "o", "s": 16, "color": color}, "pruned": hollow, **LOST}
    ax.scatter(epochs[-1], scores[-1], zorder=5, **ends[trial.state])


def _explain_curves(fig: Figure, trials: Sequence[TrialResult], result: Result) -> None:
    """Put a legend above the curves, in gray: color is the learning rate."""
    numbers, states = {t.number for t in trials}, {t.state for t in trials}
    fixed = f"baseline (fixed {tables.short_lr(tables.fixed_lr(result))})"
    hollow = {"marker": "o", "linestyle": "", "markerfacecolor": PAPER}
    lost = [(name, name in states, {**mark, "linestyle": ""}) for name, mark in LOST.items()]
    entries: list[tuple[str, bool, dict[str, Any]]] = [
        ("winner", result.winner in numbers, {"linewidth": 3.0}),
        (fixed, 0 in numbers, {"linewidth": 1.8, "linestyle": (0, (4, 2))}),
        ("pruned", "pruned" in states, hollow),
        *lost,
    ]
    handles = [
        Line2D([], [], label=label, **{"color": GREY, **style})
        for label, is_there, style in entries
        if is_there
    ]
    if handles:
        fig.legend(
            handles=handles,
            loc="outside upper center",
            ncols=min(len(handles), 2 + (len(handles) == 3)),
        )
