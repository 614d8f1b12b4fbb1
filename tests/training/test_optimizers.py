"""Trainings with SGD, Prodigy and Schedule-Free: rates, modes, statistics, resumption."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cryo_hpo.bands import BANDS
from cryo_hpo.config import DataSpec, ModelSpec, OptimSpec, Recipe, Site, Study
from cryo_hpo.config.optim import OWN
from cryo_hpo.data.tiles import Tiles
from cryo_hpo.errors import UnknownName
from cryo_hpo.models import add_adapters, build
from cryo_hpo.study.preflight import optimizer_lines
from cryo_hpo.training.build import normalizer, scenes_of
from cryo_hpo.training.loop import Epoch, fit
from cryo_hpo.training.optimizer import OPTIMIZERS, estimated_rate, groups, make_optimizer
from cryo_hpo.training.schedule_free import (
    hold_scored_weights,
    hold_trained_weights,
    recompute_statistics,
)
from cryo_hpo.training.scoring import best_model

from ..support.fakes import fake_folder
from ..support.scoring import score_split

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    places = {"CRYO_DATA": "data", "CRYO_STORAGE": "runs", "CRYO_CACHE": "cache"}
    return Site.from_env({key: str(tmp_path / place) for key, place in places.items()})


def _recipe(site: Site, name: Any, **optim: Any) -> Recipe:
    card = fake_folder(site.data, num=(4, 2, 2), size=(16, 20))
    return Recipe(
        data=DataSpec(card=card, crop=16),
        model=ModelSpec(encoder="unet", decoder="unet", width=4),
        optim=OptimSpec(name=name, **optim),
        batch_size=2,
        epochs=3,
    )


def _fit(recipe: Recipe, site: Site, name: str) -> list[Epoch]:
    return list(fit(recipe, site=site, workdir=site.storage / name, device=CPU))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_training_equals_one_that_ran_through(name, site):
    recipe = _recipe(site, name, warmup_epochs=1.0)
    through = _fit(recipe, site, "through")
    workdir = site.storage / "cut"
    first = list(itertools.islice(fit(recipe, site=site, workdir=workdir, device=CPU), 2))
    rest = _fit(recipe, site, "cut")
    assert [e.train_loss for e in first + rest] == [e.train_loss for e in through]
    assert [e.val for e in first + rest] == [e.val for e in through]
    states = [
        torch.load(site.storage / n / "last.pt", weights_only=True) for n in ("through", "cut")
    ]
    for key, value in states[0]["model"].items():
        assert torch.equal(value, states[1]["model"][key]), key


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_kept_model_is_the_one_that_was_scored(name, site):
    recipe = _recipe(site, name)
    epochs = _fit(recipe, site, "kept")
    again = score_split(recipe, "val", site=site, workdir=site.storage / "kept", device=CPU)
    assert math.isclose(again.miou, epochs[-1].best_val_miou, rel_tol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_adapters_are_trained_and_nothing_else_of_the_encoder(name, tiny_encoders, tmp_path):
    model = build(
        "vit-scratch",
        "upernet",
        bands=[BANDS["B2"]],
        num_classes=2,
        size=64,
        channels=8,
        weights="scratch",
        weights_root=tmp_path,
    )
    add_adapters(model, rank=2, alpha=4, dropout=0.0, targets="attention+mlp", name="vit-scratch")
    rates = {"lr": OWN[name]["lr"], "encoder_lr_scale": 1.0, "layer_decay": 1.0}
    found = groups(model, weight_decay=0.0, **rates)
    optimizer = make_optimizer(name, model, found)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    for _ in range(2):
        hold_trained_weights(optimizer)
        for p in model.parameters():
            p.grad = torch.ones_like(p) if p.requires_grad else None
        optimizer.step()
        hold_scored_weights(optimizer)
    moved = {key for key, p in model.named_parameters() if not torch.equal(p, before[key])}
    assert moved == {key for key, p in model.named_parameters() if p.requires_grad}
    assert any("lora_up" in key for key in moved)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_values_that_an_optimizer_keeps_are_counted(name):
    layer = nn.Linear(30, 20, bias=False)
    optimizer = OPTIMIZERS[name].make([{"params": [layer.weight], "lr": 0.1}], False, False)
    hold_trained_weights(optimizer)
    layer.weight.grad = torch.ones_like(layer.weight)
    optimizer.step()
    kept = sum(
        x.numel() for x in optimizer.state[layer.weight].values() if isinstance(x, torch.Tensor)
    )
    assert kept // layer.weight.numel() == OPTIMIZERS[name].values


def test_schedule_free_holds_the_average_of_its_steps_when_scored():
    """At a constant rate x is the plain mean of all z, where z takes the steps."""
    weight = nn.Parameter(torch.tensor([3.0]))
    optimizer = OPTIMIZERS["schedule-free"].make([{"params": [weight], "lr": 0.1}], False, False)
    steps = []
    for _ in range(5):
        hold_trained_weights(optimizer)
        weight.grad = 2 * weight.detach().clone()
        optimizer.step()
        steps.append(float(optimizer.state[weight]["z"]))
        assert hold_scored_weights(optimizer)
        assert float(weight.detach()) == pytest.approx(sum(steps) / len(steps), rel=1e-5)


def test_other_optimizers_have_one_set_of_weights():
    weight = nn.Parameter(torch.ones(1))
    optimizer = OPTIMIZERS["adamw"].make([{"params": [weight], "lr": 0.1}], False, False)
    hold_trained_weights(optimizer)
    assert not hold_scored_weights(optimizer)


def test_prodigys_rate_is_lr_times_its_estimate(site):
    recipe, workdir = _recipe(site, "prodigy", schedule="constant"), site.storage / "rate"
    training = fit(recipe, site=site, workdir=workdir, device=CPU)
    rates = [epoch.lr for epoch in itertools.islice(training, 2)]
    training.close()  # waits for the checkpoint that is being written
    assert 0 < rates[0] < rates[-1] < 1, "it begins at 1e-6 and grows"
    state = torch.load(workdir / "last.pt", weights_only=True)
    assert rates[-1] == state["optimizer"]["param_groups"][0]["d"]
    other = OPTIMIZERS["sgd"].make(
        [{"params": [nn.Parameter(torch.ones(1))], "lr": 0.1}], False, False
    )
    assert estimated_rate(other) == 1


def test_statistics_are_those_of_the_scored_weights(site):
    """The kept model's running means are the means over an epoch's batches, at its own weights."""
    recipe = _recipe(site, "schedule-free", warmup_epochs=1.0).replace({"epochs": 1})
    _fit(recipe, site, "statistics")
    model = best_model(recipe, site=site, workdir=site.storage / "statistics", device=CPU)
    first = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    first.register_forward_hook(lambda _m, x, _y: seen.append(x[0].mean(dim=(0, 2, 3))))
    train = scenes_of(recipe, "train", site)
    tiles = Tiles(
        train, crop=16, normalize=normalizer(recipe, train, CPU), augment=recipe.data.augment
    )
    assert first.running_mean is not None
    kept = first.running_mean.clone()
    model.train()
    with torch.no_grad():
        for x, _ in tiles.batches(2, seed=recipe.seed, epoch=1, device=CPU):
            model(x)
    torch.testing.assert_close(kept, torch.stack(seen).mean(dim=0), rtol=1e-4, atol=1e-6)


def test_statistics_of_layers_that_do_not_move_are_kept():
    class Frozen(nn.BatchNorm1d):
        def train(self, mode: bool = True) -> Frozen:  # noqa: ARG002
            super().train(mode=False)
            return self

    moving, still = nn.BatchNorm1d(2), Frozen(2)
    model = nn.Sequential(moving, still)
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    recompute_statistics(model, [x, x + 2], forward=model, micro_batch=2)
    assert moving.running_mean is not None
    assert still.running_mean is not None
    assert moving.running_mean.tolist() == [3.0, 5.0]
    assert moving.momentum == 0.1
    assert still.running_mean.tolist() == [0.0, 0.0]


def test_an_unknown_optimizer_is_told_what_is_near():
    with pytest.raises(UnknownName, match=r"Did you mean 'prodigy'\?"):
        make_optimizer("prodigi", nn.Linear(1, 1), [])


def test_check_says_which_arm_has_another_optimizer(site):
    base = _recipe(site, "adamw")
    arms: dict[str, Any] = {
        "prodigy": {"optim.name": "prodigy"},
        "paper": {"optim.lr": 1e-3},
    }
    study = Study(name="arms", base=base, baselines=arms)
    assert optimizer_lines(study) == [
        "Optimizer of 'prodigy': prodigy, learning rate 1 times the rate that it estimates."
    ]
