"""Inspect every file of a split: sizes, types, values, class shares, and all problems at once."""

# K classes

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .dataset import IGNORE, Dataset, SceneFiles, Split
from .decode import Moments
from .facts import FactsCollector, SceneFacts
from .leakage import Shared, find_shared_acquisitions
from .strips import measure, read_strips

SHOWN = 3  # names in a sentence; the others are counted


class SceneInspection(NamedTuple):
    """Hold the findings from reading one scene."""

    item: SceneFiles
    size: tuple[int, int]
    dtype: str
    counts_K: NDArray[np.int64]
    ignored: int
    moments: Moments
    facts: SceneFacts | None
    """Facts for the review of all scenes; None: the scene cannot be read."""
    problem: str = ""
    """Reason why the scene cannot be read, in which case the other fields are empty; "": none."""


@dataclass(slots=True)
class Summary:
    """Sum the inspections of a part's scenes.

    Attributes:
        scenes: Number of scenes that could be read.
        sizes: Height and width -> scenes.
        dtypes: Data type -> scenes.
        counts_K: Labeled pixels of each class.
        ignored: Pixels left out of loss and score.
        moments: Mean and variance of the labeled pixels, band by band.
        facts: Facts of each scene, for the review of all.
        problems: One line for each file that cannot be read.
    """

    counts_K: NDArray[np.int64]
    moments: Moments
    scenes: int = 0
    ignored: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    dtypes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    facts: list[SceneFacts] = field(default_factory=list)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of each class among the labeled pixels, (K,); 0 without any."""
        shares: NDArray[np.float64] = self.counts_K / max(int(self.counts_K.sum()), 1)
        return shares

    @property
    def ignored_share(self) -> float:
        """Share of pixels left out of loss and score."""
        return self.ignored / max(self.ignored + int(self.counts_K.sum()), 1)

    @property
    def size_words(self) -> str:
        """Sizes as text: one, or the smallest and the largest."""
        if not self.sizes:
            return "-"
        low, high = min(self.sizes), max(self.sizes)
        words = [f"{height} x {width}" for height, width in dict.fromkeys([low, high])]
        return " to ".join(words)


def inspect_scenes(
    dataset: Dataset,
    items: Iterable[SceneFiles],
    *,
    progress: Callable[[float], None] = lambda _share: None,
) -> Iterator[SceneInspection]:
    """Read every pixel and label, scene by scene; an unreadable scene is reported, not raised.

    Args:
        dataset: Reads the scenes.
        items: Files of the scenes.
        progress: Called with the share of a scene that was read since the last call.
    """
    for item in items:
        try:
            yield _inspect(dataset, item, progress)
        except DataError as error:
            none_K = np.zeros(len(dataset.classes), dtype=np.int64)
            yield SceneInspection(
                item, (0, 0), "", none_K, 0, _no_moments(dataset), None, str(error)
            )


def _inspect(
    dataset: Dataset, item: SceneFiles, progress: Callable[[float], None]
) -> SceneInspection:
    """Read a scene, a large one in strips."""
    size = measure(dataset, item)
    collector = FactsCollector(size, num_classes=len(dataset.classes))
    moments, height, width = _no_moments(dataset), 0, 0
    for top, scene in read_strips(dataset, item):
        moments |= Moments.of(scene.image_CHW, scene.mask_HW != IGNORE)
        collector.add(top, scene)
        height, width = height + len(scene.mask_HW), scene.mask_HW.shape[1]
        progress(1.0 if size is None else len(scene.mask_HW) / size[0])
    facts = collector.facts()
    counts_K = np.array(facts.counts_K, dtype=np.int64)
    ignored = height * width - int(counts_K.sum())
    return SceneInspection(item, (height, width), facts.dtype, counts_K, ignored, moments, facts)


def _no_moments(dataset: Dataset) -> Moments:
    return Moments(0, *np.zeros((2, len(dataset.bands))))


def summarize(dataset: Dataset, inspections: Iterable[SceneInspection]) -> Summary:
    """Sum the inspections of a part's scenes."""
    whole = Summary(
        counts_K=np.zeros(len(dataset.classes), dtype=np.int64), moments=_no_moments(dataset)
    )
    for look in inspections:
        if look.problem:
            whole.problems.append(look.problem)
            continue
        whole.scenes += 1
        whole.facts += [look.facts] if look.facts else []
        whole.sizes[look.size] += 1
        whole.dtypes[look.dtype] += 1
        whole.counts_K += look.counts_K
        whole.ignored += look.ignored
        whole.moments |= look.moments
    return whole


def describe_overlap(overlap: Shared) -> Iterator[str]:
    """Describe what two parts share, a sentence for each kind."""
    a, b = overlap.parts
    if overlap.regions:
        yield (
            f"{a} and {b} share {_count_of(overlap.regions, 'region')}; "
            f"{overlap.in_shared_regions} scenes of {b} lie there."
        )
    if overlap.copies:
        yield f"{a} and {b} hold {_count_of(tuple(f'{x} = {y}' for x, y in overlap.copies), 'identical image')}."
    if overlap.overlaps:
        pairs = tuple(f"{x} and {y}" for x, y in overlap.overlaps)
        yield f"{a} and {b} show the same ground in {_count_of(pairs, 'pair of scenes')}."


def describe_acquisitions(
    dataset: Dataset, parts: Mapping[Split, Sequence[SceneFiles]]
) -> Iterator[str]:
    """Describe how many scenes of a part come from satellite scenes of another part."""
    if not dataset.acquisition:
        return
    for a, b, number in find_shared_acquisitions(dataset.acquisition, parts):
        yield (
            f"{number} of {len(parts[b])} scenes of {b} are cut from satellite scenes that {a} has too."
        )


def _count_of(names: tuple[str, ...], what: str) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    noun, _, rest = what.partition(" of ")
    plural = "" if len(names) == 1 else "s"
    return f"{len(names)} {noun}{plural}{rest and f' of {rest}'} ({', '.join(names[:SHOWN])}{more})"
