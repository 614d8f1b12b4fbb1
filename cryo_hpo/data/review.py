"""Review a dataset's scenes together: find problems that no single file shows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from ..errors import count_of
from .class_review import (
    find_absent_classes,
    find_lone_places,
    find_odd_palettes,
    find_single_class,
    find_swapped_classes,
)
from .dataset import Dataset, Split
from .facts import SceneFacts
from .layer_names import canonical, contradicts, wavelength_um
from .nodata import FILL_NUMBERS
from .pixel_size import describe_oblong

SHOWN = 3  # ids in a sentence
MIN_RATIO = 20.0  # of the largest values: different units, not brighter ground
MAX_STDS = 2.0  # of a part's mean from that of train
MAX_GSD_RATIO = 1.2
MAX_APART = 0.08  # of a wavelength: bands of one name differ by less between sensors


class Review(NamedTuple):
    """Collect the problems of a dataset as a whole."""

    refusals: tuple[str, ...]
    """Reasons to refuse training."""
    warnings: tuple[str, ...]
    """Reasons to check the data."""


def review(dataset: Dataset, parts: Mapping[Split, Sequence[SceneFacts]]) -> Review:
    """Return the problems that the scenes of all parts show together.

    Args:
        dataset: Dataset as declared.
        parts: The facts of each part's scenes.
    """
    refusals = [*find_single_class(dataset, parts), *find_odd_palettes(dataset, parts)]
    warnings = [*dataset.doubts]
    for severe, sentence in (
        *_units(parts),
        *_tags(dataset, parts),
        *_fills(parts),
        *_names(dataset, parts),
        *_wavelengths(dataset, parts),
        *find_absent_classes(dataset, parts),
    ):
        (refusals if severe else warnings).append(sentence)
    warnings += [*_means(dataset, parts), *_pixel_sizes(dataset, parts), *_notes(parts)]
    warnings += [*_constant_bands(dataset, parts), *_empty_bands(dataset, parts)]
    warnings += [*_blank_scenes(parts), *_unlabeled_scenes(parts)]
    warnings += [*_copies(parts), *find_swapped_classes(dataset, parts)]
    warnings += find_lone_places(dataset, parts)
    return Review(tuple(refusals), tuple(warnings))


def _units(parts: Mapping[Split, Sequence[SceneFacts]]) -> Iterator[tuple[bool, str]]:
    """Compare data types and ranges of values, within and between parts."""
    groups: dict[str, list[tuple[Split, SceneFacts]]] = defaultdict(list)
    for part, scenes in parts.items():
        for scene in scenes:
            groups[scene.dtype].append((part, scene))
    if len(groups) > 1:
        levels = {dtype: _level(scene for _, scene in group) for dtype, group in groups.items()}
        words = "; ".join(
            f"{dtype} in {count_of(len(group), 'scene')} of {_parts(group)} "
            f"({_first_names(scene.id for _, scene in group)}) up to {levels[dtype]:.4g}"
            for dtype, group in sorted(groups.items())
        )
        severe = any(_ratio(a, b) >= MIN_RATIO for a, b in combinations(levels.values(), 2))
        what = "other units" if severe else "perhaps other units"
        yield (
            severe,
            (f"The images' data types differ, {what}: {words}. Write all in one unit and type."),
        )
        if severe:
            return
    levels_by_part = {part: _level(scenes) for part, scenes in parts.items() if scenes}
    for (a, first), (b, second) in combinations(levels_by_part.items(), 2):
        if _ratio(first, second) >= MIN_RATIO:
            yield (
                True,
                (
                    f"{a} and {b} differ in their units: pixels reach {first:.4g} and {second:.4g}. "
                    "Write all images in one unit."
                ),
            )
    for part, scenes in parts.items():
        level = _level(scenes)
        odd = [s.id for s in scenes if s.magnitude and _ratio(s.magnitude, level) >= MIN_RATIO]
        if odd and len(odd) < len(scenes):
            yield (
                False,
                (
                    f"{part}: {len(odd)} of {len(scenes)} scenes ({_first_names(odd)}) have pixels of a range "
                    f"far from the others', which reach {level:.4g}. Are their units others?"
                ),
            )


def _tags(
    dataset: Dataset, parts: Mapping[Split, Sequence[SceneFacts]]
) -> Iterator[tuple[bool, str]]:
    """Refuse scale and offset tags that differ, unless the card sets how to treat them."""
    tags: Counter[tuple[tuple[float, ...], tuple[float, ...]]] = Counter()
    for scenes in parts.values():
        tags.update((scene.scales, scene.offsets) for scene in scenes)
    if len(tags) > 1 and dataset.scale is None:
        pairs = {tag: list(zip(*tag, strict=True)) for tag in tags}
        declared = [own for own in pairs.values() if own]
        band = next(
            (k for k, own in enumerate(zip(*declared, strict=False)) if len(set(own)) > 1), 0
        )
        words = "; ".join(
            f"scale {pairs[tag][band][0]:g} and offset {pairs[tag][band][1]:g} in {count_of(count, 'scene')}"
            for tag, count in tags.most_common(SHOWN)
            if pairs[tag]
        )
        yield (
            True,
            (
                f"The images' scale and offset tags differ ({words}): equal numbers mean other values, "
                "as before and after Sentinel-2's baseline 04.00. Write `scale: apply` in the card, or "
                "`scale: ignore` if the tags are wrong."
            ),
        )


def _fills(parts: Mapping[Split, Sequence[SceneFacts]]) -> Iterator[tuple[bool, str]]:
    """Report a constant value at the edge of scenes that is no declared nodata value."""
    for part, scenes in parts.items():
        by_value: dict[float, list[SceneFacts]] = defaultdict(list)
        for scene in scenes:
            if scene.fill is not None:
                by_value[scene.fill.value].append(scene)
        for value, filled in by_value.items():
            far = any(scene.fill is not None and scene.fill.far for scene in filled)
            if not far and 2 * len(filled) < len(scenes):
                continue
            share = np.mean([scene.fill.share for scene in filled if scene.fill])
            edge = any(scene.fill is not None and scene.fill.edge for scene in filled)
            verbs = ("is", "holds") if len(filled) == 1 else ("are", "hold")
            what = (
                f"{verbs[0]} filled from the edge with"
                if edge
                else f"{verbs[1]}, far from all other pixels,"
            )
            yield (
                far,
                (
                    f"{part}: {len(filled)} of {len(scenes)} scenes ({_first_names(s.id for s in filled)}) {what} "
                    f"the value {value:.8g}, on {100 * share:.{'1f' if edge else '2g'}} % of their "
                    f"pixels, and declare no nodata. Write `nodata: {value:.8g}` in the card."
                ),
            )


def _names(
    dataset: Dataset, parts: Mapping[Split, Sequence[SceneFacts]]
) -> Iterator[tuple[bool, str]]:
    """Compare the layers' names in the files with the bands of the card, in their order."""
    bands = [band.names[0] for band in dataset.bands]
    by_names: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for scenes in parts.values():
        for scene in scenes:
            if len(scene.names) == len(bands) and contradicts(
                scene.names, [band.names for band in dataset.bands]
            ):
                by_names[scene.names].append(scene.id)
    for names, ids in by_names.items():
        given = sorted(filter(None, map(canonical, names)))
        same = given == sorted(canonical(band) or band for band in bands)
        order = " ".join(names)
        remedy = f"Write `bands: [{', '.join(filter(None, map(canonical, names)))}]`"
        yield (
            same,
            (
                f"The files of {count_of(len(ids), 'scene')} ({_first_names(ids)}) name their layers {order}, the dataset "
                f"calls them {' '.join(bands)}. "
                + (f"{remedy} in the card, or correct the files." if same else "Check `bands`.")
            ),
        )


