"""Show a study's result in a notebook: HTML, and figures as axes of matplotlib."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from numpy.typing import NDArray

from ..errors import DataError
from ..results.study import Result
from . import table as tables
from .costs import cost_line, costs
from .figures.comparison import draw_seeds
from .figures.maps import draw_maps
from .figures.search import draw_lr_response
from .figures.style import Drawn, show_axes
from .verdict import verdict, verdict_line
from .warning import warnings


def html(result: Result) -> str:
    """Return warnings, verdict, scores of the repeats and costs; names in them are escaped."""
    parts = [
        f"<h4>{tables.rich(result.study)}</h4>",
        *(f"<p><strong>Warning:</strong> {tables.rich(text)}</p>" for text in warnings(result)),
        f"<p><strong>{tables.rich(verdict_line(result))}</strong></p>",
        *([tables.html(verdict(result))] if result.arms else []),
        f"<p>{tables.rich(cost_line(result))}</p>",
        tables.html(costs(result)),
    ]
    return "\n".join(parts)


def plot_lr_response(result: Result) -> Axes:
    """Draw validation scores against the learning rate; see `Result.plot_lr_response`."""
    return _drawn(
        show_axes(partial(draw_lr_response, result)),
        f"'{result.study}' has no search, so no response to the learning rate can be drawn. "
        "Give the study a `search`.",
    )


def plot_seeds(result: Result) -> NDArray[Any]:
    """Draw the pairs of scores, and the intervals of the gain; see `Result.plot_seeds`."""
    why = (
        "the baseline won its own search. `plot_lr_response()` shows its trials."
        if result.winner_is_baseline
        else f"`proof` is '{result.proof}'. `cryo-hpo extend {result.study} --proof full` adds it."
    )
    return _drawn(
        show_axes(partial(draw_seeds, result)),
        f"'{result.study}' compares no tuned recipe with the baseline, so there are no pairs to "
        f"draw: {why}",
    )


def plot_maps(result: Result, folder: Path) -> NDArray[Any]:
    """Draw the maps that a study's folder keeps; see `Result.plot_maps`."""
    return _drawn(
        show_axes(partial(draw_maps, folder, result.classes)),
        f"'{folder}' keeps no maps of the test split: they are written when it is opened, and "
        "`proof: none` never opens it. Give the folder of a study with a comparison.",
    )


def _drawn(axes: Drawn | None, message: str) -> Drawn:
    """Return axes, or refuse to return nothing.

    Raises:
        DataError: There is nothing to draw; the message says why.
    """
    if axes is None:
        raise DataError(message)
    return axes
