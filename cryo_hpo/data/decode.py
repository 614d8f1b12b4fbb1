"""Decode a split's scenes into plain arrays, with statistics of their pixels and labels."""

# C bands, K classes, H W pixels

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, StorageError
from .checksums import INDEX as INDEX
from .checksums import write_index
from .dataset import IGNORE, Dataset, SceneFiles
from .facts import FactsCollector, SceneFacts, write_facts
from .progress_log import ProgressLog
from .strips import STRIP, measure, read_strips

IMAGES, MASKS = "images.bin", "masks.bin"
REMEDY = "Set CRYO_CACHE to a folder that can be written to and has room."


class Moments(NamedTuple):
    """Accumulate mean and variance of pixels part by part.

    Source:
        Merging of parts: Chan, Golub, LeVeque 1983, doi:10.1080/00031305.1983.10483115.
    """

    pixels: int
    mean_C: NDArray[np.float64]
    squares_C: NDArray[np.float64]
    """Sum of the squared distances from the mean."""

    @classmethod
    def of(cls, image_CHW: NDArray[Any], labeled_HW: NDArray[np.bool_]) -> Moments:
        """Return the moments of one image's labeled pixels."""
        count = int(labeled_HW.sum())
        mean_C, squares_C = np.zeros((2, len(image_CHW)))
        # Band by band: all bands of a scene in float64 may exceed the memory.
        for band, pixels_HW in enumerate(image_CHW if count else ()):
            values = pixels_HW[labeled_HW].astype(np.float64)
            mean_C[band] = values.mean()
            squares_C[band] = np.square(values - mean_C[band]).sum()
        return cls(count, mean_C, squares_C)

    def __or__(self, other: Moments) -> Moments:
        """Return the moments of both parts combined."""
        count = self.pixels + other.pixels
        apart_C = other.mean_C - self.mean_C
        share = other.pixels / max(count, 1)
        squares_C = self.squares_C + other.squares_C + apart_C**2 * (self.pixels * share)
        return Moments(count, self.mean_C + apart_C * share, squares_C)

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation, (C,); 0 without pixels."""
        std: NDArray[np.float64] = np.sqrt(self.squares_C / max(self.pixels, 1))
        return std


def build(folder: Path, dataset: Dataset, items: Sequence[SceneFiles], *, fingerprint: str) -> None:
    """Decode a split into `folder`: written beside it first, then moved there in one step.

    Args:
        folder: Must not exist; callers ensure that no other process builds it.
        dataset: Reads the scenes.
        items: The scenes, at least one.
        fingerprint: Hash of the files' content, kept in the index.

    Raises:
        DataError: A file does not match the dataset, or no pixel of the split is labeled.
        StorageError: The disk is full.
        OSError: The folder cannot be written.
    """
    draft = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)  # left by a process that was killed
    draft.mkdir()
    try:
        facts = {"fingerprint": fingerprint, **_write(draft, dataset, items)}
        write_index(draft, facts, (IMAGES, MASKS))
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


class _Decoded(NamedTuple):
    """Hold what the index says of a scene that was written."""

    size: tuple[int, int]
    dtype: np.dtype[Any]
    moments: Moments
    facts: SceneFacts


def _write(draft: Path, dataset: Dataset, items: Sequence[SceneFiles]) -> dict[str, Any]:
    """Write the scenes one by one; return their part of the index."""
    num_bands = len(dataset.bands)
    moments = _no_moments(num_bands)
    written: list[_Decoded] = []
    with (
        (draft / IMAGES).open("wb") as images,
        (draft / MASKS).open("wb") as masks,
        ProgressLog(f"decoding {len(items)} scenes of '{dataset.name}'", len(items)) as progress,
    ):
        for item in items:

            def require(needed: int) -> None:
                size = (images.tell() + masks.tell() + needed) / (len(written) + 1)
                _require_room(draft, size=size, left=len(items) - len(written))

            written.append(_write_scene(dataset, item, (images, masks), require, progress))
            moments |= written[-1].moments
        for file in (images, masks):  # pixels must reach the disk before the move does
            file.flush()
            os.fsync(file.fileno())
    if not moments.pixels:
        raise DataError(
            f"{items[0].mask.parent}: no labeled pixels: all {len(items)} scenes of "
            f"'{dataset.name}' here are ignored everywhere. Check 'values', 'ignore', 'nodata' and "
            "'nan' in the card."
        )
    write_facts(draft, [scene.facts for scene in written])
    lengths = [num_bands * height * width for (height, width), *_ in written]
    dtypes = [scene.dtype for scene in written]
    return {
        "ids": [item.id for item in items],
        "regions": [item.region for item in items],
        "sizes": [scene.size for scene in written],
        "num_bands": num_bands,
        "dtype": _one_dtype(draft / IMAGES, dtypes, lengths).name,
        "mean": moments.mean_C.tolist(),
        "std": moments.std.tolist(),
        "counts": [list(scene.facts.counts_K) for scene in written],
    }


def _write_scene(
    dataset: Dataset,
    item: SceneFiles,
    files: tuple[BinaryIO, BinaryIO],
    require: Callable[[int], None],
    progress: ProgressLog,
) -> _Decoded:
    """Write the pixels of a scene, band after band, and its labels; a large scene in strips.

    Args:
        dataset: Reads the scene.
        item: Files of the scene.
        files: Open files of the pixels and of the labels.
        require: Refuses a number of bytes for which the disk has no room.
        progress: Gets the share of the scene that is written.
    """
    images, masks = files
    size = measure(dataset, item)
    collector = FactsCollector(size, num_classes=len(dataset.classes))
    moments, start = _no_moments(len(dataset.bands)), images.tell()
    dtype = np.dtype(np.uint8)
    for top, scene in read_strips(dataset, item):
        if not top:
            dtype, (height, width) = scene.image_CHW.dtype, size or scene.mask_HW.shape
            require(height * width * (len(dataset.bands) * dtype.itemsize + 1))
        for band, band_HW in enumerate(scene.image_CHW):
            images.seek(start + (band * height + top) * width * dtype.itemsize)
            images.write(np.ascontiguousarray(band_HW).data)
        masks.write(np.ascontiguousarray(scene.mask_HW).data)
        moments |= Moments.of(scene.image_CHW, scene.mask_HW != IGNORE)
        collector.add(top, scene)
        progress.advance(len(scene.mask_HW) / height)
    return _Decoded((height, width), dtype, moments, collector.facts())


def _no_moments(num_bands: int) -> Moments:
    return Moments(0, *np.zeros((2, num_bands)))


def _require_room(draft: Path, *, size: float, left: int) -> None:
    """Refuse early if the disk cannot hold the `left` scenes of `size` bytes on average."""
    need, free = size * left, shutil.disk_usage(draft).free
    if need > free:
        raise StorageError(
            f"{draft.parent}: the decoded scenes need about {need / 2**30:.2f} GiB more, "
            f"{free / 2**30:.2f} GiB are free. {REMEDY}"
        )


def _one_dtype(
    path: Path, dtypes: Sequence[np.dtype[Any]], lengths: Sequence[int]
) -> np.dtype[Any]:
    """Write the images again if their data types differ, in a type that holds them all."""
    dtype = np.result_type(*dtypes)
    if set(dtypes) == {dtype}:
        return dtype
    mixed = path.with_suffix(".mixed")
    path.rename(mixed)
    with mixed.open("rb") as source, path.open("wb") as target:
        for old, length in zip(dtypes, lengths, strict=True):
            for begin in range(0, length, STRIP):
                count = min(STRIP, length - begin)
                pixels = np.frombuffer(source.read(count * old.itemsize), dtype=old)
                target.write(pixels.astype(dtype).data)
    mixed.unlink()
    return dtype
