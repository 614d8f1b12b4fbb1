"""Collect facts about a scene while it is read, for the review of its dataset."""

# C bands, K classes, H W pixels

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import StorageError
from ..storage.plain_files import parse_json
from .dataset import IGNORE, Scene
from .nodata import Fill, suspect_fill
from .strips import Sample

FACTS = "facts.json"
CLASS_SAMPLE = 2**18  # pixels, about, by which the classes' means are computed
SAMPLE = 2048  # pixels a side by which a fill value is looked for in a scene that is read in strips


class SceneFacts(NamedTuple):
    """Hold the facts found by reading one scene."""

    id: str
    counts_K: tuple[int, ...]
    """Labeled pixels of each class."""
    ignored: int
    """Pixels with data whose label is ignored."""
    low: float
    high: float
    """Lowest and highest pixel value of all bands; 0 where there is no data."""
    mean_C: tuple[float, ...]
    """Mean of each band over pixels with data."""
    dtype: str
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    names: tuple[str, ...]
    gsd_m: float | None
    fill: Fill | None
    notes: tuple[str, ...]
    class_means_KC: tuple[tuple[float, ...], ...] = ()
    """Mean of each band over pixels of each class, from a sample; 0 where a class has none."""
    palette: tuple[tuple[int, str], ...] = ()
    """Color that the mask's palette gives to each class number of the mask."""
    pixel_m: tuple[float, float] | None = None
    """Width and height of a pixel on the ground, meters; None where they are unknown."""

    @property
    def magnitude(self) -> float:
        """Largest absolute pixel value."""
        return max(abs(self.low), abs(self.high))


def facts_of(scene: Scene, *, num_classes: int, fill: bool = True) -> SceneFacts:
    """Return the facts of a decoded scene; `fill` says whether a fill value is looked for."""
    labeled_HW = scene.mask_HW != IGNORE
    seen_HW = ~scene.absent_HW
    counts_K = np.bincount(scene.mask_HW[labeled_HW], minlength=num_classes)
    bands = [_range(band_HW, seen_HW) for band_HW in scene.image_CHW]
    header = scene.header
    return SceneFacts(
        id=scene.id,
        counts_K=tuple(counts_K.tolist()),
        ignored=int(seen_HW.sum()) - int((labeled_HW & seen_HW).sum()),
        low=min(low for low, _, _ in bands),
        high=max(high for _, high, _ in bands),
        mean_C=tuple(mean for _, _, mean in bands),
        dtype=header.dtype,
        scales=header.scales,
        offsets=header.offsets,
        names=header.names,
        gsd_m=header.gsd_m,
        fill=suspect_fill(scene.image_CHW, scene.absent_HW) if fill else None,
        notes=header.notes,
        class_means_KC=_class_means(scene, num_classes),
        palette=header.palette,
        pixel_m=header.pixel_m,
    )


def _class_means(scene: Scene, num_classes: int) -> tuple[tuple[float, ...], ...]:
    """Return the mean of each band over evenly spaced pixels of each class, (K, C)."""
    step = max(int(np.sqrt(scene.mask_HW.size / CLASS_SAMPLE)), 1)
    labels_HW = scene.mask_HW[::step, ::step]
    use_HW = (labels_HW != IGNORE) & ~scene.absent_HW[::step, ::step]
    labels_N = labels_HW[use_HW]
    counts_K = np.bincount(labels_N, minlength=num_classes)
    sums_CK = [
        np.bincount(labels_N, weights=band_HW[::step, ::step][use_HW], minlength=num_classes)
        for band_HW in scene.image_CHW
    ]
    means_KC = np.stack(sums_CK, axis=1) / np.maximum(counts_K, 1)[:, None]
    return tuple(map(tuple, means_KC.tolist()))