def _wavelengths(
    dataset: Dataset, parts: Mapping[Split, Sequence[SceneFacts]]
) -> Iterator[tuple[bool, str]]:
    """Compare wavelengths in the layers' names with those of the card's bands, in their order."""
    centers = [band.center_um for band in dataset.bands]
    ids: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for scenes in parts.values():
        for scene in scenes:
            given = [wavelength_um(name) for name in scene.names]
            pairs = zip(given, centers, strict=False)
            if any(a and b and abs(a - b) > MAX_APART * b for a, b in pairs):
                ids[scene.names].append(scene.id)
    for names, scenes_of_names in ids.items():
        own = " ".join(f"{band.name} ({band.center_um or '?'})" for band in dataset.bands)
        yield (
            False,
            (
                f"The files of {count_of(len(scenes_of_names), 'scene')} ({_first_names(scenes_of_names)}) name their "
                f"layers {', '.join(names)}; the card's bands are {own}, in micrometers. Correct the "
                "order of `bands`, or `sensor`."
            ),
        )


def _means(dataset: Dataset, parts: Mapping[Split, Sequence[SceneFacts]]) -> Iterator[str]:
    """Report parts whose mean is far from that of train, in units of the spread of its scenes."""
    train = np.array([scene.mean_C for scene in parts.get("train", ()) if any(scene.mean_C)])
    if len(train) < SHOWN:
        return
    mean_C = train.mean(axis=0)
    spread_C = np.maximum(train.std(axis=0, ddof=1), 0.25 * np.abs(mean_C)) + 1e-12
    for part, scenes in parts.items():
        rows = np.array([scene.mean_C for scene in scenes if any(scene.mean_C)])
        if part == "train" or not len(rows):
            continue
        apart_C = np.abs(rows.mean(axis=0) - mean_C) / spread_C
        worst = int(apart_C.argmax())
        if apart_C[worst] > MAX_STDS:
            yield (
                f"{part}: the mean of band {dataset.bands[worst].name} is "
                f"{rows.mean(axis=0)[worst]:.4g}, training's is {mean_C[worst]:.4g}, "
                f"{apart_C[worst]:.1f} standard deviations of its scenes away. Are the units the same?"
            )


