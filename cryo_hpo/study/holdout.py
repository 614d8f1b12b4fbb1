"""Score the test split: opened only here, once for each training, after the winner was chosen.

Three files of the study's folder keep the results, so the split is not opened again: every
training's scores, its confusion matrix in every scene, and the maps of the scenes in which tuned
and baseline differ most.
"""

# N seeds, S scenes, K classes, H W pixels

from __future__ import annotations

import json
import logging
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..config import Recipe
from ..data.ground import ground_of
from ..data.pixel_size import pixel_sizes
from ..data.preview import LONGEST, render_scene, thumbnail
from ..data.splits import items_of
from ..errors import StorageError
from ..evaluation.metrics import Scores
from ..results import epochs as recording
from ..search.confirm import Arm, job, read_end
from ..stats import miou
from ..storage.atomic import replacing, write_text
from ..storage.plain_files import parse_json
from ..training.build import dataset_of, protocol_of, scenes_of
from ..training.checkpoint_store import pull_checkpoints
from ..training.checkpoints import BEST, damage_of_best, has_score
from .folder import CONFIRM, TEST_MAPS, TEST_SCENES, TEST_SCORES

if TYPE_CHECKING:
    from ..config import Site
    from ..execution.executor import Executor, TrialResources
    from ..search.jobs import Job

SHOWN = 2  # scenes kept of each end of the ranking
PAIR = ("baseline", "tuned")

log = logging.getLogger(__name__)

Confusions = Mapping[str, NDArray[np.int64]]  # scene -> (K, K)


def open_test(
    arms: Sequence[Arm], *, site: Site, path: Path, slots: TrialResources, executor: Executor
) -> dict[str, Any]:
    """Score the trainings of the comparison on the test split, each once.

    The scores are written to a file; a resumed study reads it and does not score a training again.

    Args:
        arms: The recipes compared.
        site: Locations of the data.
        path: The study's folder, with the finished trainings.
        slots: Resources of a training.
        executor: Executor that scores the trainings.

    Returns:
        Training's name -> its scores as JSON; a training that diverged before it had a
        checkpoint is left out.
    """
    if not arms:
        return {}
    kept = kept_scores(path)
    wanted = [job(arm, seed, path / CONFIRM) for arm in arms for seed in arm.seeds]
    todo = [training for training in wanted if training.key not in kept]
    jobs = _finished(todo, site, path)
    if todo:
        scored = executor.score(list(jobs.values()), site=site, slots=slots)
        by_job = dict(zip(jobs, scored, strict=True))
        without_model = [training.key for training in todo]
        kept = keep_scores(by_job, path, arms[0].recipe, others=without_model)
    return {
        training.key: kept[training.key] for training in wanted if kept[training.key] is not None
    }


def keep_scores(
    scores: Mapping[str, Mapping[str, Scores]],
    path: Path,
    recipe: Recipe,
    *,
    others: Sequence[str] = (),
) -> dict[str, Any]:
    """Add scores to those that are kept, scenes first, and return all of them.

    Args:
        scores: Name -> scene -> its scores.
        path: The study's folder.
        recipe: Recipe whose dataset and protocol are those of the scores.
        others: Names that get None unless they are in `scores`: they have no model.
    """
    kept = kept_scores(path)
    _keep_scenes({name: _confusions(each) for name, each in scores.items()}, path)
    kept |= dict.fromkeys(others)
    kept |= {name: _total(each, recipe).to_json() for name, each in scores.items()}
    write_text(path / TEST_SCORES, json.dumps(kept))
    return kept


def kept_scores(path: Path) -> dict[str, Any]:
    """Return the scores that are kept: training's name -> scores as JSON.

    A training that diverged before it had a checkpoint has None.
    """
    file = path / TEST_SCORES
    if not file.exists():
        return {}
    try:
        scores: dict[str, Any] = parse_json(file.read_bytes())
        for each in filter(None, scores.values()):
            Scores.from_json(each)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        log.warning(
            "'%s' is damaged (%s). The same models are scored again, with the same scores.",
            file,
            error,
        )
        file.unlink()
        return {}
    return scores


def adopt(name: str, scores: Mapping[str, Any], scenes: Confusions, path: Path) -> None:
    """Keep the scores that an equal training of another study has: the split stays closed.

    Args:
        name: Name of the training in this study.
        scores: Its scores as JSON.
        scenes: Its confusion matrix of every scene.
        path: The study's folder.
    """
    kept = kept_scores(path)
    if name not in kept:
        _keep_scenes({name: scenes}, path)
        write_text(path / TEST_SCORES, json.dumps({**kept, name: dict(scores)}))


