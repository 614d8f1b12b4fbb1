"""Find faults of class shares that only a dataset's parts show together."""

# C bands, K classes, N scenes

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset, Split
from .facts import SceneFacts

MAX_RARE = 0.25  # share of the rarer of two classes that may look inverted in another part
MAX_SWAP_RATIO = 3.0  # between that share and the one of the other class in the other part
MAX_OFF = 0.25  # of two shares from swapped ones, if the pixels of the classes are swapped too
MIN_CONTRAST = 0.1  # difference of two classes' means, as a share of the larger
MAX_LONE = 0.8  # share of a class's pixels of a part that may lie in one scene or block
FEWEST = 3  # scenes or blocks of a part for which that is looked at
MIN_AGREEING = 0.9  # share of a part's scenes in which one class is the brighter one

DEALT = {  # kind of split -> what gives every part more of the classes
    "scene": "cut scenes into blocks of ground (`split: {by: place}` in the card)",
    "region": "cut scenes into blocks of ground (`split: {by: place}` in the card)",
    "place": "lower `block_px` in the card's `split`",
    "time": "divide by scene or place (`split` in the card)",
    "list": "list other scenes for that part",
}


def find_single_class(
    dataset: Dataset, parts: Mapping[Split, Sequence[SceneFacts]]
) -> Iterator[str]:
    """Refuse a part whose labels are all of one class: every score on it would be 100 %."""
    remedy = " Check the masks, or deal the scenes out anew."
    if dataset.rule is not None and dataset.rule.by in DEALT:
        remedy = f" Check the masks, {DEALT[dataset.rule.by]}, or add scenes that show the other classes."
    for part, scenes in parts.items():
        counts = _counts(dataset, scenes)
        held = [name for name, count in zip(dataset.classes, counts, strict=True) if count]
        if len(held) != 1 or sum(map(sum, (s.counts_K for s in scenes))) == 0:
            continue
        ignored = sum(scene.ignored for scene in scenes)
        hint = ""
        if ignored and dataset.upstream_ignore is not None:
            other = next(name for name in dataset.classes if name not in held)
            value = dataset.upstream_ignore
            pairs = ", ".join(
                f"{value if name == other else number}: {name}"
                for number, name in enumerate(dataset.classes)
            )
            hint = (
                f" {ignored:,} pixels have the mask value that is ignored ({value}): if that is "
                f"'{other}', write `values: {{{pairs}}}` instead of `ignore: {value}`."
            )
        yield (
            f"{part}: every labeled pixel is '{held[0]}', no pixel of any other class: nothing can "
            f"be learned or measured there.{hint or remedy}"
        )


def find_odd_palettes(
    dataset: Dataset, parts: Mapping[Split, Sequence[SceneFacts]]
) -> Iterator[str]:
    """Refuse palettes that give one class number two colors: number or color may be the class."""
    shown: dict[int, tuple[str, str]] = {}
    for scene in (scene for scenes in parts.values() for scene in scenes):
        for number, color in scene.palette:
            first, where = shown.setdefault(number, (color, scene.id))
            if first != color:
                yield (
                    f"Palettes of the masks differ: {number} is {first} in '{where}' and {color} in "
                    f"'{scene.id}', so that a class of '{dataset.name}' may be the number or the color. "
                    "Name the class of each color in `values`, or write `palettes: ignore` in the "
                    "card if the numbers are right."
                )
                return


def find_lone_places(
    dataset: Dataset, parts: Mapping[Split, Sequence[SceneFacts]]
) -> Iterator[str]:
    """Report classes whose pixels lie nearly all in one scene or block of val or test.

    The most frequent class is left out: it lies everywhere.
    """
    totals = np.array([_counts(dataset, scenes) for scenes in parts.values()]).sum(axis=0)
    unit = dataset.unit
    for part, scenes in parts.items():
        if part == "train" or len(scenes) < FEWEST:
            continue
        for k, name in enumerate(dataset.classes):
            counts_N = np.array([scene.counts_K[k] for scene in scenes])
            most = int(counts_N.argmax())
            if k == totals.argmax() or counts_N[most] <= MAX_LONE * counts_N.sum():
                continue
            share = 100 * counts_N[most] / counts_N.sum()
            remedy = (
                "Choose another `block_px` or `seed` in the card's `split`, take `folds`,"
                if unit == "block"
                else "Deal the scenes out anew,"
            )
            yield (
                f"{part}: {share:.3g} % of the pixels of class '{name}' lie in 1 of {len(scenes)} "
                f"{unit}s ({scenes[most].id}), so that its score is that of one place. {remedy} "
                "or add scenes that show it."
            )


