"""Out of memory: injected by a model that refuses more than so many samples at a time."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cryo_hpo.config import DataSpec, ModelSpec, OptimSpec, Recipe, Site
from cryo_hpo.data.tiles import Normalize
from cryo_hpo.errors import OutOfMemory
from cryo_hpo.evaluation.out_of_memory import (
    is_out_of_memory,
    reporting_out_of_memory,
    with_halving_batch,
)
from cryo_hpo.training import build as assemble
from cryo_hpo.training.ema import WeightAverage
from cryo_hpo.training.loop import Epoch, fit
from cryo_hpo.training.losses import LOSSES, inverse_frequency, make_loss, make_weight
from cryo_hpo.training.micro_batch import AccumulatingStep

from ..support.fakes import fake_folder

CPU = torch.device("cpu")
BATCH = 4


def _too_big(limit: int, *, training: bool = True) -> Callable[..., None]:
    """Return a hook that lets a module see no more than so many samples."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module.training == training and len(inputs[0]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    return hook


def test_what_torch_says_on_a_machine_whose_memory_is_too_small():
    with pytest.raises(RuntimeError) as told:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(told.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be ..."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_what_a_nearly_full_card_raises_is_recognized(error):
    assert is_out_of_memory(error)
    law = r"while updating the weights \(.*Lower data\.crop"
    with pytest.raises(OutOfMemory, match=law), reporting_out_of_memory("updating the weights"):
        raise error


def test_other_errors_of_a_card_are_not_out_of_memory():
    error = torch.AcceleratorError("CUDA error: device-side assert triggered")
    assert not is_out_of_memory(error)
    with pytest.raises(torch.AcceleratorError), reporting_out_of_memory("updating the weights"):
        raise error


@pytest.mark.parametrize(
    ("owner", "name"), [(torch.optim.AdamW, "step"), (WeightAverage, "update")]
)
def test_an_optimizer_or_average_that_does_not_fit_ends_the_training_with_a_remedy(
    recipe, site, monkeypatch, owner, name
):
    recipe = recipe.replace({"optim.ema": 0.9})

    def step(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(owner, name, step)
    with pytest.raises(OutOfMemory, match="while updating the weights"):
        _fit(recipe, site, "full")


def test_a_batch_that_does_not_fit_on_the_device_ends_the_training_with_a_remedy(
    recipe, site, monkeypatch
):
    def normalize(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(Normalize, "__call__", normalize)
    with pytest.raises(OutOfMemory, match=r"while moving a batch to the device.*Lower data\.crop"):
        _fit(recipe, site, "full")


@pytest.mark.parametrize(("limit", "sizes"), [(16, [16]), (5, [16, 8, 4]), (1, [16, 8, 4, 2, 1])])
def test_a_batch_is_halved_until_it_fits(limit, sizes):
    tried = []

    def work(batch: int) -> str:
        tried.append(batch)
        if batch > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "done"

    assert with_halving_batch(work, 16, what="sample") == ("done", sizes[-1])
    assert tried == sizes


def test_one_sample_that_does_not_fit_is_an_error_with_a_remedy():
    def work(_: int) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    with pytest.raises(OutOfMemory, match=r"single training sample.*Lower data\.crop"):
        with_halving_batch(work, 4, what="training sample")


def test_another_error_is_not_taken_for_it():
    def work(_: int) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        with_halving_batch(work, 4, what="sample")


def _gradients(loss: str, y_BHW: Tensor, micro_batch: int, limit: int) -> AccumulatingStep:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GELU(), nn.Conv2d(8, 3, 1)).double()
    model.register_forward_pre_hook(_too_big(limit))
    counts = torch.bincount(y_BHW[y_BHW != 255], minlength=3)
    weights = inverse_frequency(counts).double() if loss == "weighted_ce" else None
    of_loss = make_loss(loss, num_classes=3, class_weights=None if weights is None else weights)
    found = AccumulatingStep(
        model,
        forward=model,
        loss=of_loss,
        weight=make_weight(loss, class_weights=weights),
        micro_batch=micro_batch,
    )
    found.model = model  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("loss", ["ce", "weighted_ce", "focal"])
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_the_gradient_of_parts_is_that_of_the_whole_batch(loss, limit):
    """Also where parts hold unequal numbers of labeled pixels, or none."""
    chance = torch.Generator().manual_seed(1)
    x_BCHW = torch.randn(6, 3, 8, 8, generator=chance, dtype=torch.float64)
    y_BHW = torch.randint(0, 3, (6, 8, 8), generator=chance)
    y_BHW[0], y_BHW[1, :6], y_BHW[4, :, 1:] = 255, 255, 255
    whole, parts = (_gradients(loss, y_BHW, 6, one) for one in (6, limit))
    values = [one(x_BCHW, y_BHW) for one in (whole, parts)]
    assert (whole.micro_batch, parts.micro_batch) == (6, {1: 1, 2: 1, 3: 3}[limit])
    assert float(values[0]) == pytest.approx(float(values[1]), rel=1e-5)
    for p, q in zip(whole._model.parameters(), parts._model.parameters(), strict=True):
        assert p.grad is not None
        assert q.grad is not None
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_a_batch_without_a_labeled_pixel_has_no_gradient(loss):
    y_BHW = torch.full((4, 8, 8), 255)
    y_BHW[0, 0, :3] = torch.arange(3)
    found = _gradients(loss, y_BHW, 4, limit=2)
    y_BHW[:] = 255
    assert found(torch.randn(4, 3, 8, 8, dtype=torch.float64), y_BHW) == 0
    assert all(not p.grad.any() for p in found._model.parameters() if p.grad is not None)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    places = {f"CRYO_{name}": str(tmp_path / name.lower()) for name in ("DATA", "STORAGE", "CACHE")}
    torch.set_num_threads(1)
    return Site.from_env(places)


@pytest.fixture
def recipe(site: Site) -> Recipe:
    card = fake_folder(site.data, num=(8, 2, 2), size=(32, 32))
    return Recipe(
        data=DataSpec(card=card, crop=32),
        model=ModelSpec(encoder="unet", decoder="unet", width=4),
        optim=OptimSpec(lr=0.01, schedule="constant"),
        batch_size=BATCH,
        epochs=3,
    )


def _fit(recipe: Recipe, site: Site, name: str, num: int = 99) -> list[Epoch]:
    epochs = fit(recipe, site=site, workdir=site.storage / name, device=CPU)
    return list(itertools.islice(epochs, num))


def _facts(epochs: list[Epoch]) -> list[tuple[Any, ...]]:
    return [(e.number, e.train_loss, e.micro_batch, e.val) for e in epochs]


@pytest.fixture
def small_memory(monkeypatch) -> Callable[..., None]:
    """Make every model built from now on refuse batches, at its first layer or its last."""
    build = assemble.segmenter

    def shrink(limit: int, *, at: str = "first", training: bool = True) -> None:
        def built(*args: Any, **kwargs: Any) -> Any:
            model = build(*args, **kwargs)
            layers = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
            place = {"first": 0, "last": -1}[at]
            layers[place].register_forward_pre_hook(_too_big(limit, training=training))
            return model

        monkeypatch.setattr(assemble, "segmenter", built)

    return shrink


def test_a_training_that_found_its_size_equals_one_that_knew_it(recipe, site, small_memory):
    """What the failed attempt did to running statistics and chance is undone."""
    whole = _fit(recipe, site, "whole")
    assert [e.micro_batch for e in whole] == [BATCH] * 3
    small_memory(2, at="last")  # every batch-norm before it has seen the samples
    late = _fit(recipe, site, "late")
    small_memory(2, at="first")
    early = _fit(recipe, site, "early")
    assert [e.micro_batch for e in late] == [2] * 3
    assert _facts(late) == _facts(early)
    # batch-norm sees two samples instead of four: near, and not the same
    assert late[0].train_loss != whole[0].train_loss
    assert late[0].train_loss == pytest.approx(whole[0].train_loss, rel=0.3)


def test_a_resumed_training_keeps_the_smaller_size(recipe, site, small_memory, monkeypatch):
    small_memory(1)
    through = _fit(recipe, site, "through")
    first = _fit(recipe, site, "cut", num=2)
    monkeypatch.undo()
    rest = _fit(recipe, site, "cut")
    assert _facts(first + rest) == _facts(through)
    assert [e.metrics()["micro_batch"] for e in through] == [1] * 3


def test_validation_shrinks_too_and_scores_the_same(recipe, site, small_memory):
    whole = _fit(recipe, site, "whole")
    small_memory(1, training=False)
    parts = _fit(recipe, site, "parts")
    assert _facts(parts) == _facts(whole)


def test_a_sample_that_does_not_fit_ends_the_training(recipe, site, small_memory):
    small_memory(0)
    with pytest.raises(OutOfMemory, match="single training sample"):
        _fit(recipe, site, "none")
    assert not (site.storage / "none" / "last.pt").exists()


def test_the_metrics_are_json(recipe, site):
    json.dumps(_fit(recipe, site, "json", num=1)[0].metrics())
