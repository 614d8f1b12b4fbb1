"""The choice of kernels is the recipe's; recomputed activations change no gradient."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cryo_hpo.config import DataSpec, ModelSpec, Recipe, Site
from cryo_hpo.errors import SpecError
from cryo_hpo.study.memory import measure_step
from cryo_hpo.training import loop, opening
from cryo_hpo.training.build import segmenter
from cryo_hpo.training.kernels import choose_kernels, compiles, refusing_unrepeatable
from cryo_hpo.training.recompute import recompute_blocks

from ..support.fakes import fake_folder

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leave the choices of this process as they were."""
    cudnn, precision = torch.backends.cudnn, torch.get_float32_matmul_precision()
    before = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
    yield
    torch.use_deterministic_algorithms(mode=False)
    torch.set_float32_matmul_precision(precision)
    cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = before


pytestmark = pytest.mark.usefixtures("tiny_encoders")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.from_env({"CRYO_DATA": str(tmp_path / "data"), "CRYO_CACHE": str(tmp_path / "c")})


def _recipe(**changes: Any) -> Recipe:
    model: dict[str, Any] = {
        "encoder": "vit-scratch",
        "decoder": "upernet",
        "channels": 8,
        "weights": "scratch",
    }
    model |= changes.pop("model", {})
    return Recipe(
        data=changes.pop("data", DataSpec(name="glid", crop=64)),
        model=ModelSpec(**model),
        **changes,
    )


@pytest.mark.parametrize("precision", ["auto", "bf16", "fp32", "tf32"])
def test_only_tf32_rounds_products(precision):
    choose_kernels(_recipe(precision=precision), CUDA)
    assert torch.backends.cuda.matmul.allow_tf32 == (precision == "tf32")
    assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")


def test_bitwise_takes_repeatable_kernels_and_seeded_fast_ones(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    choose_kernels(_recipe(reproducible="bitwise"), CUDA)
    assert torch.are_deterministic_algorithms_enabled()
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (True, False)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    choose_kernels(_recipe(), CUDA)
    assert not torch.are_deterministic_algorithms_enabled()
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (False, False)


def test_a_cpu_has_no_such_choice():
    before = torch.backends.cudnn.benchmark
    choose_kernels(_recipe(reproducible="bitwise", precision="tf32"), CPU)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark == before


def test_an_operation_that_cannot_repeat_is_refused_with_the_remedy():
    with (
        pytest.raises(SpecError, match=r"adaptive_avg_pool2d.*Set reproducible: seeded"),
        refusing_unrepeatable(_recipe(reproducible="bitwise")),
    ):
        raise RuntimeError(
            "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you"
            " set 'torch.use_deterministic_algorithms(True)'."
        )
    with pytest.raises(RuntimeError, match="another"), refusing_unrepeatable(_recipe()):
        raise RuntimeError("another")


@pytest.mark.parametrize(
    ("compile_", "device", "steps", "compiler", "expected"),
    [
        ("auto", CUDA, 2_000, "/usr/bin/g++", True),
        ("auto", CUDA, 60, "/usr/bin/g++", False),  # 60 steps * 80 epochs do not pay for it
        ("auto", CUDA, 2_000, None, False),
        ("auto", CPU, 2_000, "/usr/bin/g++", False),
        ("off", CUDA, 2_000, "/usr/bin/g++", False),
    ],
)
def test_a_model_is_compiled_where_that_pays(
    compile_, device, steps, compiler, expected, monkeypatch
):
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: compiler)
    assert compiles(_recipe(compile=compile_), device, steps=steps) is expected


def test_a_compiled_model_trains_and_the_checkpoint_is_that_of_the_model(site, monkeypatch):
    card = fake_folder(site.data, num=(4, 2, 2), size=(64, 64))
    recipe = _recipe(data=DataSpec(card=card, crop=64), batch_size=2)
    calls: list[int] = []

    def compile_model(model: nn.Module) -> Any:
        def compiled(x: Tensor) -> Tensor:
            calls.append(len(x))
            logits: Tensor = model(x)
            return logits

        return compiled

    monkeypatch.setattr(opening, "compiles", lambda *_, **__: True)
    monkeypatch.setattr(opening, "compile_model", compile_model)
    run = loop.open_run(recipe, site, CPU)
    loop._train(run, 1)
    assert calls == [2, 2]
    assert not [key for key in run.model.state_dict() if "orig_mod" in key]


def test_the_ids_of_recipes_are_those_from_before_the_choices():
    recipe = _recipe()
    same = _recipe(reproducible="seeded", compile="off", recompute=False)
    others = [_recipe(reproducible="bitwise"), _recipe(compile="auto"), _recipe(recompute=True)]
    assert recipe.id == same.id
    assert len({recipe.id, *(other.id for other in others)}) == 4


def _gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(1)
    model.train()
    model.zero_grad()
    model(x).square().mean().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("drop_path", [0.0, 0.5])
def test_recomputed_activations_give_the_same_gradients(drop_path, site):
    torch.manual_seed(0)
    recipe = _recipe(model={"drop_path": drop_path})
    model = segmenter(recipe, site=site, weights="scratch")
    x = torch.randn(2, 3, 64, 64)
    kept = _gradients(model, x)
    keys = list(model.state_dict())
    assert recompute_blocks(model.get_submodule("encoder"), name="vit-scratch") > 1
    again = _gradients(model, x)
    assert kept.keys() == again.keys()
    assert all(torch.equal(kept[name], again[name]) for name in kept)
    assert list(model.state_dict()) == keys
    copied = copy.deepcopy(model)  # an average of weights is such a copy
    model.eval(), copied.eval()
    with torch.inference_mode():
        assert torch.equal(model(x), copied(x))
        for parameter in copied.parameters():
            parameter.zero_()
        assert not copied(x).any(), "a copy runs its own blocks"


def test_recomputing_keeps_less(site):
    card = fake_folder(site.data, num=(2, 2, 2), size=(64, 64))
    data = DataSpec(card=card, crop=64)
    kept, recomputed = (
        measure_step(_recipe(data=data, recompute=flag), site).sample_gib for flag in (False, True)
    )
    assert recomputed < 0.7 * kept


def test_an_encoder_without_blocks_is_refused(site):
    recipe = _recipe(model={"encoder": "unet", "decoder": "unet"}, recompute=True)
    with pytest.raises(SpecError, match=r"recompute: true needs .*'unet' has none"):
        segmenter(recipe, site=site, weights="scratch")
