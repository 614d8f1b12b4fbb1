"""Measure how far the trainings that map together agree with their common map."""

# H W pixels, K classes, M members

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..stats import miou

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

# A training is far from the common map if it differs on this share of the pixels, and has less than
# half in common with it: so has whatever maps one class everywhere, where the others see two.
LEAST_SHARE, LEAST_MIOU = 0.01, 0.5


class Agreement:
    """Count, row by row of a scene, which classes each member maps where all together map which.

    Args:
        members: Number of members.
        classes: Number of classes.
    """

    def __init__(self, members: int, classes: int) -> None:
        self._counts_MKK = np.zeros((members, classes, classes), dtype=np.int64)

    def add(
        self,
        mask_HW: NDArray[np.uint8],
        probs_MKHW: NDArray[np.float32],
        absent_HW: NDArray[np.bool_],
    ) -> None:
        """Count the pixels of some rows; those without data are left out."""
        classes = self._counts_MKK.shape[1]
        own_MHW = probs_MKHW.argmax(axis=1)
        for member, own_HW in enumerate(own_MHW):
            pairs = classes * mask_HW[~absent_HW].astype(np.int64) + own_HW[~absent_HW]
            counts = np.bincount(pairs, minlength=classes**2)
            self._counts_MKK[member] += counts.reshape(classes, classes)

    def far(self) -> dict[int, float]:
        """Return member -> mIoU of its map with the common one, of those that are far from it."""
        scores_M = np.asarray(miou(self._counts_MKK))
        same_M = np.trace(self._counts_MKK, axis1=1, axis2=2)
        pixels_M = np.maximum(self._counts_MKK.sum(axis=(1, 2)), 1)
        is_far_M = (scores_M < LEAST_MIOU) & (same_M < (1 - LEAST_SHARE) * pixels_M)
        is_far_M &= self._counts_MKK.any(axis=(1, 2))
        return {int(member): float(scores_M[member]) for member in np.flatnonzero(is_far_M)}


def disagreement(scene: str, seeds: Sequence[int], far: Mapping[int, float]) -> str:
    """Return a sentence on the members that hardly share the common map; empty if all do."""
    if not far:
        return ""
    named = ", ".join(f"seed {seeds[member]} ({100 * score:.0f})" for member, score in far.items())
    return (
        f"{scene}: the trainings disagree strongly. Of {len(seeds)}, the maps of these have a mIoU below "
        f"{100 * LEAST_MIOU:.0f} with the map of all, as after a collapse to one class: {named}. "
        "Map with --members best too and compare, or look at --uncertainty."
    )
