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


def test_a_pack_holds_a_frozen_encoder_once_and_what_is_trained_for_each() -> None:
    frozen: dict[str, Any] = {
        "model.encoder": "galileo-nano",
        "model.decoder": "upernet",
        "model.tune": "frozen",
    }
    small: dict[str, Any] = {"model.channels": 16, "model.weights": "scratch"}
    recipe = Recipe(data=DataSpec(name="lakes-demo", crop=32)).replace({**frozen, **small})
    model = segmenter(recipe, site=SITE, weights="scratch")
    decoder = sum(p.nbytes for p in model.decoder.parameters())
    whole = sum(p.nbytes for p in model.parameters())
    step = measure_step(recipe, SITE)
    assert step.model_gib == pytest.approx(whole / GIB)
    assert step.member_gib == pytest.approx(4 * decoder / GIB)
    averaged = measure_step(recipe.replace({"optim.ema": 0.99}), SITE)
    assert averaged.member_gib == pytest.approx(5 * decoder / GIB), "its average is one more"


@pytest.mark.parametrize(
    ("room_gib", "number"),
    [(0.0, 1), (5.0, 1), (6.0, 1), (6.26, 2), (7.51, 3), (100.0, 8)],
)
def test_a_pack_fits_beside_one_step(room_gib: float, number: int) -> None:
    step = StepMemory(fixed_gib=2.0, sample_gib=0.5, model_gib=1.0, member_gib=1.0)
    assert step.largest_pack(room_gib, batch=4, most=8) == number
    if number in range(2, 8):
        assert step.of_batch(4) + (number - 1) * 1.0 <= SHARE * room_gib < step.of_batch(4) + number


def test_a_pack_is_opened_one_training_after_another() -> None:
    step = StepMemory(fixed_gib=2.0, sample_gib=0.5, model_gib=2.5, member_gib=0.1)
    assert step.largest_pack(10.0, batch=4, most=8) == 6, (
        "8 GiB hold three models and five trainings"
    )
