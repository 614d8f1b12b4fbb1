"""Draw maps of the test scenes in which tuned and baseline differ most."""

# H W pixels

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from numpy.typing import NDArray

from ...data.dataset import IGNORE
from ...data.palette import IGNORED, class_color, rgb
from ...results.files import TEST_MAPS, TEST_SCENES
from ...stats import miou
from .. import wording as tables
from .style import INK, PAPER, WIDTH, OpenFigure, save_axes

NAME = "maps"
# Blue, vermilion and near black differ in lightness too; no class has the last two.
GAINED, LOST, BOTH_WRONG = "#0173B3", "#D65F01", "#2B2B2B"
DIFFERENCE = {  # meaning of a pixel in the last column
    "both right": "#E8E8E8",
    "only tuned right": GAINED,
    "only baseline right": LOST,
    "both wrong": BOTH_WRONG,
}
BESIDE = 0.5  # inches of a row that names and gaps take
LABELED_SHARE = 0.5  # of a scene, below which only the part with labels is drawn
MARGIN = 0.08  # of that part's longer side, drawn around it
BAR_SHARE = 0.35  # of the width of a panel, at most, that a scale bar takes


def maps(folder: Path | None, classes: Sequence[str], stem: Path) -> list[Path]:
    """Draw image, truth, baseline, tuned and their difference, a row for each kept scene.

    Args:
        folder: Folder of the study, with the maps kept when the test split was opened.
        classes: Names of the mask values.
        stem: Path of the files without suffix.

    Returns:
        `stem` with .svg and .png; nothing where no maps were kept.
    """
    return [] if folder is None else save_axes(partial(draw_maps, folder, classes), stem)


def draw_maps(folder: Path, classes: Sequence[str], open_figure: OpenFigure) -> NDArray[Any] | None:
    """Draw the figure of `maps` and return its axes, (scenes, columns); None without kept maps."""
    file = folder / TEST_MAPS
    if not file.exists():
        return None
    with np.load(file, allow_pickle=False) as opened:
        kept = {name: opened[name] for name in opened.files}
    whole = _crop_to_labels(kept)
    scenes, differences = kept["scenes"].tolist(), kept["differences"].tolist()
    arms = [arm for arm in (tables.BASELINE, tables.TUNED) if f"0.{arm}" in kept]
    titles = ["image", "truth", *arms, *(["difference"] if len(arms) == 2 else [])]
    seed = int(kept["seed"]) if "seed" in kept else None
    own = _of_seed(folder, seed, arms)
    shapes = [kept[f"{number}.truth"].shape for number in range(len(scenes))]
    heights = [h / w * _stretch(kept, number) for number, (h, w) in enumerate(shapes)]
    tall = min(max(heights), 2.0)  # of the tallest scene, in widths
    width = (WIDTH - BESIDE) / len(titles)
    fig = open_figure((width * tall + 0.1) * len(scenes) + 1.2)
    grid: NDArray[Any] = fig.subplots(len(scenes), len(titles), squeeze=False)
    for number, (scene, difference) in enumerate(zip(scenes, differences, strict=True)):
        panels = _panels(kept, number, arms, len(classes))
        for ax, panel, title in zip(grid[number], panels, titles, strict=True):
            _show(ax, panel, title if number == 0 else "", stretch=_stretch(kept, number))
        shown = own.get(scene, math.nan)
        grid[number][0].set_ylabel(_name(scene, shown, difference, len(arms)), fontsize=6)
        _draw_ground(grid[number][0], kept, number)
    handles = [Patch(color=class_color(i), label=name) for i, name in enumerate(classes)]
    handles.append(Patch(color=IGNORED, label="no label"))
    fig.legend(handles=handles, loc="outside lower left", ncols=2, fontsize=7, title="classes")
    if len(arms) == 2:
        marks = [Patch(color=color, label=name) for name, color in DIFFERENCE.items()]
        fig.legend(
            handles=marks, loc="outside lower right", ncols=2, fontsize=7, title="difference"
        )
    about = [] if seed is None else [f"maps of seed {seed}"]
    about += [] if whole else ["only the part with labels is drawn where that is less than half"]
    if about:
        fig.suptitle("; ".join(about), fontsize=7, color=INK)
    return grid


def _crop_to_labels(kept: dict[str, NDArray[Any]]) -> bool:
    """Cut scenes to the rectangle of their labels where it is small; return whether all are whole.

    Fronts are often mapped in a narrow band: the rest of the scene would shrink it to a strip.
    """
    whole = True
    for number in range(len(kept["scenes"])):
        part = labeled_part(kept[f"{number}.truth"])
        if part is None:
            continue
        whole = False
        for name, panel in kept.items():
            if name.startswith(f"{number}.") and panel.ndim >= 2:
                kept[name] = panel[part]
    return whole


