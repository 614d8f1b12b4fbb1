"""Time a training step on this machine, and estimate a study's duration from it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import torch

from ..data.crop_plan import crops_of_scenes
from ..errors import count_of
from ..monitoring.workload import Workload
from ..training.build import dataset_of, device_for, freeze, overlap_of, scenes_of, segmenter
from .plan import Plan

if TYPE_CHECKING:
    from ..config import Recipe, Site, Study

# Forward and backward pass cost about three forward passes (Kaplan et al. 2020, arXiv:2001.08361).
BACKWARD = 3.0
REPEATS = 3  # timed steps, after one that warms up
SLOW_S = 5.0  # steps that take longer are timed once


def time_step(recipe: Recipe, site: Site, *, on_gpu: bool = False) -> float:
    """Return the CPU seconds of a forward and a backward pass over one batch, or those on a GPU.

    CPU seconds do not depend on what else the machine is doing; on a GPU it is time by the clock.

    The model has random weights, the batch random pixels: time does not depend on either.

    Raises:
        SpecError: A GPU is requested and none is visible.
    """
    device = device_for(float(on_gpu))
    model = segmenter(recipe, site=site, weights="scratch")
    freeze(recipe, model)
    model.to(device).train()
    side, bands = recipe.data.crop, len(dataset_of(recipe.data).bands)
    batch_BCHW = torch.rand(recipe.batch_size, bands, side, side, device=device)
    clock = time.perf_counter if on_gpu else time.process_time
    seconds = []
    with _one_thread():
        for _ in range(1 + REPEATS):
            start = clock()
            model(batch_BCHW).float().square().mean().backward()
            if on_gpu:
                torch.cuda.synchronize()
            seconds.append(clock() - start)
            if len(seconds) > 1 and seconds[0] > SLOW_S:
                break
    return median(seconds[1:])


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread: several, where cores are busy, spend CPU time on waiting for another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class EpochSize(NamedTuple):
    """Count what a training sees in one epoch."""

    scenes: int
    crops: int
    steps: int
    share: float
    """Crops' pixels per labeled pixel; above 1 where crops overlap or hold unlabeled pixels."""
    unit: str = "scene"
    """What `scenes` counts: scenes, or blocks of ground."""

    def __str__(self) -> str:
        return (
            f"steps of an epoch: {self.steps}; {count_of(self.crops, 'crop')} of "
            f"{count_of(self.scenes, self.unit)}, "
            f"{self.share:.2g} times their labeled pixels"
        )


def measure_epoch(recipe: Recipe, site: Site) -> EpochSize:
    """Count the steps of an epoch; the training part is decoded if it is not yet.

    Raises:
        CryoError: The data are missing or do not match.
    """
    train = scenes_of(recipe, "train", site)
    data = recipe.data
    crops = sum(crops_of_scenes(train.counts, crop=data.crop, replicate=data.replicate))
    labeled = max(sum(train.class_counts), 1)
    return EpochSize(
        scenes=len(train),
        crops=crops,
        steps=max(crops // recipe.batch_size, 1),
        share=crops * data.crop**2 / labeled,
        unit=dataset_of(data).unit,
    )


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


def workload_of(study: Study, plan: Plan, site: Site) -> Workload:
    """Return the work of a study, for the time left; its data have been checked."""
    scoring = 0.0 if study.proof == "none" else scoring_epochs(study.base, site) / study.base.epochs
    return Workload(
        plan.rungs, proof=plan.epochs_confirm, limit=plan.epochs_budget, scoring=scoring
    )


def scoring_epochs(recipe: Recipe, site: Site) -> float:
    """Return the duration of one map of the test split, in epochs of training and validation.

    By the pixels that pass through the network; where windows overlap, several times.
    """
    data = recipe.data
    windows = (data.crop / (data.crop - overlap_of(data))) ** 2
    trained = BACKWARD * measure_epoch(recipe, site).crops * data.crop**2
    val, test = (
        windows * sum(height * width for height, width in scenes_of(recipe, split, site).sizes)
        for split in ("val", "test")
    )
    return test / max(trained + val, 1)
