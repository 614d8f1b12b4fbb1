"""Define the style of the figures: colors that the page can exchange, files without a date."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .. import wording as tables

# Source: Okabe and Ito, "Color Universal Design", 2008: distinct in any color vision.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#595959"
INK, GRID, PAPER = "#1A1A1A", "#E6E6E6", "#FFFFFF"
THEME = {  # color of a figure -> the page's variable that replaces it
    BLUE: "blue",
    ORANGE: "orange",
    GREY: "soft",
    INK: "ink",
    GRID: "line",
    PAPER: "paper",
}
# Of medium lightness throughout: legible on white and on black, blue to orange.
LR_COLORS = LinearSegmentedColormap.from_list(
    "lr", ["#2F6FDE", "#7D5BD6", "#C2479B", "#D9542F"], N=256
)
STYLE: Any = {
    "svg.hashsalt": "cryo_hpo",  # the same result gives the same bytes
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "text.parse_math": False,  # a class may be called "$50 ice"
}
WIDTH = 5.4  # inches; 9 pt letters stay legible on a phone
DPI = 200  # of the PNG
UNDATED: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "png": {"Software": None}}
LR_FORMAT = FuncFormatter(lambda lr, _: tables.short_lr(lr))


Drawn = TypeVar("Drawn")  # axes, or an array of them
OpenFigure = Callable[[float], Figure]  # height in inches -> an empty figure


def new_figure(height: float) -> Figure:
    """Return an empty figure of the page's width that only this process draws.

    Args:
        height: Inches.
    """
    fig = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(fig)
    return fig


@contextmanager
def figure(height: float = 3.4) -> Iterator[Figure]:
    """Open a figure in the package's style, and close it at the end.

    Args:
        height: Inches.
    """
    with mpl.rc_context(STYLE):
        yield new_figure(height)


def save(fig: Figure, stem: Path) -> list[Path]:
    """Write a figure as SVG and PNG, and return both paths."""
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in UNDATED]
    for path in paths:
        fig.savefig(path, dpi=DPI, metadata=UNDATED[path.suffix[1:]])
    return paths


def save_axes(draw: Callable[[OpenFigure], Drawn | None], stem: Path) -> list[Path]:
    """Draw in the package's style, write the figure as SVG and PNG, and return both paths.

    Args:
        draw: Draws into a figure that it opens, and returns its axes; None: there is nothing to draw.
        stem: Path of the files without suffix.
    """
    with mpl.rc_context(STYLE):
        axes = draw(new_figure)
        fig = None if axes is None else np.ravel(np.asarray(axes))[0].get_figure(root=True)
        return [] if fig is None else save(fig, stem)


def show_axes(draw: Callable[[OpenFigure], Drawn | None]) -> Drawn | None:
    """Draw in the package's style into a figure of pyplot, which notebooks show."""
    with mpl.rc_context(STYLE):
        axes = draw(_pyplot_figure)
        is_interactive = mpl.is_interactive()
    # A notebook's backend, loaded with its first figure, turns this on for good.
    mpl.interactive(is_interactive)
    return axes


def _pyplot_figure(height: float) -> Figure:
    from matplotlib import pyplot as plt  # chooses a backend, so only where it is used

    return plt.figure(figsize=(WIDTH, height), layout="constrained")


def lr_axis(ax: Axes, rates: Sequence[float], *, room: float = 0.06) -> None:
    """Make the horizontal axis a log axis of learning rates."""
    margin = max((max(rates) / min(rates)) ** room, 1.3)
    ax.set_xscale("log")
    ax.set_xlim(min(rates) / margin, max(rates) * margin)
    ax.xaxis.set_major_locator(lr_ticks(rates))
    ax.xaxis.set_major_formatter(LR_FORMAT)
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("Learning rate")


def lr_ticks(rates: Sequence[float]) -> LogLocator:
    """Return ticks at decades, with ticks in between if there are few."""
    few = max(rates) / min(rates) < 30
    return LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,))


def miou_axis(ax: Axes, scores: Sequence[float], label: str) -> None:
    """Make the vertical axis one of scores in percent, with some margin."""
    low, high = (min(scores), max(scores)) if scores else (0.0, 100.0)
    room = max(0.08 * (high - low), 0.5)
    ax.set_ylim(low - 2 * room, high + room)
    ax.set_ylabel(label)
