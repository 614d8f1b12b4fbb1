"""Time a training step on this machine, and estimate a study's duration from it."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

import torch

from ..training.build import dataset_of, freeze, segmenter
from .plan import Plan

if TYPE_CHECKING:
    from ..config import Recipe, Site

REPEATS = 3  # timed steps, after one that warms up


def time_step(recipe: Recipe, site: Site) -> float:
    """Return the CPU seconds of a forward and a backward pass over one batch.

    CPU seconds do not depend on what else the machine is doing.

    The model has random weights, the batch random pixels: time does not depend on either.
    """
    model = segmenter(recipe, site=site, weights="scratch")
    freeze(recipe, model)
    model.train()
    side, bands = recipe.data.crop, len(dataset_of(recipe.data).bands)
    batch_BCHW = torch.rand(recipe.batch_size, bands, side, side)
    seconds = []
    for _ in range(1 + REPEATS):
        start = time.process_time()
        model(batch_BCHW).float().square().mean().backward()
        seconds.append(time.process_time() - start)
    return median(seconds[1:])


def estimate_minutes(plan: Plan, *, step_s: float, steps: int) -> float:
    """Return the core minutes of the training steps of a study, from a timed step.

    Validation, checkpoints and start-up come on top.

    Args:
        plan: Plan with the study's epochs.
        step_s: Seconds of a step.
        steps: Steps of an epoch.
    """
    epochs = plan.epochs_expected + plan.epochs_confirm
    return epochs * steps * step_s / 60
