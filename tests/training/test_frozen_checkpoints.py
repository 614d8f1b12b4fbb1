"""Checkpoints hold what changes: no frozen encoder, and an optimizer only while it is needed."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from cryo_hpo.config import DataSpec, ModelSpec, OptimSpec, Recipe, Site, Study
from cryo_hpo.errors import Diverged, WeightsError
from cryo_hpo.models import FINGERPRINT
from cryo_hpo.study.plan import plan
from cryo_hpo.training import loop, opening
from cryo_hpo.training.build import initial_model, segmenter
from cryo_hpo.training.checkpoint_size import count_bytes
from cryo_hpo.training.loop import Epoch, fit
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


def _recipe(site: Site, tune: Any = "frozen", **optim: Any) -> Recipe:
    card = fake_folder(site.data, num=(4, 2, 2), size=(16, 20))
    return Recipe(
        data=DataSpec(card=card, crop=16),
        model=ModelSpec(encoder="unet", decoder="unet", width=4, tune=tune),
        optim=OptimSpec(**{"lr": 0.01, "schedule": "constant", **optim}),
        batch_size=2,
        epochs=3,
    )


def _begin(recipe: Recipe, site: Site, name: str, epochs: int) -> list[Epoch]:
    training = fit(recipe, site=site, workdir=site.storage / name, device=CPU)
    return list(itertools.islice(training, epochs))


def _read(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


@pytest.mark.parametrize("ema", [None, 0.8])
def test_a_resumed_training_with_a_frozen_encoder_equals_one_that_ran_through(ema, site):
    recipe = _recipe(site, ema=ema)
    through = _begin(recipe, site, "through", 3)
    first = _begin(recipe, site, "cut", 2)
    assert [e.val for e in first + _begin(recipe, site, "cut", 1)] == [e.val for e in through]
    one, two = (_read(site.storage / name / "best.pt")["model"] for name in ("through", "cut"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_frozen_encoder_is_written_once_at_the_end(site):
    recipe = _recipe(site)
    _begin(recipe, site, "run", 1)
    for name in ("last.pt", "best.pt"):
        model = _read(site.storage / "run" / name)["model"]
        assert {key.split(".")[0] for key in model} == {"decoder", FINGERPRINT}
    whole = set(segmenter(recipe, site=site, weights="scratch").state_dict())
    _begin(recipe, site, "run", 2)
    assert set(_read(site.storage / "run" / "best.pt")["model"]) == whole
    assert FINGERPRINT in _read(site.storage / "run" / "last.pt")["model"]


def test_other_encoder_weights_are_refused_when_a_training_resumes(site, monkeypatch):
    recipe = _recipe(site)
    _begin(recipe, site, "run", 1)

    def swapped(*args: Any, **options: Any) -> Any:
        model = initial_model(*args, **options)
        with torch.no_grad():
            next(model.get_submodule("encoder").parameters()).add_(1e-3)
        model.omit(model.omitted)
        return model

    monkeypatch.setattr(opening, "initial_model", swapped)
    with pytest.raises(WeightsError, match="belong to other encoder weights"):
        _begin(recipe, site, "run", 1)


def test_checkpoints_of_earlier_versions_hold_the_encoder_and_are_resumed(site):
    recipe = _recipe(site)
    through = _begin(recipe, site, "through", 3)
    first = _begin(recipe, site, "old", 2)
    torch.manual_seed(recipe.seed)
    fresh = segmenter(recipe, site=site, weights="scratch").state_dict()
    for name in ("last.pt", "best.pt"):
        state = _read(site.storage / "old" / name)
        state["model"] = {key: state["model"].get(key, fresh[key]) for key in fresh}
        torch.save(state, site.storage / "old" / name)
    assert [e.val for e in first + _begin(recipe, site, "old", 1)] == [e.val for e in through]
    assert FINGERPRINT in _read(site.storage / "old" / "last.pt")["model"]


def test_the_best_model_of_a_training_that_diverged_is_whole(site, monkeypatch):
    recipe = _recipe(site)
    epoch = loop._epoch

    def diverges(run: Any, number: int) -> Any:
        if number == 2:
            raise Diverged("no longer finite")
        return epoch(run, number)

    monkeypatch.setattr(loop, "_epoch", diverges)
    with pytest.raises(Diverged):
        _begin(recipe, site, "run", 3)
    assert FINGERPRINT not in _read(site.storage / "run" / "best.pt")["model"]


def test_the_best_model_of_a_killed_training_is_read_too(site):
    recipe = _recipe(site)
    (epoch,) = _begin(recipe, site, "run", 1)
    again = score_split(recipe, "val", site=site, workdir=site.storage / "run", device=CPU)
    assert again.miou == pytest.approx(epoch.val.miou, rel=1e-12)
    model = best_model(recipe, site=site, workdir=site.storage / "run", device=CPU)
    assert FINGERPRINT in model.state_dict()


def test_the_optimizer_is_kept_until_the_training_ends(site):
    recipe = _recipe(site, "full")
    _begin(recipe, site, "run", 2)
    assert "optimizer" in _read(site.storage / "run" / "last.pt")
    _begin(recipe, site, "run", 1)
    assert "optimizer" not in _read(site.storage / "run" / "last.pt")
    assert "optimizer" in _read(site.storage / "run" / "before.pt")


def test_an_ended_training_is_read_without_its_data(site):
    recipe = _recipe(site, "full")
    epochs = _begin(recipe, site, "run", 3)
    shutil.rmtree(site.data)
    again = fit(recipe, site=site, workdir=site.storage / "run", device=CPU)
    assert [one["train_loss"] for one in again.history] == [e.train_loss for e in epochs]
    assert list(again) == []


@pytest.mark.parametrize(
    ("tune", "optim"),
    [
        ("full", {}),
        ("full", {"name": "sgd"}),
        ("full", {"name": "prodigy", "lr": 1.0}),
        ("full", {"name": "schedule-free"}),
        ("frozen", {}),
        ("frozen", {"ema": 0.9}),
    ],
)
def test_the_planned_bytes_are_those_of_the_files(tune, optim, site):
    recipe = _recipe(site, tune, **optim).replace({"epochs": 2, "model.width": 24})
    with torch.device("meta"):
        model = segmenter(recipe, site=site, weights="scratch")
    size = count_bytes(recipe, model)
    _begin(recipe, site, "run", 1)
    folder = site.storage / "run"
    assert (folder / "last.pt").stat().st_size == pytest.approx(size.last, rel=0.05, abs=3e5)
    _begin(recipe, site, "run", 1)
    assert (folder / "last.pt").stat().st_size == pytest.approx(size.ended, rel=0.05, abs=3e5)
    assert (folder / "best.pt").stat().st_size == pytest.approx(size.best, rel=0.05, abs=3e5)
    assert size.most == 2 * size.last + size.best


def test_the_plan_counts_the_largest_optimizer_of_the_arms(site):
    base = _recipe(site, "full")
    prodigy: dict[str, Any] = {"prodigy": {"optim.name": "prodigy"}}
    without, with_ = (
        plan(Study(name="size", base=base, seeds=(1, 2), baselines=arms), site=site)
        for arms in ({}, prodigy)
    )
    values = with_.disk_gib / 4 / (without.disk_gib / 2)
    assert values == pytest.approx((2 * 5 + 1) / (2 * 3 + 1), rel=0.01)