def merge_facts(strips: Sequence[SceneFacts], seen: Sequence[int], fill: Fill | None) -> SceneFacts:
    """Return the facts of a scene from those of its strips.

    Args:
        strips: Facts of each strip.
        seen: Pixels with data of each strip.
        fill: Fill value of the whole scene.
    """
    first, total = strips[0], sum(seen)
    held = [strip for strip, pixels in zip(strips, seen, strict=True) if pixels] or [first]
    weights = np.array(seen, dtype=np.float64) / max(total, 1)
    means_C = weights @ np.array([strip.mean_C for strip in strips])
    counts_NK = np.array([strip.counts_K for strip in strips])
    counts_K = counts_NK.sum(axis=0)
    shares_NK1 = (counts_NK / np.maximum(counts_K, 1))[..., None]
    class_means_KC = (shares_NK1 * np.array([s.class_means_KC for s in strips])).sum(axis=0)
    return first._replace(
        counts_K=tuple(counts_K.tolist()),
        ignored=sum(strip.ignored for strip in strips),
        low=min(strip.low for strip in held),
        high=max(strip.high for strip in held),
        mean_C=tuple(means_C.tolist()),
        fill=fill,
        notes=tuple(dict.fromkeys(note for strip in strips for note in strip.notes)),
        class_means_KC=tuple(map(tuple, class_means_KC.tolist())),
        palette=tuple(sorted(set().union(*(strip.palette for strip in strips)))),
    )


class FactsCollector:
    """Collect the facts of a scene from its strips."""

    def __init__(self, size: tuple[int, int] | None, *, num_classes: int) -> None:
        """Start without strips.

        Args:
            size: Height and width of a scene in strips, pixels; None: it comes at once.
            num_classes: K.
        """
        self._sample = None if size is None else Sample(size, SAMPLE)
        self._num_classes = num_classes
        self._facts: list[SceneFacts] = []
        self._seen: list[int] = []

    def add(self, top: int, strip: Scene) -> None:
        """Take the next strip, which begins at row `top`."""
        whole = self._sample is None
        if self._sample is not None:
            self._sample.add(top, strip)
        self._facts.append(facts_of(strip, num_classes=self._num_classes, fill=whole))
        self._seen.append(int((~strip.absent_HW).sum()))

    def facts(self) -> SceneFacts:
        """Return the facts of the whole scene; a fill value is looked for in a sample of it."""
        if self._sample is None:
            return self._facts[0]
        sample = self._sample.scene()
        return merge_facts(
            self._facts, self._seen, suspect_fill(sample.image_CHW, sample.absent_HW)
        )


def write_facts(folder: Path, facts: Sequence[SceneFacts]) -> None:
    """Write the facts of a split's scenes into its decoded copy."""
    (folder / FACTS).write_text(json.dumps([tuple(scene) for scene in facts]), encoding="utf-8")


def read_facts(folder: Path) -> list[SceneFacts]:
    """Read the facts of a decoded split.

    Raises:
        StorageError: The file is missing or damaged.
    """
    try:
        rows = parse_json((folder / FACTS).read_text(encoding="utf-8"))
        return [_fact(row) for row in rows]
    except (OSError, ValueError, TypeError) as error:
        raise StorageError(
            f"{folder / FACTS}: cannot read the facts of decoded scenes: {error}. Delete this "
            "folder; it is built again from the dataset's files."
        ) from error


def _fact(row: Sequence[Any]) -> SceneFacts:
    # A copy that an earlier version decoded lacks the last fields.
    values: list[Any] = [tuple(value) if isinstance(value, list) else value for value in row]
    scene = SceneFacts(*values)
    return scene._replace(
        fill=Fill(*scene.fill) if scene.fill else None,
        class_means_KC=tuple(map(tuple, scene.class_means_KC)),
        palette=tuple((int(number), color) for number, color in scene.palette),
    )


def _range(band_HW: NDArray[Any], seen_HW: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return lowest, highest and mean value of pixels with data; zeros where there are none."""
    values = band_HW if seen_HW.all() else band_HW[seen_HW]
    if not values.size:
        return 0.0, 0.0, 0.0
    return float(values.min()), float(values.max()), float(values.mean(dtype=np.float64))