def map_test(
    arms: Sequence[Arm], *, site: Site, path: Path, slots: TrialResources, executor: Executor
) -> None:
    """Map a few test scenes with one pair of scored trainings, for the report; only once.

    Args:
        arms: The recipes compared, all scored.
        site: Locations of the data.
        path: The study's folder, with the finished trainings.
        slots: Resources of a training.
        executor: Executor that maps.
    """
    if (path / TEST_MAPS).exists():
        return
    names = {arm.training(seed): f"{arm.name}-seed{seed}" for arm in arms for seed in arm.seeds}
    scenes = {names[name]: each for name, each in by_scene(path).items() if name in names}
    seed, shown = choose(scenes)
    pair = [arm for arm in arms if arm.name in PAIR and f"{arm.name}-seed{seed}" in scenes]
    if shown and pair:
        finished = _finished([job(arm, seed, path / CONFIRM) for arm in pair], site, path)
        jobs = {names[key]: training for key, training in finished.items()}
        if jobs:
            mapped = partial(executor.map, site=site, slots=slots)
            _keep_maps(jobs, (seed, shown), arms[0].recipe, site=site, path=path, mapped=mapped)


def scene_scores(path: Path) -> dict[str, NDArray[np.int64]]:
    """Return every training's confusion matrices, (S, K, K), and the ids of the scenes.

    Args:
        path: The study's folder.

    Returns:
        Training's name -> its matrices; `scenes` -> ids. Empty if none were kept.
    """
    file = path / TEST_SCENES
    if not file.exists():
        return {}
    try:
        with np.load(file, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        message = (
            f"'{file}' is damaged ({error}). Remove it and '{path / TEST_SCORES}', and run the same "
            "command again: it scores the same models again."
        )
        raise StorageError(message) from error


def paired(
    path: Path, seeds: Sequence[int], *, tuned: str = "tuned"
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return the matrices of tuned and baseline, (N, S, K, K); None unless all were kept.

    Args:
        path: The study's folder.
        seeds: Seeds of the pairs.
        tuned: How the names of the tuned arm's trainings begin.
    """
    matrices = scene_scores(path)
    names = [[f"{arm}-seed{seed}" for seed in seeds] for arm in ("baseline", tuned)]
    if not all(name in matrices for arm in names for name in arm):
        return None
    fixed, changed = (np.stack([matrices[name] for name in arm]) for arm in names)
    return changed, fixed


def damage_finder(site: Site, path: Path) -> Callable[[Job], str]:
    """Return a function that describes what a finished training's best model has lost.

    It returns an empty text if nothing is lost: the model is whole and of the training's recipe,
    the training diverged before it had one, or it has been scored on the test split already.
    """
    scored = kept_scores(path).keys()
    epochs = recording.by_key(path)

    def damage(job: Job) -> str:
        if job.key in scored or not (
            read_end(job) == "complete" or has_score(epochs.get(job.key, ()))
        ):
            return ""
        pull_checkpoints(site, Path(job.workdir), BEST)
        return damage_of_best(Path(job.workdir) / BEST, Recipe.model_validate_json(job.recipe).id)

    return damage


def _finished(jobs: Sequence[Job], site: Site, path: Path) -> dict[str, Job]:
    """Return the trainings with a best model, after pulling those of a checkpoint store.

    Raises:
        StorageError: A training has lost its best model since it ended.
    """
    damage = damage_finder(site, path)
    lost = [text for text in map(damage, jobs) if text]
    if lost:
        message = (
            f"{lost[0]}. The test split is not scored without it"
            f"{f', nor without {len(lost) - 1} others' if len(lost) > 1 else ''}. Run the same "
            "command again: it trains the lost models again and keeps the others."
        )
        raise StorageError(message)
    return {training.key: training for training in jobs if (Path(training.workdir) / BEST).exists()}


def _confusions(each: Mapping[str, Scores]) -> Confusions:
    return {scene: scores.confusion_TP for scene, scores in each.items()}


def _total(each: Mapping[str, Scores], recipe: Recipe) -> Scores:
    total = sum(each.values(), start=Scores.zero(dataset_of(recipe.data).classes))
    return replace(total, absent_is_zero=protocol_of(recipe).absent_is_zero)


def by_scene(path: Path) -> dict[str, Confusions]:
    """Return the matrices that are kept: training's name -> scene -> (K, K)."""
    arrays: dict[str, NDArray[Any]] = dict(scene_scores(path))
    ids = arrays.pop("scenes", np.array([])).tolist()
    return {name: dict(zip(ids, each, strict=True)) for name, each in arrays.items()}


def _keep_scenes(matrices: Mapping[str, Confusions], path: Path) -> None:
    """Add the matrices of trainings to those that are kept."""
    every = {**by_scene(path), **matrices}
    ids = list(next(iter(every.values()), {}))
    arrays: dict[str, Any] = {
        name: np.stack([each[i] for i in ids]) for name, each in every.items()
    }
    _save(path / TEST_SCENES, {"scenes": np.array(ids, dtype=np.str_), **arrays})


def _keep_maps(
    jobs: Mapping[str, Job],
    chosen: tuple[int, Mapping[str, float]],
    recipe: Recipe,
    *,
    site: Site,
    path: Path,
    mapped: Callable[[list[Job], list[str]], list[dict[str, NDArray[np.uint8]]]],
) -> None:
    """Map the chosen scenes with one pair of trainings, and save thumbnails for the report."""
    seed, shown = chosen
    maps = mapped(list(jobs.values()), list(shown))
    scenes = scenes_of(recipe, "test", site)
    bands = dataset_of(recipe.data).bands
    arrays: dict[str, Any] = {
        "scenes": np.array(list(shown), dtype=np.str_),
        "differences": np.array(list(shown.values())),
        "seed": np.array(seed),
    }
    for number, scene in enumerate(shown):
        i = scenes.ids.index(scene)
        mask = scenes.mask(i)
        truth = thumbnail(mask, LONGEST)
        # Shrunk before it is rendered: a large scene in floats may be more than memory holds.
        image = np.stack([thumbnail(band_HW, LONGEST) for band_HW in scenes.image(i)])
        arrays |= {
            f"{number}.image": (255 * render_scene(bands, image, truth)).astype(np.uint8),
            f"{number}.truth": truth,
            **_ground(recipe, scene, number, site=site, size=mask.shape),
        }
        for name, each in zip(jobs, maps, strict=True):
            arrays[f"{number}.{name.rpartition('-seed')[0]}"] = each[scene]
    _save(path / TEST_MAPS, arrays)


def _ground(
    recipe: Recipe, scene: str, number: int, *, site: Site, size: tuple[int, ...]
) -> dict[str, Any]:
    """Return side and shape of a thumbnail's pixel and the place of its scene, as far as known."""
    dataset, scenes = dataset_of(recipe.data), scenes_of(recipe, "test", site)
    side = pixel_sizes(dataset, scenes)[scenes.ids.index(scene)]
    items = {item.id: item for item in items_of(dataset, site.data, "test", cache=site.cache)}
    ground = ground_of(items[scene]) if scene in items else None
    shrunk = -(-max(size) // LONGEST)  # as `thumbnail` skips pixels
    return {
        **({} if side is None else {f"{number}.pixel_m": np.array(side * shrunk)}),
        **({} if ground is None else {f"{number}.ground": np.array(ground[:3])}),
        **({} if ground is None else {f"{number}.stretch": np.array(ground.stretch)}),
    }


def choose(matrices: Mapping[str, Confusions]) -> tuple[int, dict[str, float]]:
    """Choose the pair of trainings and the scenes to map for the report.

    The pair is the seed whose difference in mIoU is the median; the scenes are those where tuned
    gains most over the baseline, and least, in the mean over all seeds. Without a tuned recipe,
    the scenes are those that the baseline maps best and worst.

    Returns:
        A seed; and scene -> its difference in mIoU (or its mIoU), best first.
    """
    parts = [name.rpartition("-seed") for name in matrices]
    seeds = sorted({int(seed) for arm, _, seed in parts if arm in PAIR})
    whole = [seed for seed in seeds if all(f"{arm}-seed{seed}" in matrices for arm in PAIR)]
    used = whole or [seed for seed in seeds if f"baseline-seed{seed}" in matrices]
    if not used:
        return -1, {}
    gains = {seed: _gains(matrices, seed, pair=bool(whole)) for seed in used}
    ordered = sorted(used, key=lambda seed: float(np.mean(list(gains[seed].values()))))
    mean = {scene: float(np.mean([gains[s][scene] for s in used])) for scene in gains[used[0]]}
    ranked = sorted(mean, key=lambda scene: (-mean[scene], scene))
    count = min(SHOWN, len(ranked) // 2) or len(ranked)
    shown = dict.fromkeys([*ranked[:count], *ranked[-count:]])
    return ordered[(len(ordered) - 1) // 2], {scene: mean[scene] for scene in shown}


def _gains(matrices: Mapping[str, Confusions], seed: int, *, pair: bool) -> dict[str, float]:
    baseline = matrices[f"baseline-seed{seed}"]
    tuned = matrices[f"tuned-seed{seed}"] if pair else baseline
    before = {scene: float(miou(matrix)) if pair else 0.0 for scene, matrix in baseline.items()}
    return {scene: float(miou(matrix)) - before[scene] for scene, matrix in tuned.items()}


def _save(file: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays to a file atomically."""
    with replacing(file) as draft, draft.open("wb") as opened:
        np.savez_compressed(opened, allow_pickle=False, **arrays)
