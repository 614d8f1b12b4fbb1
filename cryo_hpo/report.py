"""The report of a finished study: two figures, and a page that begins with the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from . import tables
from .result import Result, TrialResult

# Source: Okabe and Ito, "Color Universal Design", 2008: told apart with any colour vision.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#595959"
STYLE: Any = {
    "svg.hashsalt": "cryo_hpo",  # the same result gives the same bytes
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
}
DPI = 200  # of the PNG
UNDATED: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "png": {"Software": None}}
LR_FORMAT = FuncFormatter(lambda lr, _: tables.short_lr(lr))
# Without its yellow end, which is hard to see on white.
DARK_VIRIDIS = ListedColormap(mpl.colormaps["viridis"](np.linspace(0, 0.88, 256)))
LOST: dict[str, dict[str, Any]] = {
    "diverged": {"marker": "x", "color": ORANGE},
    "failed": {"marker": "v", "color": GREY},
}
NEAR = 14.0  # pixels from a mark at which a number beside it is still clear
CROWD = 30  # more paused trials than this, and their epochs are not written beside them
LR_RESPONSE, CURVES = "lr-response", "curves"
RUNGS = (
    "Best validation mIoU so far, in percent, where trials were compared; and what was decided "
    "there last, with the trial's place among those that had come so far."
)
NO_RUNGS = "Best validation mIoU in percent; nothing was stopped early."


def write(result: Result, out: Path) -> list[Path]:
    """Write a study's page, trials and figures to a folder, and return the files, page first."""
    out.mkdir(parents=True, exist_ok=True)
    texts = {out / "report.md": markdown(result)}
    if result.trials:
        texts[out / "trials.csv"] = tables.trials_csv(result)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return [*texts, *lr_response(result, out / LR_RESPONSE), *curves(result, out / CURVES)]


def note(result: Result) -> str:
    """Return the verdict and its table: the description of the study's MLflow run."""
    return f"{tables.verdict_table(result)}\n"


def markdown(result: Result) -> str:
    """Return the page: verdict, scores, figures, trials, rungs, costs, provenance."""
    parts = [f"# {result.study}", f"**{tables.verdict_line(result)}**"]
    parts += [f"## {title}\n\n{text}" for title, text in _sections(result)]
    return "\n\n".join(parts) + "\n"


def lr_response(result: Result, path_stem: Path) -> list[Path]:
    """Draw the best validation mIoU of every trial against its learning rate.

    Returns:
        `path_stem` with .svg and .png; nothing if the study has no trials.
    """
    trials = result.trials
    if not trials:
        return []
    with _figure() as fig:
        ax = fig.add_subplot()
        fixed = tables.fixed_lr(result)
        rates = [fixed, *(trial.lr for trial in trials)]
        room = max((max(rates) / min(rates)) ** 0.06, 1.3)
        ax.set_xscale("log")
        ax.set_xlim(min(rates) / room, max(rates) * room)
        ax.xaxis.set_major_locator(_lr_ticks(rates))
        ax.xaxis.set_major_formatter(LR_FORMAT)
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel("Learning rate")
        _miou_axis(ax, [_point(t)[1] for t in trials if t.curve], "Best validation mIoU (%)")
        _fixed_line(ax, fixed)
        _points(ax, result)
        _bottom_edge(ax, trials)
        fig.legend(loc="outside right upper")
        return _save(fig, path_stem)


def curves(result: Result, path_stem: Path) -> list[Path]:
    """Draw how the validation mIoU of every trial rose, coloured by its learning rate.

    Returns:
        `path_stem` with .svg and .png; nothing if no trial finished an epoch.
    """
    trials = [trial for trial in result.trials if trial.curve]
    if not trials:
        return []
    with _figure() as fig:
        ax = fig.add_subplot()
        rates = [trial.lr for trial in trials]
        scale = ScalarMappable(LogNorm(min(rates) / 1.3, max(rates) * 1.3), DARK_VIRIDIS)
        for trial, color in zip(trials, scale.to_rgba(np.array(rates)), strict=True):
            _curve(ax, trial, result, color=color)
        ax.set_xlabel("Epoch")
        ax.set_xlim(0, tables.full_length(result) * 1.02)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        scores = [100 * score for trial in trials for score in trial.curve.values()]
        _miou_axis(ax, scores, "Best validation mIoU so far (%)")
        bar = fig.colorbar(scale, ax=ax, label="Learning rate", pad=0.02, aspect=30)
        bar.ax.yaxis.set_major_locator(_lr_ticks(rates))
        bar.ax.yaxis.set_major_formatter(LR_FORMAT)
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
        _explain_curves(fig, trials, result)
        return _save(fig, path_stem)


