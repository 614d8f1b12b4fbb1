"""What runs on a worker: one job, epoch by epoch, reported to Tune."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray import tune

from ..assemble import device_for, map_scenes, score_scenes
from ..errors import CryoError, Diverged, StorageError
from ..spec import Recipe, Site
from ..train import fit, history
from .jobs import MESSAGE, OUTCOME


def work(config: dict[str, Any], *, site: Site, cpus: int, gpus: float) -> None:
    """Train one job and report each epoch; a Ray Tune function trainable.

    Problems that a retry cannot mend (divergence, data, weights) are reported as the job's
    outcome; anything else is raised, and Ray starts the job again from its last checkpoint.
    """
    _claim(cpus)
    site = site.on_node(os.environ)
    recipe, workdir = Recipe.model_validate_json(config["recipe"]), Path(config["workdir"])
    try:
        device = device_for(gpus)
        # An attempt may have died between writing a checkpoint and reporting it.
        for metrics in history(workdir)[-1:]:
            tune.report(metrics)
        for epoch in fit(
            recipe, site=site, workdir=workdir, device=device, keep_best=config["keep_best"]
        ):
            tune.report(epoch.metrics())
    except Diverged as error:
        tune.report({OUTCOME: "diverged", MESSAGE: str(error)})
    except StorageError as error:
        tune.report({OUTCOME: "unwritable", MESSAGE: str(error)})
    except CryoError as error:
        tune.report({OUTCOME: "refused", MESSAGE: str(error)})


def score_test(
    config: dict[str, Any], *, site: Site, cpus: int, gpus: float
) -> dict[str, NDArray[np.int64]]:
    """Score one finished training on the test split, scene by scene; a Ray task."""
    _claim(cpus)
    site = site.on_node(os.environ)
    recipe = Recipe.model_validate_json(config["recipe"])
    found = score_scenes(
        recipe, "test", site=site, workdir=Path(config["workdir"]), device=device_for(gpus)
    )
    return {scene: scores.confusion_TP for scene, scores in found.items()}


def map_test(
    config: dict[str, Any], *, ids: Sequence[str], site: Site, cpus: int, gpus: float
) -> dict[str, NDArray[np.uint8]]:
    """Map some test scenes with one finished training; a Ray task."""
    _claim(cpus)
    recipe = Recipe.model_validate_json(config["recipe"])
    workdir, device = Path(config["workdir"]), device_for(gpus)
    return map_scenes(recipe, "test", ids, site=site, workdir=workdir, device=device)


def _claim(cpus: int) -> None:
    """Use the CPUs the trial was given and no more, and start from a known state of chance.

    Actors are reused: what an earlier trial left in the process must not reach the next one.
    """
    torch.set_num_threads(cpus)
    os.environ["OMP_NUM_THREADS"] = str(cpus)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  libraries below still draw from the global state
    torch.manual_seed(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
