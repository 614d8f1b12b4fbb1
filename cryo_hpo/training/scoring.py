"""Score and map scenes with the best checkpoint of a finished training."""

# H W pixels

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import DataError
from ..evaluation.metrics import Scores
from ..evaluation.out_of_memory import reporting_out_of_memory
from ..evaluation.sliding_window import map_each, score_each
from . import checkpoints
from .build import dataset_of, normalizer, scenes_of, segmenter, window_of

if TYPE_CHECKING:
    from ..config import Recipe, Site
    from ..data.dataset import Split
    from ..models import Segmenter

WINDOWS_PER_PASS = 16  # prediction needs no gradients: twice Cryo-Bench's training batch fits


def best_model(recipe: Recipe, *, site: Site, workdir: Path, device: torch.device) -> Segmenter:
    """Return the model with the best validation score of a finished training.

    Raises:
        DataError: The training has no best checkpoint.
    """
    state = checkpoints.load(workdir / checkpoints.BEST)
    if state is None:
        message = f"'{workdir}' has no '{checkpoints.BEST}'. Run the training to its end first."
        raise DataError(message)
    model = segmenter(recipe, site=site, weights="scratch")
    model.load_state_dict(state["model"])
    with reporting_out_of_memory("moving the model to the device"):
        model.to(device)
    return model


def score_scenes(
    recipe: Recipe, split: Split, *, site: Site, workdir: Path, device: torch.device
) -> dict[str, Scores]:
    """Score the best checkpoint of a finished training on every scene of a split.

    Raises:
        DataError: The training has no best checkpoint.
    """
    found: dict[str, Scores] = {}
    for scene, scores in score_each(
        best_model(recipe, site=site, workdir=workdir, device=device),
        scenes_of(recipe, split, site),
        normalize=normalizer(recipe, scenes_of(recipe, "train", site), device),
        classes=dataset_of(recipe.data).classes,
        window=window_of(recipe, device),
        batch=WINDOWS_PER_PASS,
    ):
        found[scene] = found[scene] + scores if scene in found else scores
    return found


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
        Scene -> its map, (H, W).

    Raises:
        DataError: The training has no best checkpoint.
    """
    whole = scenes_of(recipe, split, site)
    scenes = whole.only([whole.ids.index(one) for one in ids])
    maps = {
        one: np.zeros(size, dtype=np.uint8)
        for one, size in zip(scenes.ids, scenes.sizes, strict=True)
    }
    for i, place, part in map_each(
        best_model(recipe, site=site, workdir=workdir, device=device),
        scenes,
        normalize=normalizer(recipe, scenes_of(recipe, "train", site), device),
        window=window_of(recipe, device),
        batch=WINDOWS_PER_PASS,
    ):
        maps[scenes.ids[i]][place] = part
    return maps
