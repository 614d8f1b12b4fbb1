"""Sample a fraction of a split's labeled scenes, stratified by their classes."""

# G strata, K classes, N scenes

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

BINS = 3  # of a class's share of a scene, besides the one for "none at all"; as in Cryo-Bench


def strata(counts_NK: NDArray[np.int64], *, bins: int = BINS) -> list[tuple[int, ...]]:
    """Return the stratum of each scene: the bin of each class's share of labeled pixels.

    With three bins, a share of 0 is -1, (0, 1/3] is 0, (1/3, 2/3] is 1 and the rest is 2.

    Args:
        counts_NK: Labeled pixels of each class, (N, K).
        bins: Number of bins of a share, besides the one for 0.

    Source: the stratification of PANGAEA, Marsocci et al. 2024, arXiv:2412.04204.
    """
    total_N1 = counts_NK.sum(axis=1, keepdims=True)
    shares_NK = counts_NK / np.maximum(total_N1, 1)
    bins_NK = np.ceil(shares_NK * bins).astype(int) - 1
    return [tuple(row) for row in bins_NK.tolist()]


def sample(
    counts_NK: NDArray[np.int64], *, fraction: float, seed: int, one_of_each: bool = False
) -> list[int]:
    """Draw the scenes to keep: a fraction of each stratum, as indices in rising order.

    Every scene has the same chance, no stratum is more than one scene off its quota, and the total
    is the fraction of all scenes. Strata are visited in sorted order, so that small,
    similar strata are represented as a group. (Largest remainders would never choose from the
    smallest ones.)

    Args:
        counts_NK: Labeled pixels of each class in each scene, (N, K).
        fraction: Fraction of the scenes to keep, in (0, 1].
        seed: Seed of the draws.
        one_of_each: Cryo-Bench's rule instead: each quota rounded down, and at least one
            scene. With small strata, that is far more than the fraction.

    Source: systematic sampling of ordered strata, Madow 1949, doi:10.1214/aoms/1177729988.
    """
    rng = np.random.default_rng(seed)
    members: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, stratum in enumerate(strata(counts_NK)):
        members[stratum].append(number)
    groups = [rng.permutation(members[stratum]) for stratum in sorted(members)]
    sizes_G = np.array([len(group) for group in groups])
    if one_of_each:
        seats_G = np.maximum((sizes_G * fraction).astype(int), 1)
    else:
        wanted = max(round(len(counts_NK) * fraction), 1)
        seats_G = _seats(sizes_G, wanted=wanted, rng=rng)
    chosen = (group[:seats] for group, seats in zip(groups, seats_G, strict=True))
    return sorted(int(number) for group in chosen for number in group)


def _seats(
    sizes_G: NDArray[np.int64], *, wanted: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Round the quotas of all strata, up or down, so that their sum is `wanted`."""
    number = int(sizes_G.sum())
    edges_G = (sizes_G.cumsum() * wanted + rng.integers(number)) // number  # exact: whole numbers
    seats_G: NDArray[np.int64] = np.diff(edges_G, prepend=0)
    return seats_G
