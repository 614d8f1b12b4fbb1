"""Draw what each mask value shows: a row for each value, cut-outs of scenes with its pixels marked."""

# H W pixels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ...data.preview import thumbnail
from ..wording import percent_of

if TYPE_CHECKING:
    from ...data.value_examples import Example, ValueExamples

CELL_IN = 1.25
SHOWN_PX = 320  # longest side that is drawn
DPI = 200
MARK = np.array([0.90, 0.62, 0.0])  # orange of Okabe and Ito
STRENGTH = 0.65  # of the mark over the image
COLUMNS = 3


@mpl.rc_context({"text.parse_math": False})  # a class may be called "$50 ice"
def value_sheet(
    rows: Sequence[ValueExamples], names: Mapping[str, str], path: Path, *, title: str
) -> Path:
    """Draw the sheet.

    Args:
        rows: Examples of each mask value.
        names: Mask value -> its class, as far as known.
        path: The PNG to write.
        title: Line above the rows.
    """
    columns = min(COLUMNS, max((len(row.examples) for row in rows), default=1))
    size = (CELL_IN * (2 * columns + 1), CELL_IN * len(rows) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(rows), 2 * columns + 1)
    for number, row in enumerate(rows):
        label = figure.add_subplot(grid[number, 0])
        label.axis("off")
        words = (row.name, names.get(row.name, ""), f"{percent_of(row.share)} of the pixels")
        label.text(0.5, 0.5, "\n".join(filter(None, words)), ha="center", va="center", fontsize=7)
        for column, example in enumerate(row.examples):
            cells = [figure.add_subplot(grid[number, 2 * column + i]) for i in (1, 2)]
            for cell, picture in zip(cells, _pictures(example), strict=True):
                cell.imshow(thumbnail(picture, SHOWN_PX), interpolation="nearest")
                cell.set_xticks([])
                cell.set_yticks([])
            cells[0].set_title(_short(example.id), fontsize=5, pad=2)
    figure.suptitle(title, fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    return path


def _pictures(example: Example) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the image, and the image with the pixels of the value marked, (H, W, 3)."""
    view = example.view if example.view.ndim == 3 else np.repeat(example.view[..., None], 3, -1)
    marked = view.copy()
    marked[example.there_HW] = (1 - STRENGTH) * view[example.there_HW] + STRENGTH * MARK
    return view, marked


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:11]}..{name[-11:]}"
