"""Find datasets by name, and open their rasters; no other package opens rasters."""

from __future__ import annotations

from ..errors import UnknownName
from .builtin.caffe import CAFFE
from .builtin.glb import GLB
from .builtin.gld import GLD
from .builtin.glid import GLID
from .builtin.gsdd import GSDD
from .builtin.shelf_bench import SHELF_BENCH
from .builtin.sicd import SICD
from .custom import custom_dataset
from .dataset import Dataset
from .synthetic.generate import CARDS

DEMOS = {
    name: custom_dataset(card, remedy=f"Or run `cryo-hpo data generate {name}`.")
    for name, card in CARDS.items()
}
"""Datasets of generated scenes."""

DATASETS: dict[str, Dataset] = {
    "glid": GLID,
    "gld": GLD,
    "sicd": SICD,
    "caffe": CAFFE,
    "gsdd": GSDD,
    "glb": GLB,
    "shelf-bench": SHELF_BENCH,
    **DEMOS,
}
"""The built-in datasets; a user's own is described by a card (see `custom_dataset`)."""


def find_dataset(name: str) -> Dataset:
    """Return a built-in dataset.

    Raises:
        UnknownName: The table has no such dataset.
    """
    if name not in DATASETS:
        raise UnknownName(name, valid=DATASETS, what="dataset")
    return DATASETS[name]
