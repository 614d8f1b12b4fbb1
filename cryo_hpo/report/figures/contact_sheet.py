"""Draw a contact sheet: scenes of a dataset beside their masks, and the shares of its classes."""

# C bands, H W pixels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from ...data.dataset import IGNORE
from ...data.ground import ground_of
from ...data.palette import IGNORED, class_color, rgb
from ...data.preview import render_scene, thumbnail
from ...data.strips import read_sample
from ...errors import count_of

if TYPE_CHECKING:
    from ...data.dataset import Dataset, Scene, SceneFiles, Split

CELL_IN = 1.25
SHOWN_PX = 320  # longest side that is drawn
SAMPLE_PX = 2048  # longest side that is read of a large scene
DPI = 300


@mpl.rc_context({"text.parse_math": False})  # a class may be called "$50 ice"
def contact_sheet(
    dataset: Dataset,
    parts: Mapping[Split, Sequence[SceneFiles]],
    shares: Mapping[Split, Sequence[float]],
    path: Path,
    *,
    columns: int,
) -> Path:
    """Draw the contact sheet of a dataset.

    Args:
        dataset: Reads the scenes.
        parts: Scenes of each part; evenly spaced ones are drawn.
        shares: Shares of each part's pixels: of every class, and last of ignored ones.
        path: The PNG to write.
        columns: Number of scenes of each part.

    Raises:
        DataError: A scene cannot be read.
    """
    width = CELL_IN * columns + 0.5
    figure = Figure(figsize=(width, 2 * CELL_IN * len(parts) + 1.5), layout="constrained")
    FigureCanvasAgg(figure)
    heights = [CELL_IN] * (2 * len(parts)) + [1.1]
    grid = figure.add_gridspec(2 * len(parts) + 1, columns, height_ratios=heights)
    for row, (part, items) in enumerate(parts.items()):
        drawn = _spread(items, columns)
        for column, item in enumerate(drawn):
            scene = read_sample(dataset, item, side=SAMPLE_PX)
            ground = ground_of(item)
            look: Any = {"interpolation": "nearest", "aspect": ground.stretch if ground else 1.0}
            shown, mask = (figure.add_subplot(grid[2 * row + i, column]) for i in range(2))
            seen = render_scene(dataset.bands, scene.image_CHW, scene.mask_HW)
            shown.imshow(thumbnail(seen, SHOWN_PX), cmap="gray", **look)
            mask.imshow(thumbnail(_painted(scene), SHOWN_PX), **look)
            shown.set_title(_short(scene.id), fontsize=5, pad=2)
            for axes in (shown, mask):
                axes.set_xticks([])
                axes.set_yticks([])
            if column == 0:
                number = share_drawn(len(drawn), len(items), dataset.unit)
                shown.set_ylabel(f"{part}: {number}", fontsize=7)
    _draw_shares(figure.add_subplot(grid[-1, :]), dataset, shares)
    handles = [Patch(color=class_color(i), label=name) for i, name in enumerate(dataset.classes)]
    handles.append(Patch(color=IGNORED, label="no label"))
    bands = " ".join(band.name for band in dataset.bands)
    title = "; ".join(filter(None, (f"{dataset.name}: {bands}", dataset.license)))
    figure.suptitle(title, fontsize=7, wrap=True)
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=6, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    return path


def _spread(items: Sequence[SceneFiles], count: int) -> list[SceneFiles]:
    """Pick evenly spaced scenes."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[i] for i in dict.fromkeys(places.tolist())]


def share_drawn(drawn: int, of: int, unit: str) -> str:
    """Return how many of a part's scenes a sheet shows: "12 of 100 scenes", or "8 scenes" if all."""
    return count_of(of, unit) if drawn == of else f"{drawn} of {count_of(of, unit)}"


def _painted(scene: Scene) -> NDArray[np.uint8]:
    """Return the mask in colors, (H, W, 3)."""
    palette = np.full((256, 3), 0, dtype=np.uint8)
    for value in range(IGNORE):
        palette[value] = rgb(class_color(value))
    palette[IGNORE] = rgb(IGNORED)
    painted: NDArray[np.uint8] = palette[scene.mask_HW]
    return painted


def _draw_shares(axes: Any, dataset: Dataset, shares: Mapping[Split, Sequence[float]]) -> None:
    colors = [*map(class_color, range(len(dataset.classes))), IGNORED]
    for row, (part, values) in enumerate(shares.items()):
        left = 0.0
        for value, color in zip(values, colors, strict=True):
            axes.barh(row, value, left=left, color=color, height=0.7)
            if value >= 0.04:
                axes.text(
                    left + value / 2, row, f"{value:.0%}", ha="center", va="center", fontsize=6
                )
            left += value
        axes.text(-0.01, row, part, ha="right", va="center", fontsize=7)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(shares) - 0.5, -0.5)
    axes.set_title("share of pixels", fontsize=7)
    axes.axis("off")


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:11]}..{name[-11:]}"
