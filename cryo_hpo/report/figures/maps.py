"""Draw maps of the test scenes in which tuned and baseline differ most."""

# H W pixels

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from numpy.typing import NDArray

from ...data.dataset import IGNORE
from ...data.palette import IGNORED, class_color, rgb
from ...results.files import TEST_MAPS
from .. import wording as tables
from .style import INK, WIDTH, figure, save

NAME = "maps"
GAINED, LOST, BOTH_WRONG = "#009E73", "#D65F01", "#F2C14E"
DIFFERENCE = {  # meaning of a pixel in the last column
    "both right": "#E8E8E8",
    "tuned alone right": GAINED,
    "baseline alone right": LOST,
    "both wrong": BOTH_WRONG,
}


def maps(folder: Path | None, classes: Sequence[str], stem: Path) -> list[Path]:
    """Draw image, truth, baseline, tuned and their difference, a row for each kept scene.

    Args:
        folder: Folder of the study, with the maps kept when the test split was opened.
        classes: Names of the mask values.
        stem: Path of the files without suffix.

    Returns:
        `stem` with .svg and .png; nothing where no maps were kept.
    """
    file = None if folder is None else folder / TEST_MAPS
    if file is None or not file.exists():
        return []
    with np.load(file, allow_pickle=False) as opened:
        kept = {name: opened[name] for name in opened.files}
    scenes, differences = kept["scenes"].tolist(), kept["differences"].tolist()
    arms = [arm for arm in (tables.BASELINE, tables.TUNED) if f"0.{arm}" in kept]
    titles = ["image", "truth", *arms, *(["difference"] if len(arms) == 2 else [])]
    shapes = [kept[f"{number}.truth"].shape for number in range(len(scenes))]
    tall = min(max(height / width for height, width in shapes), 2.0)  # of the tallest scene
    with figure((WIDTH / len(titles) * tall + 0.16) * len(scenes) + 0.9) as fig:
        grid = fig.subplots(len(scenes), len(titles), squeeze=False)
        for number, (scene, difference) in enumerate(zip(scenes, differences, strict=True)):
            panels = _panels(kept, number, arms, len(classes))
            for ax, panel, title in zip(grid[number], panels, titles, strict=True):
                _show(ax, panel, title if number == 0 else "")
            grid[number][0].set_ylabel(_name(scene, difference, len(arms)), fontsize=6)
        handles = [Patch(color=class_color(i), label=name) for i, name in enumerate(classes)]
        if len(arms) == 2:
            handles += [Patch(color=color, label=name) for name, color in DIFFERENCE.items()]
        fig.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=7)
        return save(fig, stem)


def _panels(
    kept: dict[str, NDArray[Any]], number: int, arms: Sequence[str], num: int
) -> list[NDArray[Any]]:
    image, truth = kept[f"{number}.image"], kept[f"{number}.truth"]
    shown = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)
    predicted = [kept[f"{number}.{arm}"] for arm in arms]
    painted = [_painted(each, truth, num) for each in (truth, *predicted)]
    return [shown, *painted, *([_difference(truth, *predicted)] if len(predicted) == 2 else [])]


def _painted(map_HW: NDArray[np.uint8], truth_HW: NDArray[np.uint8], num: int) -> NDArray[np.uint8]:
    palette = np.array([rgb(class_color(i)) for i in range(num)], dtype=np.uint8)
    painted: NDArray[np.uint8] = palette[np.minimum(map_HW, num - 1)]
    painted[truth_HW == IGNORE] = rgb(IGNORED)
    return painted


def _difference(
    truth: NDArray[np.uint8], baseline: NDArray[np.uint8], tuned: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Color each pixel by which arms are right, (H, W, 3)."""
    code = np.select(
        [(baseline == truth) & (tuned == truth), tuned == truth, baseline == truth], [0, 1, 2], 3
    )
    palette = np.array([rgb(color) for color in DIFFERENCE.values()], dtype=np.uint8)
    painted: NDArray[np.uint8] = palette[code]
    painted[truth == IGNORE] = rgb(IGNORED)
    return painted


def _show(ax: Axes, panel: NDArray[Any], title: str) -> None:
    ax.imshow(panel, interpolation="none")  # an SVG keeps the pixels as they are
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    if title:
        ax.set_title(title, fontsize=8, color=INK)


def _name(scene: str, difference: float, arms: int) -> str:
    short = scene if len(scene) <= 18 else f"{scene[:8]}..{scene[-8:]}"
    points = 100 * difference
    return f"{short}\n{tables.signed(points)} mIoU" if arms == 2 else f"{short}\n{points:.1f} mIoU"
