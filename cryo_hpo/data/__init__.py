"""Datasets by name, and the only place where rasters are opened."""

from __future__ import annotations

from ..errors import UnknownName
from . import folder
from .generate import CARDS
from .scenes import Dataset

DATASETS: dict[str, Dataset] = {
    name: folder.dataset(card, remedy=f"Or run `cryo-hpo data generate {name}`.")
    for name, card in CARDS.items()
}
"""The built-in datasets; one of the user's own is a card (see `folder.dataset`)."""


def find(name: str) -> Dataset:
    """Return a built-in dataset.

    Raises:
        UnknownName: The table has no such dataset.
    """
    if name not in DATASETS:
        raise UnknownName(name, known=DATASETS, what="dataset")
    return DATASETS[name]