def _pixel_sizes(dataset: Dataset, parts: Mapping[Split, Sequence[SceneFacts]]) -> Iterator[str]:
    sizes = [s.gsd_m for scenes in parts.values() for s in scenes if s.gsd_m is not None]
    if not sizes:
        return
    low, high = min(sizes), max(sizes)
    if dataset.gsd_m is not None and _ratio(float(np.median(sizes)), dataset.gsd_m) > MAX_GSD_RATIO:
        yield (
            f"The pixel size is {dataset.gsd_m:g} m by `gsd_m`, and {np.median(sizes):.4g} m by the "
            "files' coordinates. Correct `gsd_m`, or the files."
        )
    if _ratio(low, high) > 2:
        yield f"The pixel size differs between scenes, from {low:.4g} m to {high:.4g} m."
    yield from _oblong_pixels([s for scenes in parts.values() for s in scenes])


def _oblong_pixels(scenes: Sequence[SceneFacts]) -> Iterator[str]:
    """Report pixels that are no squares on the ground, by the scene where they are least square."""
    ratios = {s: max(s.pixel_m) / min(s.pixel_m) for s in scenes if s.pixel_m and min(s.pixel_m)}
    if not ratios:
        return
    scene = max(ratios, key=lambda s: ratios[s])
    if oblong := describe_oblong(scene.pixel_m):
        yield (
            f"On the ground {oblong} ('{scene.id}'). This side is used for both directions: areas are "
            f"right, lengths and distances in meters are up to {100 * (ratios[scene] ** 0.5 - 1):.0f} % "
            "off. Where they matter, reproject to square pixels: gdalwarp -t_srs EPSG:326.. -tr 30 30."
        )


def _constant_bands(dataset: Dataset, parts: Mapping[Split, Sequence[SceneFacts]]) -> Iterator[str]:
    """Report bands whose mean is the same number in every scene: they hold no information."""
    rows = [s.mean_C for scenes in parts.values() for s in scenes if s.high > s.low]
    if len(rows) < SHOWN:
        return
    for band, means in zip(dataset.bands, zip(*rows, strict=True), strict=False):
        if len(set(means)) == 1:
            yield (
                f"Band {band.name} has the mean {means[0]:g} in every scene: is it constant? "
                "Remove it from `bands` and the files, or correct the files."
            )


