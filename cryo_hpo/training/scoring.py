"""Score and map scenes with the best checkpoint of a finished training."""

# H W pixels

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ..config.metric import Tolerance
from ..data.pixel_size import pixel_sizes
from ..data.preview import LONGEST, thumbnail
from ..errors import DataError
from ..evaluation.field_metrics import Metric
from ..evaluation.fronts import BETWEEN, Front, fronts_of
from ..evaluation.metrics import Scores
from ..evaluation.out_of_memory import reporting_out_of_memory
from ..evaluation.sliding_window import FieldRules, map_each, score_each
from ..evaluation.together import score_together
from ..models import FINGERPRINT
from . import checkpoints
from .build import dataset_of, initial_model, normalizer, scenes_of, segmenter, window_of
from .kernels import choose_kernels

if TYPE_CHECKING:
    from ..config import Recipe, Site
    from ..data.cache import Scenes
    from ..data.dataset import Split
    from ..models import Segmenter

WINDOWS_PER_PASS = 16  # prediction needs no gradients: twice Cryo-Bench's training batch fits
WINDOWS_PER_GPU_PASS = 64  # windows of several scenes; halved where memory is too small


def windows_per_pass(device: torch.device) -> int:
    """Return the windows of a forward pass without gradients, at first."""
    return WINDOWS_PER_PASS if device.type == "cpu" else WINDOWS_PER_GPU_PASS


def best_model(recipe: Recipe, *, site: Site, workdir: Path, device: torch.device) -> Segmenter:
    """Return the model with the best validation score of a finished training.

    Raises:
        DataError: The training has no best checkpoint.
    """
    state = checkpoints.load(workdir / checkpoints.BEST)
    if state is None:
        raise _no_best(workdir)
    if FINGERPRINT in state["model"]:  # a frozen encoder is added when a training ends
        model = initial_model(recipe, site=site, resumes=True, device=device)
    else:
        model = segmenter(recipe, site=site, weights="scratch")
    model.load_state_dict(state["model"])
    with reporting_out_of_memory("moving the model to the device"):
        model.to(device)
    choose_kernels(recipe, device)  # those of the training's own validation
    return model


def field_rules(
    recipe: Recipe, scenes: Scenes, *fronts: str, every_edge: bool = True
) -> FieldRules:
    """Return the fronts and pixel sizes to measure in scenes.

    Args:
        recipe: Names the dataset; its own front is measured too.
        scenes: Scenes of a split.
        fronts: Names of further fronts.
        every_edge: Whether the edges of all classes are measured.

    Raises:
        DataError: The tolerance of boundaries is in meters, and a scene has no pixel size.
    """
    dataset = dataset_of(recipe.data)
    named = [*([BETWEEN.join(dataset.front)] if dataset.front else []), *fronts]
    edges = fronts_of(dataset.classes, *named)
    wanted = tuple(front for front in edges if every_edge or front.name in fronts)
    if every_edge and dataset.front:
        wanted = (*wanted, Front.named(BETWEEN.join(dataset.front), dataset.classes).cleaned)
    rules = FieldRules(
        wanted, pixel_sizes(dataset, scenes), Tolerance.named(recipe.data.boundary_tolerance)
    )
    _refuse_unknown_sizes(rules, scenes)
    return rules


def _refuse_unknown_sizes(rules: FieldRules, scenes: Scenes) -> None:
    unknown = [i for i, side in enumerate(rules.gsd_m) if side is None]
    if unknown and rules.tolerance.in_meters:
        message = (
            f"data.boundary_tolerance of {rules.tolerance.words} needs the size of a pixel, "
            f"{len(unknown)} of {len(scenes)} scenes have none (first: '{scenes.ids[unknown[0]]}'). "
            "Set `gsd_m` in the card, or give the tolerance in pixels: 2 px."
        )
        raise DataError(message)


