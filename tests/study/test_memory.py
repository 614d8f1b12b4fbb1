"""The memory of a training step is measured, and the batch that fits a GPU follows from it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cryo_hpo.config import DataSpec, Recipe, Site
from cryo_hpo.study.memory import CONTEXT_GIB, GIB, SHARE, StepMemory, measure_step
from cryo_hpo.training.build import segmenter

SITE = Site.from_env({})


def _recipe(**changes: Any) -> Recipe:
    base = Recipe(data=DataSpec(name="lakes-demo", crop=32), epochs=1)
    return base.replace(
        {"model.encoder": "unet", "model.decoder": "unet", "model.width": 4, **changes}
    )


def test_parameters_gradients_and_two_moments_are_counted() -> None:
    recipe = _recipe()
    model = segmenter(recipe, site=SITE, weights="scratch")
    size = sum(parameter.nbytes for parameter in model.parameters())
    assert measure_step(recipe, SITE).fixed_gib == pytest.approx(4 * size / GIB)


def test_activations_grow_with_the_area_of_the_crop() -> None:
    small, large = (measure_step(_recipe(**{"data.crop": side}), SITE) for side in (32, 64))
    assert large.sample_gib == pytest.approx(4 * small.sample_gib, rel=0.05)
    pixels = 32 * 32 * 4 * torch.finfo(torch.float32).bits / 8  # of one layer of the first level
    assert small.sample_gib * GIB > 2 * pixels


def test_the_batch_leaves_room_for_cuda_and_workspaces() -> None:
    memory = StepMemory(fixed_gib=2.0, sample_gib=1.5)
    batch = memory.largest_batch(24.0)
    assert batch == 11
    assert memory.of_batch(batch) <= SHARE * (24 - CONTEXT_GIB) < memory.of_batch(batch + 1)
    assert memory.largest_batch(3.0) == 0