def find_absent_classes(
    dataset: Dataset, parts: Mapping[Split, Sequence[SceneFacts]]
) -> Iterator[tuple[bool, str]]:
    """Report classes without a pixel: in a part, and in all of them."""
    counts = {part: _counts(dataset, scenes) for part, scenes in parts.items()}
    everywhere = {
        name
        for k, name in enumerate(dataset.classes)
        if not any(of_part[k] for of_part in counts.values())
    }
    seen = len(dataset.classes) - len(everywhere)
    if everywhere and seen > 1:  # a single class has its own message
        names = ", ".join(f"'{name}'" for name in dataset.classes if name in everywhere)
        yield (
            True,
            (
                f"No pixel of class {names} in any part. Remove it from `classes`, or correct `values`; "
                "with `ignore: 0`, the first class has mask value 1."
            ),
        )
    for part, of_part in counts.items():
        absent = [name for name, count in zip(dataset.classes, of_part, strict=True) if not count]
        names = ", ".join(f"'{name}'" for name in absent if name not in everywhere)
        if names and len(absent) < len(dataset.classes) - 1:
            yield (
                False,
                f"{part}: no pixel of class {names}. It cannot be learned or measured there.",
            )


def find_swapped_classes(
    dataset: Dataset, parts: Mapping[Split, Sequence[SceneFacts]]
) -> Iterator[str]:
    """Report a part in which the shares of two classes are near to those of other parts, swapped."""
    for pair in combinations(range(len(dataset.classes)), 2):
        shares = {
            part: share
            for part, scenes in parts.items()
            if (share := _share_of_pair(scenes, *pair)) is not None
        }
        signs = {part: _contrast(parts[part], *pair) for part in shares}
        odd = [
            a
            for a in shares
            if all(
                _mirrored(shares[a], shares[b]) or _reversed(shares, signs, a, b)
                for b in shares
                if b != a
            )
        ]
        if len(shares) < 2 or not odd:
            continue
        part = odd[-1]  # of two parts, the one that is not train
        other = next(name for name in shares if name != part)
        rare, usual = pair if shares[other] < 0.5 else pair[::-1]
        percents = [
            100 * (shares[name] if rare == pair[0] else 1 - shares[name]) for name in (part, other)
        ]
        yield (
            f"{part}: of its pixels of '{dataset.classes[rare]}' and '{dataset.classes[usual]}', "
            f"{percents[0]:.3g} % are '{dataset.classes[rare]}', and {percents[1]:.3g} % in {other}: "
            f"near to swapped. Are the masks of {part} inverted? Compare them in `cryo-hpo data show`."
        )


def _share_of_pair(scenes: Sequence[SceneFacts], first: int, second: int) -> float | None:
    """Return the first class's share of the pixels of two classes; None: it shows nothing.

    The two must be most of the part, and its median scene must agree: one scene that is all glacier
    is no inverted mask.
    """
    pairs_N2 = np.array([[s.counts_K[first], s.counts_K[second]] for s in scenes], dtype=np.float64)
    labeled = sum(sum(scene.counts_K) for scene in scenes)
    if not len(scenes) or 2 * pairs_N2.sum() < labeled or not pairs_N2.sum(axis=0).all():
        return None
    share = float(pairs_N2[:, 0].sum() / pairs_N2.sum())
    own_N = pairs_N2[:, 0] / np.maximum(pairs_N2.sum(axis=1), 1)
    return share if (np.median(own_N) > 0.5) == (share > 0.5) else None


def _contrast(scenes: Sequence[SceneFacts], first: int, second: int) -> NDArray[np.int64]:
    """Return the sign of the first class's contrast to the second in each band, (C,); 0: unclear."""
    both = [s for s in scenes if s.class_means_KC and s.counts_K[first] and s.counts_K[second]]
    if not both:
        return np.zeros(0, dtype=np.int64)
    means_N2C = np.array([[s.class_means_KC[first], s.class_means_KC[second]] for s in both])
    apart_NC = means_N2C[:, 0] - means_N2C[:, 1]
    clear_C = np.median(np.abs(apart_NC), axis=0) >= MIN_CONTRAST * np.abs(means_N2C).max((0, 1))
    agreeing_C = np.abs(np.sign(apart_NC).sum(axis=0)) >= (2 * MIN_AGREEING - 1) * len(both)
    signs_C: NDArray[np.int64] = np.sign(np.median(apart_NC, axis=0)).astype(np.int64)
    signs_C[~(clear_C & agreeing_C)] = 0
    return signs_C


def _reversed(
    shares: Mapping[Split, float], signs: Mapping[Split, NDArray[np.int64]], a: Split, b: Split
) -> bool:
    """Return whether the brighter class of one part is the darker one of another in every band."""
    first_C, second_C = signs[a], signs[b]
    apart = (shares[a] - 0.5) * (shares[b] - 0.5) < 0 and abs(shares[a] + shares[b] - 1) <= MAX_OFF
    if not apart or first_C.shape != second_C.shape:
        return False
    clear_C = (first_C != 0) & (second_C != 0)
    return bool(clear_C.any() and (first_C[clear_C] == -second_C[clear_C]).all())


def _mirrored(share: float, other: float) -> bool:
    """Return whether two shares are far apart, and one is about 1 minus the other."""
    low, high = sorted((share, other))
    small, large = sorted((low, 1 - high))
    return large <= MAX_RARE and large <= MAX_SWAP_RATIO * small


def _counts(dataset: Dataset, scenes: Sequence[SceneFacts]) -> list[int]:
    return [sum(scene.counts_K[k] for scene in scenes) for k in range(len(dataset.classes))]
