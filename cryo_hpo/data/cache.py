"""Decode a split once: one memory-mapped copy of its pixels for all trials on a machine."""

# C bands, K classes, N scenes, H W pixels

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import StorageError
from ..storage.lock import locked
from .checksums import INDEX, find_damage, read_index
from .dataset import Dataset, Split
from .decode import IMAGES, MASKS, REMEDY, build
from .splits import digests_of, items_of, sha256

FORMAT = 6  # increased whenever the same files give other bytes here

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Scenes:
    """Hold one decoded split: views into files that the processes of a machine share.

    It pickles as its folder and ids, so sending it to a worker is cheap.

    Attributes:
        folder: Folder of the pixels.
        ids: Ids of the scenes, in order.
        regions: Regions of the scenes; None if unknown.
        sizes: Height and width of each scene, pixels.
        num_bands: C.
        dtype: Data type of all images of the split.
        mean: Mean per band, over the labeled pixels, in the file's units.
        std: Standard deviation of the same pixels; 0 for a constant band.
        counts: Labeled pixels of each class in each scene, (N, K).
        fingerprint: sha256 of the content of the split's files.
    """

    folder: Path
    ids: tuple[str, ...]
    regions: tuple[str | None, ...]
    sizes: tuple[tuple[int, int], ...]
    num_bands: int
    dtype: np.dtype[Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    counts: tuple[tuple[int, ...], ...]
    fingerprint: str
    _starts: tuple[int, ...]
    _images: NDArray[Any]
    _masks: NDArray[np.uint8]

    @classmethod
    def open(cls, folder: Path) -> Scenes:
        """Map a decoded split.

        Raises:
            StorageError: The files are missing or damaged.
        """
        try:
            facts, _ = read_index(folder)
            sizes = tuple((height, width) for height, width in facts.pop("sizes"))
            *starts, end = accumulate((height * width for height, width in sizes), initial=0)
            dtype, num_bands = np.dtype(facts.pop("dtype")), int(facts.pop("num_bands"))
            return cls(
                folder=folder,
                sizes=sizes,
                num_bands=num_bands,
                dtype=dtype,
                fingerprint=facts.pop("fingerprint"),
                counts=tuple(map(tuple, facts.pop("counts"))),
                _starts=tuple(starts),
                _images=_mapped(folder / IMAGES, dtype, length=end * num_bands),
                _masks=_mapped(folder / MASKS, np.dtype(np.uint8), length=end),
                **{name: tuple(values) for name, values in facts.items()},
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageError(
                f"{folder}: decoded scenes must be whole: {error}. "
                "Delete this folder; it is built again from the dataset's files."
            ) from error

    def __len__(self) -> int:
        return len(self.ids)

    def __reduce__(self) -> tuple[Callable[..., Scenes], tuple[Path, tuple[str, ...]]]:
        return _reopened, (self.folder, self.ids)

    def only(self, numbers: Sequence[int]) -> Scenes:
        """Return some of the scenes; pixel statistics and fingerprint remain those of the split."""
        return replace(
            self,
            ids=tuple(self.ids[i] for i in numbers),
            regions=tuple(self.regions[i] for i in numbers),
            sizes=tuple(self.sizes[i] for i in numbers),
            counts=tuple(self.counts[i] for i in numbers),
            _starts=tuple(self._starts[i] for i in numbers),
        )

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Labeled pixels of each class, (K,)."""
        return tuple(map(sum, zip(*self.counts, strict=True)))

    def image(self, number: int) -> NDArray[Any]:
        """Return the pixels of a scene, (C, H, W): a read-only view in the file's data type."""
        start, (height, width) = self._starts[number] * self.num_bands, self.sizes[number]
        stop = start + self.num_bands * height * width
        return self._images[start:stop].reshape(self.num_bands, height, width)

    def mask(self, number: int) -> NDArray[np.uint8]:
        """Return the labels of a scene, (H, W): a read-only view; 255 is ignored."""
        start, (height, width) = self._starts[number], self.sizes[number]
        return self._masks[start : start + height * width].reshape(height, width)


def _reopened(folder: Path, ids: tuple[str, ...]) -> Scenes:
    scenes = Scenes.open(folder)
    if scenes.ids == ids:
        return scenes
    return scenes.only([scenes.ids.index(scene) for scene in ids])


def open_split(dataset: Dataset, root: Path, split: Split, *, cache: Path) -> Scenes:
    """Open one split; it is decoded first unless a copy exists on this machine.

    The decoded copy is keyed by the content of the files, not by their place or date: a file that
    changes leads to a new copy. Content is hashed once; then size, dates and inode identify it. The
    copy itself is compared with its checksums once per process; a damaged one is built again.

    Args:
        dataset: Dataset to open.
        root: The data root, CRYO_DATA.
        split: Part to open.
        cache: Folder of decoded splits, CRYO_CACHE; best on a local disk.

    Raises:
        DataError: The files do not match the dataset.
        StorageError: The cache is full or not writable.
    """
    cache = cache.absolute()  # workers may have another working directory
    items = items_of(dataset, root, split, cache=cache)
    digests = digests_of(dataset, root, items, cache=cache)
    fingerprint = sha256(*((item.id, *pair) for item, pair in zip(items, digests, strict=True)))
    bands, regions = [band.name for band in dataset.bands], [item.region for item in items]
    named = (FORMAT, dataset.name, dataset.classes, bands, dataset.rules, regions)
    folder = cache / sha256(*named, fingerprint)[:16]
    if not (folder / INDEX).is_file() or _damage(folder):
        try:
            with locked(folder.with_suffix(".lock")):
                _remove_damaged(folder)
                if not (folder / INDEX).is_file():
                    build(folder, dataset, items, fingerprint=fingerprint)
        except OSError as error:
            raise StorageError(
                f"{cache}: decoded scenes are kept here: {error}. {REMEDY}"
            ) from error
    return Scenes.open(folder)


_sound: set[tuple[Path, int, int]] = set()  # copies that this process has compared


def _damage(folder: Path) -> str:
    """Describe why a copy cannot be used; empty if it can, by its size and checksums."""
    try:
        _, sums = read_index(folder)
        stamps = [(folder / name).stat().st_mtime_ns for name in (IMAGES, MASKS)]
        state = (folder, stamps[0], stamps[1])
        if state in _sound:
            return ""
        Scenes.open(folder)
        damage = find_damage(folder, sums)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StorageError) as error:
        return str(error)
    if not damage:
        _sound.add(state)
    return damage


def _remove_damaged(folder: Path) -> None:
    """Remove a copy that is damaged, with a warning; processes that have mapped it keep theirs.

    Raises:
        OSError: The folder cannot be written.
    """
    damage = _damage(folder) if folder.exists() else ""
    if damage:
        log.warning(
            "'%s': the decoded scenes are damaged: %s. They are decoded again from the dataset's "
            "files. Check the disk if this happens twice.",
            folder,
            damage,
        )
        shutil.rmtree(folder)


def _mapped(path: Path, dtype: np.dtype[Any], *, length: int) -> NDArray[Any]:
    size = path.stat().st_size
    if size != length * dtype.itemsize:
        raise ValueError(f"'{path.name}' has {size} bytes instead of {length * dtype.itemsize}")
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))
