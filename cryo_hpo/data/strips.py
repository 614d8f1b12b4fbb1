"""Read large scenes strip by strip, so that memory does not grow with their size."""

# C bands, K classes, H W pixels

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .dataset import IGNORE, Dataset, Scene, SceneFiles
from .progress_log import ProgressLog
from .raster import read_size

# Numbers of an image (pixels times bands): 2**26 are 128 MiB in 16 bits.
WHOLE = 2**26  # read at once, up to this size
STRIP = 2**24  # in a strip of a larger scene
ROWS = 256  # strips are a multiple of this high: the side of usual tiles


def read_strips(dataset: Dataset, item: SceneFiles) -> Iterator[tuple[int, Scene]]:
    """Yield (first row, scene) of a scene from top to bottom; one of moderate size at once.

    Raises:
        DataError: A file is damaged, or holds what the dataset does not allow.
    """
    size = measure(dataset, item)
    if size is None:
        yield 0, dataset.read(item)
        return
    height, width = size
    rows = max(STRIP // (width * len(dataset.bands)) // ROWS, 1) * ROWS
    labeled = False
    with ProgressLog(f"scene {item.id}", height) as progress:
        for top in range(0, height, rows):
            window = (slice(top, min(top + rows, height)), slice(0, width))
            scene = dataset.read(item, window=window)
            labeled = labeled or bool((scene.mask_HW != IGNORE).any())
            progress.advance(len(scene.mask_HW))
            yield top, scene
    if not labeled:
        dataset.read(item)  # only the whole shows whether image and mask lie on different ground


def measure(dataset: Dataset, item: SceneFiles) -> tuple[int, int] | None:
    """Return height and width of a scene that is read in strips; None: it is read at once."""
    if item.window is not None:
        height, width = (side.stop - side.start for side in item.window)
    elif dataset.centered:
        return None
    else:
        try:
            height, width = read_size(item.image, root=item.root)
        except DataError:
            return None  # reading it says what is wrong
    return (height, width) if height * width * len(dataset.bands) > WHOLE else None


class Sample:
    """Collect evenly spaced pixels of a scene, its border included, while it is read in strips."""

    def __init__(self, size: tuple[int, int], side: int) -> None:
        """Start a sample of at most side x side pixels."""
        height, width = size
        self._rows = np.unique(np.linspace(0, height - 1, min(height, side)).round().astype(int))
        self._columns = np.unique(np.linspace(0, width - 1, min(width, side)).round().astype(int))
        self._parts: list[Scene] = []

    def add(self, top: int, strip: Scene) -> None:
        """Take the pixels of the next strip."""
        rows = self._rows - top
        rows = rows[(rows >= 0) & (rows < len(strip.mask_HW))]
        if len(rows):
            self._parts.append(_pick(strip, np.ix_(rows, self._columns)))

    def scene(self) -> Scene:
        """Return the sampled pixels as a scene of their own."""
        first = self._parts[0]
        return first._replace(
            image_CHW=np.concatenate([part.image_CHW for part in self._parts], axis=1),
            mask_HW=np.concatenate([part.mask_HW for part in self._parts]),
            absent_HW=np.concatenate([part.absent_HW for part in self._parts]),
        )


def _pick(strip: Scene, place: tuple[NDArray[Any], ...]) -> Scene:
    return strip._replace(
        image_CHW=np.stack([band_HW[place] for band_HW in strip.image_CHW]),
        mask_HW=strip.mask_HW[place],
        absent_HW=strip.absent_HW[place],
    )


def read_sample(dataset: Dataset, item: SceneFiles, side: int) -> Scene:
    """Read a scene for viewing: all of it, or evenly spaced pixels of a large one.

    Args:
        dataset: Reads the scene.
        item: Files of the scene.
        side: Largest height and width of a sample, pixels.

    Raises:
        DataError: The scene cannot be read.
    """
    size = measure(dataset, item)
    if size is None:
        return dataset.read(item)
    sample = Sample(size, side)
    for top, strip in read_strips(dataset, item):
        sample.add(top, strip)
    return sample.scene()