def _empty_bands(dataset: Dataset, parts: Mapping[Split, Sequence[SceneFacts]]) -> Iterator[str]:
    """Report bands that hold only 0, or only a fill value, in some scenes: they are missing there."""
    scenes = [(part, scene) for part, own in parts.items() for scene in own if any(scene.mean_C)]
    for k, band in enumerate(dataset.bands):
        for value in (0.0, *FILL_NUMBERS):
            empty = [pair for pair in scenes if pair[1].mean_C[k] == value]
            # Without negative pixels, a mean of 0 is a band of zeros.
            empty = [(part, s) for part, s in empty if value or s.low >= 0]
            if empty and len(empty) < len(scenes):
                yield (
                    f"{_parts(empty)}: band {band.name} is {value:g} everywhere in {count_of(len(empty), 'scene')} "
                    f"({_first_names(scene.id for _, scene in empty)}), and is not in others. Is it missing "
                    "there? Remove these scenes, or the band."
                )


def _blank_scenes(parts: Mapping[Split, Sequence[SceneFacts]]) -> Iterator[str]:
    """Report labeled scenes whose pixels all have one value: their labels lie on no picture."""
    scenes = [(part, s) for part, own in parts.items() for s in own if any(s.counts_K)]
    blank = [(part, s) for part, s in scenes if s.low == s.high]
    if blank:
        values = ", ".join(f"{value:g}" for value in sorted({s.low for _, s in blank})[:SHOWN])
        yield (
            f"{_parts(blank)}: {len(blank)} of {count_of(len(scenes), 'labeled scene')} "
            f"({_first_names(s.id for _, s in blank)}) {'has' if len(blank) == 1 else 'have'} one value "
            f"everywhere ({values}): labels without a picture teach and measure nothing. Was the "
            "export cut short? Write these images again, or remove the scenes."
        )


def _unlabeled_scenes(parts: Mapping[Split, Sequence[SceneFacts]]) -> Iterator[str]:
    """Report scenes that add nothing: no pixel has both data and a label."""
    for part, scenes in parts.items():
        bare = [s.id for s in scenes if not any(s.counts_K)]
        if bare:
            yield (
                f"{part}: {len(bare)} of {count_of(len(scenes), 'scene')} ({_first_names(bare)}) "
                f"{'has' if len(bare) == 1 else 'have'} no pixel with both data and a label: nothing is "
                "learned from them, or measured on them. Check images and masks, or remove the scenes."
            )


def _copies(parts: Mapping[Split, Sequence[SceneFacts]]) -> Iterator[str]:
    """Report scenes of two parts with the same mean of every band, range and labels: copies."""
    seen: dict[tuple[object, ...], tuple[Split, str]] = {}
    for part, scenes in parts.items():
        for scene in scenes:
            if scene.high <= scene.low:  # an empty scene
                continue
            mark = (scene.mean_C, scene.low, scene.high, scene.counts_K)
            first, twin = seen.setdefault(mark, (part, scene.id))
            if first != part:
                yield (
                    f"{first} and {part}: the scenes {twin} and {scene.id} have the same mean in every "
                    "band, the same range and the same labels: the same pixels written twice? Keep one."
                )


def _notes(parts: Mapping[Split, Sequence[SceneFacts]]) -> Iterator[str]:
    """Yield each distinct note of the reader, with the number of its scenes."""
    ids: dict[str, list[str]] = defaultdict(list)
    for scenes in parts.values():
        for scene in scenes:
            for note in scene.notes:
                ids[note].append(scene.id)
    for note, names in ids.items():
        yield f"{count_of(len(names), 'scene')} ({_first_names(names)}): {note}."


def _level(scenes: Iterable[SceneFacts]) -> float:
    values = [scene.magnitude for scene in scenes if scene.magnitude]
    return float(np.median(values)) if values else 0.0


def _ratio(a: float, b: float) -> float:
    low, high = sorted((abs(a), abs(b)))
    return high / low if low else 1.0


def _parts(group: Sequence[tuple[Split, SceneFacts]]) -> str:
    return ", ".join(dict.fromkeys(part for part, _ in group))


def _first_names(names: Iterable[str]) -> str:
    names = list(names)
    more = ", ..." if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