def _sections(result: Result) -> Iterator[tuple[str, str]]:
    """Yield the titles and texts of the page; what a study does not have is left out."""
    yield (
        "Scores",
        "Test mIoU and IoU in percent, seed by seed; differences in percentage points.\n\n"
        f"{tables.verdict_markdown(result)}\n\n"
        f"Every arm, means over its seeds:\n\n{tables.scores_markdown(result)}",
    )
    if result.trials:
        yield "Learning rate", f"![Validation mIoU against learning rate]({LR_RESPONSE}.png)"
    changed = _changes(result)
    if changed:
        yield "Winning recipe", f"What it has other than the baseline:\n\n{changed}"
    if result.trials:
        yield "Trials", f"Validation mIoU in percent.\n\n{tables.trials_markdown(result)}"
        yield (
            "Rungs",
            f"{RUNGS if tables.rung_epochs(result) else NO_RUNGS}\n\n{tables.rung_markdown(result)}",
        )
    if any(trial.curve for trial in result.trials):
        yield "Learning curves", f"![Validation mIoU by epoch]({CURVES}.png)"
    yield "Costs", tables.costs_markdown(result)
    yield "Provenance", _provenance(result)


def _changes(result: Result) -> str:
    """Return what the winning recipe has other than the baseline; empty if it is the same."""
    before, after = _flat(result.arm(tables.BASELINE).recipe), _flat(result.best_recipe)
    paths = [p for p in {**before, **after} if p != "seed" and before.get(p) != after.get(p)]
    rows = [(f"`{p}`", tables.plain(before.get(p)), tables.plain(after.get(p))) for p in paths]
    head = ("parameter", tables.BASELINE, tables.TUNED)
    return tables.table(head, rows, left=1) if rows else ""


def _provenance(result: Result) -> str:
    """Return what the result was made of: data, code, versions, machine."""
    facts = _flat(
        {"dataset": result.dataset, "split": result.data_split, "data": result.data_fingerprints}
    )
    facts["mlflow.experiment"] = result.mlflow_experiment
    facts["mlflow.run"] = result.mlflow_run_id
    facts["mlflow.pending"] = result.mlflow_pending or None
    facts |= _flat(result.provenance)
    rows = [(name, tables.plain(v)) for name, v in facts.items() if v is not None]
    return tables.table(("what", "value"), rows, left=2)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings under dotted names."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        nested = isinstance(value, Mapping)
        found |= _flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return found


@contextmanager
def _figure() -> Iterator[Figure]:
    """Give a figure with the house's style, which ends with it."""
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(7.2, 3.8), layout="constrained")
        FigureCanvasAgg(fig)
        yield fig


def _save(fig: Figure, stem: Path) -> list[Path]:
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in UNDATED]
    for path in paths:
        fig.savefig(path, dpi=DPI, metadata=UNDATED[path.suffix[1:]])
    return paths


def _lr_ticks(rates: Sequence[float]) -> LogLocator:
    """Return ticks at decades, and between them if there are few."""
    few = max(rates) / min(rates) < 30
    return LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,))


def _miou_axis(ax: Axes, scores: Sequence[float], label: str) -> None:
    low, high = (min(scores), max(scores)) if scores else (0.0, 100.0)
    room = max(0.08 * (high - low), 0.5)
    ax.set_ylim(low - 2 * room, high + room)
    ax.set_ylabel(label)