def score_scenes(
    recipe: Recipe,
    split: Split,
    *,
    site: Site,
    workdir: Path,
    device: torch.device,
    metric: str = "miou",
) -> dict[str, Scores]:
    """Score the best checkpoint of a finished training on every scene of a split.

    Fronts and areas are measured too.

    Args:
        recipe: Recipe of the training.
        split: Part of the dataset.
        site: Folders of data, weights and cache.
        workdir: Folder of the training.
        device: Device to compute on.
        metric: The one that selected; its front is measured whatever it is.

    Raises:
        DataError: The training has no best checkpoint.
    """
    by_scene: dict[str, Scores] = {}
    scenes, front = scenes_of(recipe, split, site), Metric.named(metric).front
    for scene, scores in score_each(
        best_model(recipe, site=site, workdir=workdir, device=device),
        scenes,
        field=field_rules(recipe, scenes, *([] if front is None else [front])),
        normalize=normalizer(recipe, scenes_of(recipe, "train", site), device),
        classes=dataset_of(recipe.data).classes,
        window=window_of(recipe, device),
        batch=windows_per_pass(device),
    ):
        by_scene[scene] = by_scene[scene] + scores if scene in by_scene else scores
    return by_scene


def score_members(
    recipe: Recipe,
    split: Split,
    *,
    site: Site,
    workdirs: Sequence[Path],
    device: torch.device,
    metric: str = "miou",
) -> dict[str, Scores]:
    """Score the mean probabilities of several trainings of one recipe on every scene of a split.

    Args:
        recipe: Recipe of the trainings, whatever its seed.
        split: Split to score.
        site: Locations of data and weights.
        workdirs: Folders of the trainings.
        device: Device to compute on.
        metric: The one that selected; its front is measured whatever it is.

    Raises:
        DataError: A training has no best checkpoint.
    """
    scenes, front = scenes_of(recipe, split, site), Metric.named(metric).front
    network = best_model(recipe, site=site, workdir=workdirs[0], device=device)

    def load(member: int) -> Segmenter:
        state = checkpoints.load(workdirs[member] / checkpoints.BEST)
        if state is None:
            raise _no_best(workdirs[member])
        network.load_state_dict(state["model"])
        return network

    by_scene: dict[str, Scores] = {}
    for scene, scores in score_together(
        load,
        len(workdirs),
        scenes,
        field=field_rules(recipe, scenes, *([] if front is None else [front])),
        normalize=normalizer(recipe, scenes_of(recipe, "train", site), device),
        classes=dataset_of(recipe.data).classes,
        window=window_of(recipe, device),
        batch=windows_per_pass(device),
    ):
        by_scene[scene] = by_scene[scene] + scores if scene in by_scene else scores
    return by_scene


def _no_best(workdir: Path) -> DataError:
    return DataError(f"'{workdir}' has no '{checkpoints.BEST}'. Run the training to its end first.")


def map_scenes(
    recipe: Recipe,
    split: Split,
    ids: Sequence[str],
    *,
    site: Site,
    workdir: Path,
    device: torch.device,
) -> dict[str, NDArray[np.uint8]]:
    """Map some scenes of a split with the best checkpoint of a finished training.

    Returns:
        Scene -> its map, (H, W), of at most `LONGEST` pixels a side.

    Raises:
        DataError: The training has no best checkpoint.
    """
    whole = scenes_of(recipe, split, site)
    scenes = whole.only([whole.ids.index(name) for name in ids])
    maps: dict[str, NDArray[np.uint8]] = {}
    number, map_HW = -1, np.zeros((0, 0), dtype=np.uint8)
    for i, place, part in map_each(
        best_model(recipe, site=site, workdir=workdir, device=device),
        scenes,
        normalize=normalizer(recipe, scenes_of(recipe, "train", site), device),
        window=window_of(recipe, device),
        batch=windows_per_pass(device),
    ):
        if i != number:
            number, map_HW = i, np.zeros(scenes.sizes[i], dtype=np.uint8)
        map_HW[place] = part
        maps[scenes.ids[i]] = thumbnail(map_HW, LONGEST).copy()
    return maps
