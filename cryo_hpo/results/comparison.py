"""Compare two finished studies: whether their scores may be compared, and then by how much they differ.

Two test scores compare only if both are of the same pixels, with the same classes, scored by the
same rules: everything that changes what a score means is an obstacle or, where it changes only
other metrics or how the winner was chosen, a note. Trainings of one seed see the same random numbers, so the seeds that both studies have
are pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.metric import TOLERANCE
from ..config.recipe import flatten
from ..stats import Improvement, relative_improvement
from .study import ArmResult, Result, load_result

SPLITS = {
    "train": "they learned from other training scenes",
    "val": "their winners were chosen on other validation scenes",
    "test": "they were scored on other test scenes",
}
# Keys of a dataset's card that decide which pixels have which label; the fingerprint is of the files.
LABEL_RULES = ("values", "ignore", "nodata", "nan", "quality", "warp")
# Keys that have a note or an obstacle of their own, or leave the trained weights what they are.
NO_TRAINING = (
    *("protocol", "compile", "recompute", "reproducible"),
    *("data.name", "data.card", "data.split", "data.label", "data.boundary", "data.overlap"),
)
BOUNDARY = "boundary_f1/"  # beginning of the metrics that the tolerance defines


@dataclass(frozen=True, slots=True)
class Difference:
    """Hold one value of the recipes in which the two winners differ."""

    path: str
    first: object
    second: object


@dataclass(frozen=True, slots=True)
class Comparison:
    """Hold two studies side by side.

    Attributes:
        first: Result of one study.
        second: Result of the other.
        obstacles: Why the scores of the two may not be compared; empty if they may.
        differences: In what the recipes of the two winners differ.
        paired_seeds: Seeds that both winners were trained on.
        gain: The second study's winner over the first's, on these seeds; None if there are no such
            seeds, or the scores may not be compared.
        notes: What limits `gain`.
    """

    first: Result
    second: Result
    obstacles: tuple[str, ...]
    differences: tuple[Difference, ...]
    paired_seeds: tuple[int, ...]
    gain: Improvement | None
    notes: tuple[str, ...]

    @property
    def is_allowed(self) -> bool:
        """Whether the scores may be compared."""
        return not self.obstacles


def compare(first: Result | Path | str, second: Result | Path | str) -> Comparison:
    """Put two finished studies side by side.

    Args:
        first: A result, a study's folder, or a result.json.
        second: Likewise; `gain` is this study's winner over the first's.

    Raises:
        CryoError: A study has not finished, or its result cannot be read.
    """
    a, b = (study if isinstance(study, Result) else load_result(study) for study in (first, second))
    obstacles = tuple(_obstacles(a, b))
    old, new = ({} if not result.arms else _scores(winning_arm(result)) for result in (a, b))
    seeds = tuple(seed for seed in old if seed in new)
    gain = None
    if seeds and not obstacles:
        gain = relative_improvement([new[s] for s in seeds], [old[s] for s in seeds])
    return Comparison(
        first=a,
        second=b,
        obstacles=obstacles,
        differences=tuple(_differences(a, b)),
        paired_seeds=seeds,
        gain=gain,
        notes=tuple(_notes(a, b, seeds)),
    )


def winning_arm(result: Result) -> ArmResult:
    """Return the arm of the recipe that won: tuned, or the baseline where nothing beat it.

    Args:
        result: A study with scores on the test split.
    """
    return next((arm for arm in result.arms if arm.name == "tuned"), result.arm("baseline"))


def _obstacles(a: Result, b: Result) -> Iterator[str]:
    """Yield why the scores of two studies may not be compared."""
    for result in (a, b):
        if not result.arms:
            yield f"'{result.study}' ended after its search (proof: none), without test scores"
    if a.classes != b.classes:
        yield f"their classes differ ({', '.join(a.classes)}; {', '.join(b.classes)})"
    if a.data_split != b.data_split:
        yield f"their data are split differently ({a.data_split}; {b.data_split})"
    for split, why in SPLITS.items():
        prints = [result.data_fingerprints.get(split) for result in (a, b)]
        if None in prints:
            yield f"a result does not record the fingerprint of its {split} split"
        elif prints[0] != prints[1]:
            yield f"{why} (fingerprints {str(prints[0])[:12]}; {str(prints[1])[:12]})"
    protocols = [result.base_recipe.get("protocol", "corrected") for result in (a, b)]
    if protocols[0] != protocols[1]:
        yield f"their scores follow two protocols ({protocols[0]}; {protocols[1]})"
    yield from _label_obstacles(a, b)
    metrics, tolerances = (a.metric, b.metric), (_tolerance(a), _tolerance(b))
    if tolerances[0] != tolerances[1] and any(metric.startswith(BOUNDARY) for metric in metrics):
        yield f"their winners were chosen by boundary F1 within {tolerances[0]}; {tolerances[1]}"


def _label_obstacles(a: Result, b: Result) -> Iterator[str]:
    """Yield the rules by which two cards read equal files differently."""
    cards = [_data(result).get("card") for result in (a, b)]
    if (cards[0] is None) != (cards[1] is None):
        names = [_data(result).get("name") or "a card" for result in (a, b)]
        yield f"one reads its masks as a built-in dataset, the other by a card ({'; '.join(names)})"
        return
    for key in LABEL_RULES:
        values = [(card or {}).get(key) for card in cards]
        if values[0] != values[1]:
            yield f"their cards have another `{key}` ({values[0]}; {values[1]})"


def _data(result: Result) -> dict[str, Any]:
    data: dict[str, Any] = result.base_recipe.get("data") or {}
    return data


def _tolerance(result: Result) -> str:
    return str(_data(result).get("boundary_tolerance", TOLERANCE))


def _differences(a: Result, b: Result) -> Iterator[Difference]:
    before, after = dict(flatten(a.best_recipe)), dict(flatten(b.best_recipe))
    for path in dict.fromkeys([*before, *after]):
        if path != "seed" and before.get(path) != after.get(path):
            yield Difference(path, before.get(path), after.get(path))


def _scores(arm: ArmResult) -> dict[int, float]:
    return {seed.seed: seed.test_miou for seed in arm.seeds}


def _notes(a: Result, b: Result, seeds: tuple[int, ...]) -> Iterator[str]:
    if keys := _training_keys(a, b):
        yield (
            f"Their trainings also differ by {', '.join(f'`{key}`' for key in keys)}, which no search "
            "chose and which may explain the difference. Run both studies with equal values to "
            "compare what was tuned."
        )
    if not seeds:
        yield "The winners share no seed, so their scores are not paired and have no interval."
    yield from _notes_on_scores(a, b)
    if any(map(_stopped_by_scores, (a, b))):
        yield (
            "A study stopped as soon as its own comparison was decided: the number of its seeds "
            "was not fixed beforehand, so the interval between the studies is approximate."
        )
    if "quick" in (a.proof, b.proof):
        yield "A study with `proof: quick` was scored on the seed that chose its winner."
    if a.extensions or b.extensions:
        yield (
            "A study was extended after its first result: an interval holds for a number of seeds "
            "that was fixed beforehand."
        )


def _stopped_by_scores(result: Result) -> bool:
    """Return True if test scores ended a comparison; where the baseline won, there was none to end."""
    proof = result.improvement
    return proof is not None and bool(proof.stopped) and not result.winner_is_baseline


def _training_keys(a: Result, b: Result) -> list[str]:
    """Return the recipe keys that train the two winners differently, and that no search chose."""
    searched = {name for result in (a, b) for trial in result.trials for name in trial.params}
    paths = (difference.path for difference in _differences(a, b))
    return [path for path in paths if path not in searched and not path.startswith(NO_TRAINING)]


def _notes_on_scores(a: Result, b: Result) -> Iterator[str]:
    """Yield what differs in how winners were chosen and maps were made, and in other metrics."""
    if a.metric != b.metric:
        yield (
            f"Their winners were chosen by different validation metrics ({a.metric}; {b.metric}): "
            "a study that did not choose by mIoU may have a better recipe for it."
        )
    if _tolerance(a) != _tolerance(b):
        yield f"Their boundary F1 does not compare: within {_tolerance(a)}; {_tolerance(b)}."
    sizes = [(_data(result).get("card") or {}).get("gsd_m") for result in (a, b)]
    if sizes[0] != sizes[1]:
        yield f"Their meters and km2 do not compare: `gsd_m` is {sizes[0]}; {sizes[1]}."
    windows = [_windows(result) for result in (a, b)]
    if windows[0] != windows[1]:
        yield (
            f"Their maps are blended from other windows ({windows[0]}; {windows[1]}), which is part "
            "of the difference."
        )
    if a.sampled_ids != b.sampled_ids:
        yield "They learned from other parts of the same training scenes (`label_fraction`)."


def _windows(result: Result) -> str:
    """Return side and overlap of the windows that the winner maps with."""
    data = result.best_recipe.get("data") or {}
    crop, overlap = data.get("crop"), data.get("overlap")
    if crop is None:
        return "unknown"
    return f"{crop} pixels, overlap {crop // 4 if overlap is None else overlap}"
