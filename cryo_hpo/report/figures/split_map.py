"""Draw the split of a dataset as a map: which ground, regions or dates each part holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ...data.footprints import Footprint, Frame, count_by_region, frames_of
from ...data.split_plan import date_of
from .map_names import HOW_TO_FIND, Name, keep_legible, write_names

if TYPE_CHECKING:
    from ...data.dataset import Dataset, SceneFiles, Split

# Blue, orange and green of Okabe and Ito (see data/palette.py), of different lightness too; hatches
# tell the parts apart in gray.
PART_COLORS = {"train": "#0173B3", "val": "#E69F00", "test": "#009E73"}
HATCHES = {"train": "", "val": "////", "test": "...."}
UNUSED = "#D9D9D9"  # of a scene: the gap between parts, and ground without labels
MAX_FRAMES, MAX_REGIONS = 12, 40  # drawn; the others are counted
LEAST_SHARE = 1 / 80  # of the axes: smaller scenes get a dot, or nobody would see them
PANEL_IN, DPI = 5.0, 200


@mpl.rc_context({"text.parse_math": False, "hatch.linewidth": 0.6, "font.size": 7})
def split_map(dataset: Dataset, parts: Mapping[Split, Sequence[SceneFiles]], path: Path) -> Path:
    """Draw where the parts of a split lie.

    Scenes and blocks with a place are drawn on the ground, blocks of scenes without one in pixels.
    Other scenes are counted by region. A split by time is drawn over the dates.

    Args:
        dataset: Gives name and rule of the split.
        parts: Scenes of each part.
        path: The PNG to write.

    Raises:
        DataError: A file cannot be read, or an id has no date in a split by time.
    """
    by_time = dataset.rule is not None and dataset.rule.by == "time"
    frames = [] if by_time else frames_of(parts)
    drawn = frames[:MAX_FRAMES]
    placed = sum(len(frame.footprints) for frame in frames)
    whole = sum(map(len, parts.values()))
    columns = min(max(len(drawn), 1), 3)
    rows = -(-max(len(drawn), 1) // columns)
    extra = by_time or placed < whole
    figure = Figure(
        figsize=(
            PANEL_IN * columns * 0.8,
            PANEL_IN * 0.8 * (rows if drawn else 0) + 2.2 * extra + 0.8,
        ),
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    heights = [PANEL_IN * 0.8] * (rows if drawn else 0) + [2.2] * extra
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    names: list[Name] = []
    for number, frame in enumerate(drawn):
        axes = figure.add_subplot(grid[number // columns, number % columns])
        _draw_frame(axes, frame)
        names += write_names(axes, frame.footprints)
    if extra:
        axes = figure.add_subplot(grid[-1, :])
        if by_time:
            _draw_dates(axes, dataset, parts)
        else:
            _draw_regions(axes, parts)
    left_out = f"; {len(frames) - len(drawn)} more scenes" if len(frames) > len(drawn) else ""
    figure.suptitle(f"{dataset.name}, split {dataset.split_name}{left_out}", fontsize=8)
    is_cut = any(p.block for frame in drawn for p in frame.footprints)
    figure.legend(
        handles=_legend(parts, gap=bool(frames)),
        loc="outside lower center",
        ncols=4,
        title=HOW_TO_FIND if is_cut else None,
        title_fontsize=6,
    )
    keep_legible(figure, names)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    return path


def _legend(parts: Mapping[Split, Sequence[SceneFiles]], *, gap: bool) -> list[Patch]:
    handles = [
        Patch(facecolor=PART_COLORS[part], hatch=HATCHES[part], edgecolor="white", label=label)
        for part, items in parts.items()
        for label in [f"{part} ({len(items)})"]
    ]
    return [*handles, Patch(color=UNUSED, label="in no part")] if gap else handles


def _draw_frame(axes: Any, frame: Frame) -> None:
    """Draw the footprints of a frame: whole scenes in gray, and above them what each part holds."""
    prints = frame.footprints
    axes.set_title(f"{frame.title}, {frame.crs or frame.unit}", fontsize=7)
    if not prints:
        return
    outlines = np.unique(np.stack([p.whole for p in prints]), axis=0)
    axes.add_collection(PolyCollection(list(outlines), facecolors=UNUSED, edgecolors="none"))
    low, high = outlines.min(axis=(0, 1)), outlines.max(axis=(0, 1))
    room = max(*(high - low), 1e-9) * 0.03
    for part in PART_COLORS:
        own = [p for p in prints if p.part == part]
        _draw_part(axes, own, part, extent=max(*(high - low), 1e-9))
    axes.set_xlim(low[0] - room, high[0] + room)
    axes.set_ylim(low[1] - room, high[1] + room)
    if frame.unit == "pixels":
        axes.invert_yaxis()
    squeeze = (
        np.cos(np.radians(min(abs(low[1] + high[1]) / 2, 85))) if frame.unit == "degrees" else 1
    )
    axes.set_aspect(1 / squeeze)
    axes.set_xlabel(frame.unit)
    axes.tick_params(labelsize=6)


def _draw_part(axes: Any, own: Sequence[Footprint], part: str, *, extent: float) -> None:
    axes.add_collection(
        PolyCollection(
            [p.corners for p in own],
            facecolors=PART_COLORS[part],
            edgecolors="white",
            hatch=HATCHES[part],
            linewidths=0,
            label=part,
        )
    )
    small = [
        p.corners.mean(axis=0)
        for p in own
        if np.ptp(p.corners, axis=0).max() < extent * LEAST_SHARE
    ]
    if small:
        axes.scatter(*np.array(small).T, s=9, color=PART_COLORS[part], linewidths=0)


def _draw_regions(axes: Any, parts: Mapping[Split, Sequence[SceneFiles]]) -> None:
    """Draw the number of scenes of each region by part, as bars."""
    counts = count_by_region(parts)
    shown = dict(sorted(counts.items(), key=lambda pair: -sum(pair[1].values()))[:MAX_REGIONS])
    for row, numbers in enumerate(shown.values()):
        left = 0
        for part, number in numbers.items():
            axes.barh(
                row,
                number,
                left=left,
                color=PART_COLORS[part],
                hatch=HATCHES[part],
                edgecolor="white",
                linewidth=0,
            )
            left += number
    axes.set_yticks(
        range(len(shown)), [name or "all" for name in shown], fontsize=5 if len(shown) > 12 else 7
    )
    axes.invert_yaxis()
    more = f"; {len(counts) - len(shown)} more regions" if len(counts) > len(shown) else ""
    axes.set_xlabel(
        f"scenes by region{more}" if set(counts) != {""} else "scenes, without place or region"
    )


def _draw_dates(axes: Any, dataset: Dataset, parts: Mapping[Split, Sequence[SceneFiles]]) -> None:
    """Draw a row of dates for each part, in their order; equal dates are one place."""
    assert dataset.rule is not None
    rule = dataset.rule
    dates = {p: [date_of(dataset.name, rule, i) for i in items] for p, items in parts.items()}
    ordered = sorted({date for own in dates.values() for date in own})
    for row, (part, own) in enumerate(dates.items()):
        places = [ordered.index(date) for date in own]
        axes.scatter(
            places, [row] * len(places), color=PART_COLORS[part], marker="s", s=30, label=part
        )
    axes.set_yticks(range(len(dates)), list(dates))
    axes.set_ylim(len(dates) - 0.5, -0.5)
    step = -(-len(ordered) // 12)
    axes.set_xticks(range(0, len(ordered), step), ordered[::step], rotation=30, ha="right")