def labeled_part(truth_HW: NDArray[np.uint8]) -> tuple[slice, slice] | None:
    """Return the rectangle around all labels and a margin, None if it is half of the scene."""
    rows, columns = (np.flatnonzero((truth_HW != IGNORE).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    sides = [int(line[-1] - line[0]) + 1 for line in (rows, columns)]
    margin = math.ceil(MARGIN * max(sides))
    part = tuple(
        slice(max(int(line[0]) - margin, 0), int(line[-1]) + 1 + margin) for line in (rows, columns)
    )
    small = truth_HW[part].size < LABELED_SHARE * truth_HW.size
    return (part[0], part[1]) if small else None


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


def _stretch(kept: dict[str, NDArray[Any]], number: int) -> float:
    """Return height over width of a scene's pixels on the ground; 1 if it was not kept."""
    return float(kept.get(f"{number}.stretch", 1.0))


def _show(ax: Axes, panel: NDArray[Any], title: str, *, stretch: float) -> None:
    # "none": an SVG keeps the pixels as they are
    ax.imshow(panel, interpolation="none", aspect=stretch)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    if title:
        ax.set_title(title, fontsize=8, color=INK)


def _of_seed(folder: Path, seed: int | None, arms: Sequence[str]) -> dict[str, float]:
    """Return each scene's difference in mIoU (or its mIoU) of the seed that is shown."""
    file = folder / TEST_SCENES
    if seed is None or not file.exists():
        return {}
    try:
        with np.load(file, allow_pickle=False) as opened:
            names = [f"{arm}-seed{seed}" for arm in arms]
            ids, scores = opened["scenes"].tolist(), [miou(opened[name]) for name in names]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return {}
    values = scores[1] - scores[0] if len(scores) == 2 else scores[0]
    return dict(zip(ids, np.asarray(values, dtype=float).tolist(), strict=True))


def _name(scene: str, shown: float, mean: float, arms: int) -> str:
    short = scene if len(scene) <= 18 else f"{scene[:8]}..{scene[-8:]}"
    texts = [
        tables.signed(100 * value) if arms == 2 else f"{100 * value:.1f}" for value in (shown, mean)
    ]
    own = "" if math.isnan(shown) else f"{texts[0]} mIoU, "
    return f"{short}\n{own}mean {texts[1]}"


def _draw_ground(ax: Axes, kept: dict[str, NDArray[Any]], number: int) -> None:
    """Draw a scale bar where the pixel size is known, and north and position where they are."""
    width = kept[f"{number}.image"].shape[1]
    height = kept[f"{number}.image"].shape[0]
    if f"{number}.pixel_m" in kept:
        side = float(kept[f"{number}.pixel_m"]) / math.sqrt(_stretch(kept, number))  # its width
        length = nice_length(BAR_SHARE * width * side)
        left, y = 0.05 * width, 0.93 * height
        for color, thick in ((INK, 3.4), (PAPER, 1.8)):  # legible on any image
            ends = [left, left + length / side]
            ax.plot(
                ends, [y, y], color=color, lw=thick, solid_capstyle="butt"
            )  # no longer than they
        text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
        _write(ax, left, 0.9 * height, text, ha="left")
    if f"{number}.ground" in kept:
        longitude, latitude, north = kept[f"{number}.ground"].tolist()
        ax.set_xlabel(format_position(longitude, latitude), fontsize=5, color=INK)
        way = 0.1 * min(width, height)
        dx, dy = way * math.sin(math.radians(north)), -way * math.cos(math.radians(north))
        middle = (0.87 * width, 0.14 * height)
        for color, thick in ((INK, 3.0), (PAPER, 1.2)):
            ax.annotate(
                "",
                (middle[0] + dx, middle[1] + dy),
                (middle[0] - dx, middle[1] - dy),
                arrowprops={"arrowstyle": "-|>", "color": color, "lw": thick},
            )
        _write(ax, middle[0] - 1.8 * way, middle[1], "N", ha="center")


def _write(ax: Axes, x: float, y: float, text: str, *, ha: str) -> None:
    box = {"facecolor": INK, "alpha": 0.55, "edgecolor": "none", "pad": 1}
    ax.text(x, y, text, fontsize=5, color=PAPER, ha=ha, va="bottom", bbox=box)


def nice_length(longest_m: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that is no longer."""
    power = 10.0 ** math.floor(math.log10(longest_m))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= longest_m)


def format_position(longitude: float, latitude: float) -> str:
    """Return coordinates as people write them: 68.92° S, 66.30° W."""
    north, east = "N" if latitude >= 0 else "S", "E" if longitude >= 0 else "W"
    return f"{abs(latitude):.2f}° {north}, {abs(longitude):.2f}° {east}"
