"""Decode a split's scenes into plain arrays, with statistics of their pixels and labels."""

# C bands, K classes, H W pixels

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, StorageError
from .checksums import INDEX as INDEX
from .checksums import write_index
from .dataset import IGNORE, Dataset, SceneFiles
from .facts import SceneFacts, facts_of, write_facts

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


def _write(draft: Path, dataset: Dataset, items: Sequence[SceneFiles]) -> dict[str, Any]:
    """Write the scenes one by one; return their part of the index."""
    num_bands, num_classes = len(dataset.bands), len(dataset.classes)
    moments = Moments(0, *np.zeros((2, num_bands)))
    counts: list[list[int]] = []
    sizes: list[tuple[int, ...]] = []
    dtypes: list[np.dtype[Any]] = []
    facts: list[SceneFacts] = []
    with (draft / IMAGES).open("wb") as images, (draft / MASKS).open("wb") as masks:
        for scene in map(dataset.read, items):
            image_CHW, mask_HW = scene.image_CHW, scene.mask_HW
            size = images.tell() + masks.tell() + image_CHW.nbytes + mask_HW.nbytes
            _require_room(draft, size=size / (len(sizes) + 1), left=len(items) - len(sizes))
            images.write(np.ascontiguousarray(image_CHW).data)
            masks.write(np.ascontiguousarray(mask_HW).data)
            sizes.append(mask_HW.shape)
            dtypes.append(image_CHW.dtype)
            labeled_HW = mask_HW != IGNORE
            moments |= Moments.of(image_CHW, labeled_HW)
            facts.append(facts_of(scene, num_classes=num_classes))
            counts.append(list(facts[-1].counts_K))
        for file in (images, masks):  # pixels must reach the disk before the move does
            file.flush()
            os.fsync(file.fileno())
    if not moments.pixels:
        raise DataError(
            f"{items[0].mask.parent}: no labeled pixels: all {len(items)} scenes of "
            f"'{dataset.name}' here are ignored everywhere. Check 'values', 'ignore', 'nodata' and "
            "'nan' in the card."
        )
    write_facts(draft, facts)
    return {
        "ids": [item.id for item in items],
        "regions": [item.region for item in items],
        "sizes": sizes,
        "num_bands": num_bands,
        "dtype": _one_dtype(draft / IMAGES, dtypes, [num_bands * h * w for h, w in sizes]).name,
        "mean": moments.mean_C.tolist(),
        "std": moments.std.tolist(),
        "counts": counts,
    }


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
            pixels = np.frombuffer(source.read(length * old.itemsize), dtype=old)
            target.write(pixels.astype(dtype).data)
    mixed.unlink()
    return dtype
