"""What only a card can show: values, memory, determinism, two trials on one card, a whole study.

`make test-gpu` runs them. `make test-gpu ON=cpu` rehearses on a CPU all but those of the card's
memory: it shows that the tests work, not that a card does.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cryo_hpo.config import DataSpec, ModelSpec, OptimSpec, Recipe, Site
from cryo_hpo.data import ahead
from cryo_hpo.evaluation.device_score import score_on_device
from cryo_hpo.evaluation.sliding_window import score
from cryo_hpo.results.study import load_result
from cryo_hpo.training import loop
from cryo_hpo.training.kernels import compile_model
from cryo_hpo.training.loop import Epoch, fit
from cryo_hpo.training.optimizer import OPTIMIZERS

from ..support.fakes import fake_folder

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
CARD = torch.cuda.is_available()
# The name is read before the tests' environment is scrubbed of the user's settings.
DEVICE = torch.device(os.environ.get("CRYO_GPU_TESTS_ON", "cuda"))
Note = Callable[[str, object], None]
only_card = pytest.mark.skipif(DEVICE.type == "cpu", reason="a CPU has no memory of a card")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.from_env(_places(tmp_path))


def _places(root: Path) -> dict[str, str]:
    names = {"CRYO_DATA": "data", "CRYO_STORAGE": "runs", "CRYO_CACHE": "cache"}
    return {name: str(root / place) for name, place in names.items()}


def _recipe(site: Site, **changes: Any) -> Recipe:
    card = fake_folder(site.data, num=(6, 2, 2), size=(32, 40))
    model = {"encoder": "unet", "decoder": "unet", "width": 8, **changes.pop("model", {})}
    return Recipe(
        data=DataSpec(card=card, crop=changes.pop("crop", 32)),
        model=ModelSpec(**model),
        optim=changes.pop("optim", OptimSpec(lr=1e-3, schedule="constant")),
        **{"batch_size": 4, "epochs": 2, "precision": "fp32", **changes},
    )


def _fit(recipe: Recipe, site: Site, name: str, device: torch.device = DEVICE) -> list[Epoch]:
    return list(fit(recipe, site=site, workdir=site.storage / name, device=device))


def _losses(epochs: list[Epoch]) -> list[float]:
    return [epoch.train_loss for epoch in epochs]


def test_forward_and_backward_give_the_values_of_the_cpu(site, record_property: Note):
    recipe = _recipe(site)
    found = []
    for device in (CPU, DEVICE):
        run = loop.open_run(recipe, site, device)
        x, y = next(iter(run.tiles.batches(4, seed=0, epoch=1, device=device)))
        run.model.train()
        loss = run.step(x, y)
        grads = [p.grad.cpu() for p in run.model.parameters() if p.grad is not None]
        found.append((float(loss), grads))
    (one, grads), (two, others) = found
    apart = max(
        float((a - b).abs().max() / a.abs().max().clamp(min=1e-6))
        for a, b in zip(grads, others, strict=True)
    )
    record_property("largest difference of a gradient, relative", f"{apart:.1e}")
    assert two == pytest.approx(one, rel=1e-3)
    assert apart < 0.05


def _make_busy(stream: torch.cuda.Stream) -> None:
    """Let a stream of the card do nothing for some milliseconds."""
    with torch.cuda.stream(stream):
        torch.cuda._sleep(5_000_000)


def test_batches_copied_ahead_have_the_values_of_the_cpu(site):
    """Copies that come late, and memory that is used again while kernels still read it, would show."""
    recipe = _recipe(site)
    batches: dict[torch.device, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for device in (CPU, DEVICE):
        tiles = replace(loop.open_run(recipe, site, device).tiles, replicate=8)
        batches[device] = []
        for x, y in tiles.batches(1, seed=0, epoch=1, device=device):
            batches[device].append((x.clone(), y.clone()))
            if device.type == "cuda":
                _make_busy(ahead._copy_stream(device))
                _make_busy(torch.cuda.current_stream())
    assert len(batches[DEVICE]) == 48
    for (x, y), (cpu_x, cpu_y) in zip(batches[DEVICE], batches[CPU], strict=True):
        assert torch.equal(y.cpu(), cpu_y)
        torch.testing.assert_close(x.cpu(), cpu_x)


@pytest.mark.usefixtures("tiny_encoders")
@pytest.mark.parametrize("encoder", ["vit-scratch", "timm/resnet18", "timm/convnext_atto"])
def test_encoders_train_in_the_precision_of_the_device(encoder, site, record_property: Note):
    model = {"encoder": encoder, "decoder": "upernet", "channels": 8, "width": None}
    recipe = _recipe(
        site, model={**model, "weights": "scratch"}, precision="auto", epochs=1, crop=64
    )
    (epoch,) = _fit(recipe, site, "encoder")
    record_property("loss", f"{epoch.train_loss:.4f}")
    assert 0 < epoch.train_loss < 10


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_train(name, site):
    epochs = _fit(_recipe(site, optim=OptimSpec(name=name), epochs=1), site, name)
    assert 0 < epochs[-1].train_loss < 10


@pytest.mark.parametrize("decoder", ["unet", "upernet"])
@pytest.mark.parametrize("reproducible", ["seeded", "bitwise"])
def test_two_trainings_agree(reproducible, decoder, site, record_property: Note):
    recipe = _recipe(site, reproducible=reproducible, model={"decoder": decoder, "channels": 8})
    one, two = (_losses(_fit(recipe, site, name)) for name in ("one", "two"))
    record_property("bit for bit", one == two)
    assert two == pytest.approx(one, rel=1e-3)
    assert one == two or reproducible == "seeded"


def test_pixels_are_counted_on_the_card_as_on_the_host(site):
    run = loop.open_run(_recipe(site), site, DEVICE)
    validation = run.validation
    given: dict[str, Any] = {
        "normalize": validation._normalize,
        "classes": validation.classes,
        "window": validation._window,
        "batch": 16,
    }
    counted = score_on_device(run.model, validation.scenes, **given)
    assert counted == score(run.model, validation.scenes, **given)


@only_card
def test_a_compiled_model_gives_the_same_values(site, record_property: Note):
    run = loop.open_run(_recipe(site), site, DEVICE)
    x, _ = next(iter(run.tiles.batches(4, seed=0, epoch=1, device=DEVICE)))
    run.model.eval()
    with torch.no_grad():
        apart = float((compile_model(run.model)(x) - run.model(x)).abs().max())
    record_property("largest difference of a logit", f"{apart:.1e}")
    assert apart < 1e-2


def test_a_resumed_training_agrees_with_one_that_ran_through(site, record_property: Note):
    recipe = _recipe(site, epochs=3)
    through = _losses(_fit(recipe, site, "through"))
    workdir = site.storage / "cut"
    first = list(itertools.islice(fit(recipe, site=site, workdir=workdir, device=DEVICE), 1))
    resumed = _losses(first + _fit(recipe, site, "cut"))
    record_property("bit for bit", resumed == through)
    assert resumed == pytest.approx(through, rel=1e-3)


@pytest.fixture
def limited() -> Iterator[Callable[[float], None]]:
    """Limit the process to so many bytes of the card, until the test ends."""
    whole = torch.cuda.get_device_properties(0).total_memory

    def limit(size: float) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(min(1.0, size / whole))

    yield limit
    torch.cuda.set_per_process_memory_fraction(1.0)


def _peak(recipe: Recipe, site: Site) -> int:
    """Return the bytes that a recipe takes from the card, once libraries have their own."""
    for name in ("first", "second"):
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        _fit(recipe, site, f"{name}-{recipe.batch_size}")
    return torch.cuda.max_memory_reserved()


@only_card
def test_a_batch_that_does_not_fit_is_split(site, limited, record_property: Note):
    wide = _recipe(site, model={"width": 32}, batch_size=6, epochs=1)
    peaks = [_peak(wide.replace({"batch_size": size}), site) for size in (1, 6)]
    limited((peaks[0] + peaks[1]) / 2)
    (epoch,) = _fit(wide, site, "limited")
    record_property("micro-batch", epoch.micro_batch)
    assert epoch.micro_batch < 6


def _study(root: Path, name: str) -> Path:
    card = fake_folder(root / "data", num=(6, 2, 2), size=(32, 40), name="fake")
    (root / "card.yaml").write_text(yaml.safe_dump(json.loads(card.model_dump_json())))
    rate = {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True}
    fields = {
        "name": name,
        "base": {
            "data": {"card": "card.yaml", "crop": 32},
            "model": {"encoder": "unet", "decoder": "unet", "width": 4},
            "batch_size": 4,
            "epochs": 2,
        },
        "search": {
            "space": {"params": {"optim.lr": rate}},
            "trials": 2,
            "scheduler": {"kind": "none"},
        },
        "seeds": [1],
        "resources": {"cpus": 1, "gpus": 0 if DEVICE.type == "cpu" else 1},
    }
    file = root / f"{name}.yaml"
    file.write_text(yaml.safe_dump(fields))
    return file


def _start(root: Path, file: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cryo_hpo", "run", "--inline", str(file)],
        env={**os.environ, **_places(root), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_whole_studies_share_the_card(tmp_path):
    runs = {name: _start(tmp_path, _study(tmp_path, name)) for name in ("one", "two")}
    for name, run in runs.items():
        output, _ = run.communicate(timeout=600)
        assert run.returncode == 0, output
        result = load_result(tmp_path / "runs" / name)
        assert result.improvement is not None
        assert all(seed.test_miou > 0 for arm in result.arms for seed in arm.seeds)


@only_card
def test_a_report_names_a_card():
    from ..support.gpu_report import _machine

    assert "capability" in _machine()["card"]
