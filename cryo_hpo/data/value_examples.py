"""Find examples of each mask value: the scenes that show most of it, cut out around a patch of it."""

# H W pixels

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy import ndimage

from .fingerprint import Fingerprint
from .layout import Layout
from .mask_labels import read_values
from .preview import stretch
from .safe_open import open_file
from .scene_look import center_of

MOST_VALUES = 12  # rows of a sheet
MOST_SCENES = 12  # opened, beside the one with most pixels of each value
EXAMPLES = 3  # of a value
SMALLEST = 96  # side of a cut-out, pixels
AROUND = 2.0  # side of a cut-out, in sides of the patch that it shows


class Example(NamedTuple):
    """Hold a cut-out of a scene, and where a mask value lies in it."""

    id: str
    view: NDArray[np.float64]
    """Image, (H, W) or (H, W, 3), 0..1."""
    there_HW: NDArray[np.bool_]


class ValueExamples(NamedTuple):
    """Hold the examples of a mask value."""

    name: str
    share: float
    examples: tuple[Example, ...]


def find_examples(layout: Layout, look: Fingerprint) -> list[ValueExamples]:
    """Return examples of the mask values, the most frequent values if there are many, in their order.

    Raises:
        DataError: A file cannot be read.
    """
    frequent = sorted(look.values, key=lambda value: -look.values[value])[:MOST_VALUES]
    masks = {mask: (name, image) for _, name, image, mask in layout.pairs}
    labels = {mask: _read_mask(mask, colors=look.colors) for mask in _choose(layout, look)}
    rows = []
    for value in (value for value in look.values if value in frequent):
        pixels = {mask: int((values_HW == value).sum()) for mask, values_HW in labels.items()}
        most = sorted((mask for mask in pixels if pixels[mask]), key=lambda mask: -pixels[mask])
        examples = tuple(_cut(*masks[mask], labels[mask] == value) for mask in most[:EXAMPLES])
        rows.append(ValueExamples(look.name_of(value), look.values[value], examples))
    return rows


def _choose(layout: Layout, look: Fingerprint) -> Sequence[Path]:
    """Return the masks with most pixels of each value, and others, evenly spaced."""
    number = min(len(layout.pairs), MOST_SCENES)
    places = np.linspace(0, len(layout.pairs) - 1, number).round().astype(int)
    carriers = (carrier.mask for carrier in look.carriers.values())
    return list(dict.fromkeys([*carriers, *(layout.pairs[i][3] for i in places.tolist())]))


def _read_mask(mask: Path, *, colors: bool) -> NDArray[Any]:
    """Return the values of a mask's center; what is no label is NaN."""
    with open_file(mask) as file:
        window = Window.from_slices(*center_of(file.height, file.width))
        values_HW, unseen_HW = read_values(mask, file, window, colors=colors)
    known_HW: NDArray[Any] = np.where(unseen_HW, np.nan, values_HW.astype(np.float64))
    return known_HW


def _cut(name: str, image: Path, there_HW: NDArray[np.bool_]) -> Example:
    """Cut a scene around the largest patch of a value."""
    with open_file(image) as file:
        window = Window.from_slices(*center_of(file.height, file.width))
        is_color = file.count in (3, 4) and set(file.dtypes) == {"uint8"}
        layers_CHW = file.read([1, 2, 3] if is_color else [1], window=window)
    if there_HW.shape != layers_CHW.shape[1:]:  # a mask on another grid
        there_HW = _resized(there_HW, layers_CHW.shape[1:])
    patches_HW, _ = ndimage.label(there_HW)
    largest = int(np.bincount(patches_HW.ravel())[1:].argmax()) + 1 if there_HW.any() else 0
    place = _around(patches_HW == largest)
    view = np.stack([stretch(layer_HW[place]) for layer_HW in layers_CHW], axis=-1)
    return Example(name, view if is_color else view[..., 0], there_HW[place])


def _resized(there_HW: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    rows, columns = (
        np.arange(new) * old // new for new, old in zip(shape, there_HW.shape, strict=True)
    )
    resized_HW: NDArray[np.bool_] = there_HW[np.ix_(rows, columns)]
    return resized_HW


def _around(patch_HW: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the rows and columns of a square around a patch, within the scene."""
    (top, bottom), (left, right) = (
        (int(line.min()), int(line.max()) + 1) for line in np.nonzero(patch_HW)
    )
    side = max(SMALLEST, int(AROUND * max(bottom - top, right - left)))

    def limits(low: int, high: int, size: int) -> slice:
        first = max(0, min((low + high - side) // 2, size - side))
        return slice(first, min(size, first + side))

    height, width = patch_HW.shape
    return limits(top, bottom, height), limits(left, right, width)
