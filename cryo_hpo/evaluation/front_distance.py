"""Find the pixels of fronts and their distances, in strips: large scenes take little memory."""

# H W pixels, P pixels of a front

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ..data.dataset import IGNORE

ROWS = 256  # of a strip
REACH = 64  # rows around a strip in which the nearest pixel is looked for first
WIDER = 4  # times the reach, for pixels that have none within it


def strips(height: int) -> Iterator[tuple[int, int]]:
    """Yield the first row of each strip, and the one after its last."""
    for top in range(0, height, ROWS):
        yield top, min(top + ROWS, height)


def mark_front(
    map_HW: NDArray[np.uint8],
    truth_HW: NDArray[np.uint8],
    *,
    inside: int,
    outside: int | None,
) -> NDArray[np.bool_]:
    """Mark the pixels of a front, (H, W).

    They belong to the class inside and share a side with a pixel of the class outside. The border
    of the scene and ignored pixels are no front.

    Args:
        map_HW: Map of classes.
        truth_HW: Mask; where it is ignored, the map is too.
        inside: Class number of the pixels of the front.
        outside: Class number of their neighbors; None: any other.
    """
    front_HW = np.zeros(map_HW.shape, dtype=np.bool_)
    for top, bottom in strips(len(map_HW)):
        first, last = max(top - 1, 0), bottom + 1  # with the neighbors of its rows
        ignored_HW = truth_HW[first:last] == IGNORE
        seen_HW = np.where(ignored_HW, np.uint8(IGNORE), map_HW[first:last])
        front_HW[top:bottom] = _mark(seen_HW, inside, outside)[top - first :][: bottom - top]
    return front_HW


def _mark(map_HW: NDArray[np.uint8], inside: int, outside: int | None) -> NDArray[np.bool_]:
    inside_HW = map_HW == inside
    outside_HW = ~inside_HW & (map_HW != IGNORE) if outside is None else map_HW == outside
    beside_HW = np.zeros_like(inside_HW)
    beside_HW[1:] |= outside_HW[:-1]
    beside_HW[:-1] |= outside_HW[1:]
    beside_HW[:, 1:] |= outside_HW[:, :-1]
    beside_HW[:, :-1] |= outside_HW[:, 1:]
    front_HW: NDArray[np.bool_] = inside_HW & beside_HW
    return front_HW


class Distances(NamedTuple):
    """Hold the sums of the distances from each pixel of a front to the nearest of another."""

    number: int
    sum_px: float
    near: int
    """Pixels within a tolerance."""


def sum_distances(
    from_HW: NDArray[np.bool_], to_HW: NDArray[np.bool_], *, tolerance_px: float
) -> Distances:
    """Sum the distances from the pixels of a front to the nearest of another, pixels.

    Args:
        from_HW: Pixels of the front.
        to_HW: Pixels of the other one; at least one.
        tolerance_px: Distance within which a pixel is near.
    """
    number, total, near = 0, 0.0, 0
    for top, bottom in strips(len(from_HW)):
        distances_P = _distances(from_HW, to_HW, top, bottom)
        number += len(distances_P)
        total += float(distances_P.sum())
        near += int((distances_P <= tolerance_px).sum())
    return Distances(number, total, near)


def _distances(
    from_HW: NDArray[np.bool_], to_HW: NDArray[np.bool_], top: int, bottom: int
) -> NDArray[np.float64]:
    """Return the distance to the nearest pixel of another front for those in a strip, (P,).

    A pixel outside the rows that are searched is farther away than the reach, so a nearer one is
    the nearest of all.
    """
    points_P2 = _pixels(from_HW, top, bottom)
    nearest_P = np.full(len(points_P2), np.inf)
    left_P, reach, height = np.arange(len(points_P2)), REACH, len(to_HW)
    while len(left_P):
        first, last = max(top - reach, 0), min(bottom + reach, height)
        others_P2 = _pixels(to_HW, first, last)
        if len(others_P2):
            tree = KDTree(others_P2, balanced_tree=False)
            nearest_P[left_P] = tree.query(points_P2[left_P])[0]
        if first == 0 and last == height:
            break
        left_P = left_P[nearest_P[left_P] > reach]
        reach *= WIDER
    return nearest_P


def _pixels(front_HW: NDArray[np.bool_], top: int, bottom: int) -> NDArray[np.float64]:
    """Return rows and columns of the pixels of a front in some rows, (P, 2)."""
    pixels_P2 = np.argwhere(front_HW[top:bottom]).astype(np.float64)
    pixels_P2[:, 0] += top
    return pixels_P2
