"""Split scenes by region: groups of related scenes stay in one part."""

# G groups, D balanced quantities, P parts, K classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .dataset import Dataset, SceneFiles, Split
from .leakage import SceneIdentity, connected_groups

PARTS: tuple[Split, ...] = get_args(Split)
RESTARTS = 16  # random orders; the best one is used


def split_by_region(dataset: Dataset, seed: int) -> Dataset:
    """Return the dataset with a split by region instead of the official one."""
    if dataset.rule is not None:
        raise DataError(
            f"The card of '{dataset.name}' divides its scenes itself (`split: {{by: "
            f"{dataset.rule.by}}}`). Leave out `data.split: region`; `by: scene` keeps regions whole."
        )
    rules = f"{dataset.rules} split=region seed={seed}"
    return replace(dataset, split_seed=seed, rules=rules, shared="")


def divide(
    dataset: Dataset,
    kin: Mapping[Split, Sequence[SceneIdentity]],
    counts: Mapping[str, Sequence[int]],
) -> dict[Split, list[SceneFiles]]:
    """Distribute the scenes of all parts anew, in whole groups of related scenes.

    The parts keep about their official sizes, and get about the same share of each class.

    Args:
        dataset: Dataset of the scenes; its `split_seed` decides between equals.
        kin: Identities of the official parts' scenes.
        counts: Id -> labeled pixels of each class.

    Raises:
        DataError: A scene has neither region nor georeference, or there are not three groups.
    """
    scenes = sorted((k for part in PARTS for k in kin[part]), key=lambda k: k.item.id)
    _require_places(dataset, scenes)
    groups = connected_groups(scenes)
    if len(groups) < len(PARTS):
        raise DataError(
            f"Cannot split '{dataset.name}' by region: it has {len(groups)} regions that share no "
            f"ground, at least {len(PARTS)} are needed. Use `data.split: official`."
        )
    rows = np.array([[1, *counts[k.item.id]] for k in scenes], dtype=np.float64)
    sizes_GD = np.stack([rows[group].sum(axis=0) for group in groups])
    shares_P = np.array([len(kin[part]) for part in PARTS]) / len(scenes)
    part_G = assign(sizes_GD, shares_P, seed=dataset.split_seed or 0)
    divided: dict[Split, list[SceneFiles]] = {part: [] for part in PARTS}
    for group, part in zip(groups, part_G.tolist(), strict=True):
        divided[PARTS[part]] += [scenes[i].item for i in group]
    return {part: sorted(items) for part, items in divided.items()}


def assign(
    sizes_GD: NDArray[np.float64], shares_P: NDArray[np.float64], *, seed: int
) -> NDArray[np.intp]:
    """Assign each group to a part, so that every part gets its share of scenes and classes.

    Groups are assigned one by one, large ones first, to the part that leaves the smallest sum of
    squared distances from the shares. The best of `RESTARTS` orders is used.

    Args:
        sizes_GD: Content of each group: scenes, and pixels of each class.
        shares_P: Target share of each part, in sum 1.
        seed: Seed of the orders.

    Returns:
        Number of a part for each group, (G,); every part has at least one.
    """
    totals_D = sizes_GD.sum(axis=0)
    part_of_all_GD = (sizes_GD / np.where(totals_D > 0, totals_D, 1))[:, totals_D > 0]
    rng = np.random.default_rng(seed)
    tries = [_deal(part_of_all_GD, shares_P, rng) for _ in range(RESTARTS)]
    return min(tries, key=lambda candidate: candidate[0])[1]


def _deal(
    sizes_GD: NDArray[np.float64], shares_P: NDArray[np.float64], rng: np.random.Generator
) -> tuple[float, NDArray[np.intp]]:
    """Assign once; return the distance of the parts from their shares, and each group's part."""
    weight_G = sizes_GD.sum(axis=1) * rng.uniform(0.5, 1.5, len(sizes_GD))
    held_PD = np.zeros((len(shares_P), sizes_GD.shape[1]))
    empty = set(range(len(shares_P)))
    part_G = np.zeros(len(sizes_GD), dtype=np.intp)
    for turn, g in enumerate(np.argsort(-weight_G, kind="stable").tolist()):
        must = len(empty) == len(sizes_GD) - turn  # as many groups left as empty parts
        open_ = sorted(empty) if must else range(len(shares_P))
        after_PD = (held_PD + sizes_GD[g] - shares_P[:, None]) ** 2
        before_PD = (held_PD - shares_P[:, None]) ** 2
        cost_P = ((after_PD - before_PD) / shares_P[:, None]).sum(axis=1)
        part = min(open_, key=lambda p: (cost_P[p], rng.random()))
        part_G[g] = part
        held_PD[part] += sizes_GD[g]
        empty.discard(part)
    distance = (((held_PD - shares_P[:, None]) ** 2) / shares_P[:, None]).sum()
    return float(distance), part_G


def _require_places(dataset: Dataset, scenes: Sequence[SceneIdentity]) -> None:
    lost = [k.item.id for k in scenes if k.item.region is None and not k.has_place]
    if lost:
        raise DataError(
            f"Cannot split '{dataset.name}' by region: {len(lost)} of {len(scenes)} scenes have neither "
            f"a region nor a place (first: '{lost[0]}'). Add 'region' to the card, or use "
            "`data.split: official`."
        )
