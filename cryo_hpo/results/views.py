"""Hand results to what shows them, which lies on a higher floor than results.

`cryo_hpo` opens this door when it is imported: the report is imported with the first view.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray


class Views(Protocol):
    """Show a `Result` in a notebook; see `report.notebook`."""

    @property
    def html(self) -> Callable[[Any], str]:
        """Returns verdict, scores of the repeats and costs, as HTML."""
        ...

    @property
    def plot_lr_response(self) -> Callable[[Any], Axes]:
        """Draws validation scores against the learning rate."""
        ...

    @property
    def plot_seeds(self) -> Callable[[Any], NDArray[Any]]:
        """Draws the pairs of scores, and the intervals of the gain."""
        ...

    @property
    def plot_maps(self) -> Callable[[Any, Path], NDArray[Any]]:
        """Draws the maps that a study's folder keeps."""
        ...


_doors: list[Callable[[], Views]] = []


def open_door(load: Callable[[], Views]) -> None:
    """Set what imports the views; a later call replaces it."""
    _doors[:] = [load]


def views() -> Views:
    """Return the views, imported when first used."""
    return _doors[0]()