def _fixed_line(ax: Axes, lr: float) -> None:
    ax.axvline(lr, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    words, top = f"fixed {tables.short_lr(lr)}", ("data", "axes fraction")
    style: dict[str, Any] = {"textcoords": "offset points", "color": GREY, "va": "top"}
    ax.annotate(words, (lr, 1), xycoords=top, xytext=(4, -2), **style)


def _points(ax: Axes, result: Result) -> None:
    """Mark the trials that have a score: filled at full length, hollow where they were stopped."""
    scored = [t for t in result.trials if t.state in ("complete", "pruned") and t.curve]
    winner = [t for t in scored if t.number == result.winner]
    baseline = [t for t in scored if t.number == 0 and t not in winner]
    rest = [t for t in scored if t not in (*winner, *baseline)]
    paused = [t for t in rest if t.state == "pruned"]
    full = [t for t in rest if t.state == "complete"]
    name = f"winner ({tables.short_lr(winner[0].lr)})" if winner else ""
    _scatter(ax, winner, name, marker="*", s=190, color=BLUE, edgecolor="white", zorder=5)
    _scatter(ax, baseline, "baseline", marker="s", s=42, color="black", zorder=4)
    _scatter(ax, full, "trained to full length", marker="o", s=36, color=BLUE, zorder=4)
    write = len(paused) <= CROWD
    label = "stopped early, at the\nepoch beside it" if write else "stopped early"
    _scatter(ax, paused, label, marker="o", s=30, facecolor="white", edgecolor=BLUE, zorder=3)
    if write:
        _write_epochs(ax, paused, scored)


def _scatter(ax: Axes, trials: Sequence[TrialResult], label: str, **style: Any) -> None:
    if trials:
        ax.scatter(*np.transpose([_point(t) for t in trials]), label=label, **style)


def _point(trial: TrialResult) -> tuple[float, float]:
    return trial.lr, 100 * (trial.best_val_miou or 0.0)


def _write_epochs(ax: Axes, paused: Sequence[TrialResult], scored: Sequence[TrialResult]) -> None:
    """Write beside each paused trial how far it came, where other marks are farthest."""
    dots_XY = [ax.transData.transform(_point(t)) for t in scored]
    for trial in paused:
        here = ax.transData.transform(_point(trial))
        others = [dot for dot in dots_XY if not np.array_equal(dot, here)]
        ways = 8 * np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])
        free = [min((np.hypot(*(here + w - o)) for o in others), default=NEAR) for w in ways]
        # the right side, unless something is near it and another side is freer
        way = ways[int(np.argmax(np.minimum(free, NEAR)))]
        style: dict[str, Any] = {"fontsize": 7, "color": GREY, "ha": "center", "va": "center"}
        ax.annotate(
            str(trial.epochs), _point(trial), xytext=way, textcoords="offset points", **style
        )
        dots_XY.append(here + way)


def _bottom_edge(ax: Axes, trials: Sequence[TrialResult]) -> None:
    """Mark the trials that ended without an answer on the axis itself: they are off the scale."""
    edge: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "clip_on": False, "zorder": 6}
    for state, mark in LOST.items():
        rates = [t.lr for t in trials if t.state == state]
        if rates:
            ax.scatter(rates, [0.0] * len(rates), label=state, **mark, **edge)


def _curve(ax: Axes, trial: TrialResult, result: Result, *, color: Any) -> None:
    """Draw one learning curve and how it ended."""
    epochs, scores = list(trial.curve), [100 * score for score in trial.curve.values()]
    line: dict[str, Any] = {"color": color, "linewidth": 1.2, "zorder": 3}
    if trial.number == 0:
        line |= {"linewidth": 1.8, "linestyle": (0, (4, 2))}
    if trial.number == result.winner:
        line |= {"linewidth": 3.0, "zorder": 4}
    ax.plot(epochs, scores, **line)
    hollow = {"marker": "o", "s": 24, "facecolor": "white", "edgecolor": color}
    ends = {"complete": {"marker": "o", "s": 16, "color": color}, "pruned": hollow, **LOST}
    ax.scatter(epochs[-1], scores[-1], zorder=5, **ends[trial.state])


def _explain_curves(fig: Figure, trials: Sequence[TrialResult], result: Result) -> None:
    """Put a legend above the curves, in grey: colour is the learning rate."""
    numbers, states = {t.number for t in trials}, {t.state for t in trials}
    fixed = f"baseline (fixed {tables.short_lr(tables.fixed_lr(result))})"
    hollow = {"marker": "o", "linestyle": "", "markerfacecolor": "white"}
    lost = [(name, name in states, {**mark, "linestyle": ""}) for name, mark in LOST.items()]
    entries: list[tuple[str, bool, dict[str, Any]]] = [
        ("winner", result.winner in numbers, {"linewidth": 3.0}),
        (fixed, 0 in numbers, {"linewidth": 1.8, "linestyle": (0, (4, 2))}),
        ("stopped early", "pruned" in states, hollow),
        *lost,
    ]
    handles = [
        Line2D([], [], label=label, **{"color": GREY, **style})
        for label, is_there, style in entries
        if is_there
    ]
    if handles:
        fig.legend(handles=handles, loc="outside upper center", ncols=len(handles))
