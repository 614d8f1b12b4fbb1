"""Plan the crops of an epoch: how many each scene gives, and around which pixels they lie."""

# N scenes, K classes, H W pixels

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .cache import Scenes
from .dataset import IGNORE

COVERED_FROM = 4  # crops that the labeled pixels of a scene must more than fill
CHUNK = 1 << 24  # mask pixels that are counted at a time

Place = tuple[slice, slice]


def crops_of_scenes(
    counts_NK: Sequence[Sequence[int]], *, crop: int, replicate: int | None
) -> list[int]:
    """Return the number of crops that each scene gives in an epoch.

    Args:
        counts_NK: Labeled pixels of each class in each scene, (N, K).
        crop: Side of a crop, pixels.
        replicate: Crops of every scene; None: as many as its labeled pixels fill, and one of a
            scene whose labeled pixels fill no more than `COVERED_FROM`.
    """
    if replicate is not None:
        return [replicate] * len(counts_NK)
    filled = [sum(counts_K) / crop**2 for counts_K in counts_NK]
    return [int(number) if number > COVERED_FROM else 1 for number in filled]


def scenes_in_turn(crops_N: Sequence[int]) -> NDArray[np.int64]:
    """Return the scene of each crop of an epoch: every scene once, then those with more crops again."""
    numbers_N = np.arange(len(crops_N))
    left_N = np.array(crops_N)
    rounds = [numbers_N[left_N > turn] for turn in range(max(crops_N, default=0))]
    return np.concatenate(rounds) if rounds else numbers_N


class CropPlacer:
    """Draw places of crops around labeled pixels, each pixel as likely as any other.

    A scene's mask is counted row by row once, at the first draw from it; the counts are small.
    """

    def __init__(self, scenes: Scenes, *, crop: int) -> None:
        self._scenes, self._crop = scenes, crop
        self._rows: dict[int, NDArray[np.int64]] = {}
        self._usual = int(np.argmax(scenes.class_counts))

    def rare_class(self, scene: int, rng: np.random.Generator) -> int | None:
        """Draw one of a scene's classes, but not the most frequent of the split; None: it has no other."""
        counts_K = self._scenes.counts[scene]
        rare = [k for k, count in enumerate(counts_K) if count and k != self._usual]
        return int(rng.choice(rare)) if rare else None

    def place(self, scene: int, rng: np.random.Generator, *, of: int | None = None) -> Place:
        """Draw a crop around a labeled pixel, which may lie anywhere in it.

        Args:
            scene: Number of a scene with a labeled pixel.
            rng: Source of the draws.
            of: Class of the pixel; None: any.
        """
        shape = self._scenes.sizes[scene]
        starts = [
            min(max(pixel - int(rng.integers(self._crop)), 0), max(side - self._crop, 0))
            for pixel, side in zip(self._draw(scene, rng, of), shape, strict=True)
        ]
        top, left = starts
        return np.s_[top : top + self._crop, left : left + self._crop]

    def _draw(self, scene: int, rng: np.random.Generator, of: int | None) -> tuple[int, int]:
        counts_KH = self._count(scene)
        ends_H = np.cumsum(counts_KH.sum(axis=0) if of is None else counts_KH[of])
        drawn = int(rng.integers(ends_H[-1]))
        row = int(np.searchsorted(ends_H, drawn, side="right"))
        mask_W = self._scenes.mask(scene)[row]
        columns = np.flatnonzero(mask_W != IGNORE if of is None else mask_W == of)
        before = int(ends_H[row - 1]) if row else 0
        return row, int(columns[drawn - before])

    def _count(self, scene: int) -> NDArray[np.int64]:
        """Return the labeled pixels of each class in each row of a scene, (K, H)."""
        if scene not in self._rows:
            mask_HW = self._scenes.mask(scene)
            height, width = mask_HW.shape
            step = max(CHUNK // width, 1)
            parts = [mask_HW[top : top + step] for top in range(0, height, step)]
            classes = range(len(self._scenes.class_counts))
            counts = [[(part == k).sum(axis=1) for k in classes] for part in parts]
            self._rows[scene] = np.concatenate(counts, axis=1)
        return self._rows[scene]
