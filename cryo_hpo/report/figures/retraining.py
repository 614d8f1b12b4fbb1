"""Draw the learning curves of the compared trainings: every epoch's score, and the best so far."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ...config.metric import MIOU
from ...results import epochs as recording
from ...results.files import CONFIRM, REUSED
from ...results.study import Result
from .. import wording as tables
from ..selection import Selection
from .style import BLUE, GREY, INK, figure, miou_axis, save

RETRAINING = "retraining-curves"
COLORS = {tables.BASELINE: GREY, tables.TUNED: BLUE}
# The arm is the color, the kind of score the line: dotted and thin, or solid and thick.
EACH: dict[str, Any] = {"linewidth": 0.9, "linestyle": ":", "alpha": 0.8}
BEST: dict[str, Any] = {"linewidth": 1.8, "linestyle": "-", "alpha": 0.9}


def retraining(result: Result, folder: Path | None, stem: Path) -> list[Path]:
    """Draw the validation score of every compared training over its epochs.

    Args:
        result: Result of a finished study.
        folder: Folder of the study, with the events of its epochs.
        stem: Path of the files without suffix.

    Returns:
        `stem` with .svg and .png; nothing where no epochs are recorded.
    """
    arms = [arm for arm in result.arms if arm.name in COLORS]
    if folder is None or not arms:
        return []
    recorded, shown = recording.by_key(folder), Selection.of(result)
    drawn: list[float] = []
    with figure(3.2) as fig:
        ax = fig.add_subplot()
        for arm in arms:
            for seed in arm.seeds:
                name = f"{arm.name}-seed{seed.seed}"
                history = [*_taken(folder / CONFIRM / name / REUSED), *recorded.get(name, ())]
                drawn += _draw(ax, history, shown, color=COLORS[arm.name])
        if not drawn:
            return []
        ax.set_xlabel("Epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        miou_axis(ax, drawn, f"Validation {shown.label}")
        handles = [
            *(Patch(facecolor=COLORS[arm.name], label=arm.name) for arm in arms),
            Line2D([], [], color=INK, **EACH, label="each epoch"),
            Line2D([], [], color=INK, **BEST, label="best so far"),
        ]
        fig.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        return save(fig, stem)


def _draw(
    ax: Axes, history: Sequence[Mapping[str, Any]], shown: Selection, *, color: str
) -> list[float]:
    """Draw one training, and return its values."""
    raw = [(e["epoch"], _raw(e, shown)) for e in history]
    best = [(e["epoch"], shown.value(recording.score_of(e))) for e in history]
    values: list[float] = []
    for pairs, style in ((raw, EACH), (best, BEST)):
        finite = [(epoch, value) for epoch, value in pairs if math.isfinite(value)]
        if finite:
            ax.plot(*zip(*finite, strict=True), color=color, **style)
            values += [value for _, value in finite]
    return values


def _raw(epoch: Mapping[str, Any], shown: Selection) -> float:
    """Return the metric of an epoch itself in its unit; nan where it was not scored."""
    if shown.name == MIOU:
        return 100 * float(epoch.get("val_miou", math.nan))
    value = float(epoch.get("val_metric", math.nan))
    return 100 * value if shown.unit == "%" else value


def _taken(file: Path) -> list[dict[str, Any]]:
    """Return the epochs that were trained elsewhere; none where the file is missing or damaged."""
    try:
        history: list[dict[str, Any]] = json.loads(file.read_bytes())["history"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return history
