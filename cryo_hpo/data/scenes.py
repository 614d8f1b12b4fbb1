"""The words of this room: a dataset, the items it lists, and the scenes it reads."""

# C bands, H W pixels

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..bands import Band

Split = Literal["train", "val", "test"]


class Item(NamedTuple):
    """Where a scene lies, before it is read."""

    id: str
    """Unique within a dataset."""
    region: str | None
    """Scenes of one region belong into one split; None: no regions are known."""
    image: Path
    mask: Path


class Scene(NamedTuple):
    """One image and its labels, decoded."""

    id: str
    image_CHW: NDArray[Any]
    """In the file's own data type; finite everywhere."""
    mask_HW: NDArray[np.uint8]
    """0..K-1, or 255 where the pixel counts neither in loss nor in score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The facts of a dataset, and the two functions that open it.

    Attributes:
        name: As in studies and reports.
        classes: Names; the index is the mask value.
        bands: In the order of an image's layers.
        mean: Per band, in the file's units; None: computed on the training split.
        std: Likewise.
        gsd_m: Side of a pixel on the ground, metres; None where unknown.
        source: DOI or address, and how to cite it.
        licence: Of the pixels and the labels.
        index: (data root, split) -> items in the order of their ids. It lists, and reads no pixels.
        read: Item -> scene.
        rules: What else decides the outcome of `read`, as text. Another text is another cache.
    """

    name: str
    classes: tuple[str, ...]
    bands: tuple[Band, ...]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    gsd_m: float | None
    source: str
    licence: str
    index: Callable[[Path, Split], Sequence[Item]]
    read: Callable[[Item], Scene]
    rules: str = ""
