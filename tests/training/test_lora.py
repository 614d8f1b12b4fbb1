"""Trainings with low-rank adapters: what is kept, resumed, scored, mapped and exported."""

# B batch, C bands, H W pixels

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from cryo_hpo.config import DataSpec, ModelSpec, OptimSpec, Recipe, Site, Study
from cryo_hpo.errors import SpecError, WeightsError
from cryo_hpo.models import is_adapted
from cryo_hpo.models.lora import LoraLinear
from cryo_hpo.models.segmenter import FINGERPRINT
from cryo_hpo.training.build import freeze, parameter_groups, segmenter
from cryo_hpo.training.loop import fit
from cryo_hpo.training.scoring import best_model

from ..support.fakes import fake_folder

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def site(tmp_path: Path, shared: Path) -> Site:
    return Site.from_env(
        {
            "CRYO_DATA": str(tmp_path / "data"),
            "CRYO_STORAGE": str(tmp_path / "runs"),
            "CRYO_CACHE": str(tmp_path / "cache"),
            "CRYO_WEIGHTS": str(shared / "weights"),
        }
    )


@pytest.fixture
def recipe(site: Site) -> Recipe:
    return Recipe(
        data=DataSpec(card=fake_folder(site.data, num=(4, 2, 2), size=(32, 40)), crop=32),
        model=ModelSpec(encoder="galileo-nano", decoder="upernet", channels=8, tune="lora"),
        optim=OptimSpec(lr=0.01, schedule="constant"),
        batch_size=2,
        epochs=3,
    )


def _fit(recipe: Recipe, site: Site, name: str, epochs: int | None = None) -> list[Any]:
    run: Iterator[Any] = fit(recipe, site=site, workdir=site.storage / name, device=CPU)
    return list(itertools.islice(run, epochs))


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_resumed_training_equals_one_that_ran_through(
    recipe: Recipe, site: Site, ema: float | None
) -> None:
    if ema is not None:
        recipe = recipe.replace({"optim.ema": ema})
    through = _fit(recipe, site, "through")
    parts = _fit(recipe, site, "cut", 2) + _fit(recipe, site, "cut")
    assert [e.train_loss for e in parts] == [e.train_loss for e in through]
    assert [e.val for e in parts] == [e.val for e in through]


def test_a_checkpoint_holds_only_what_was_trained_and_is_the_model_that_is_scored(
    recipe: Recipe, site: Site
) -> None:
    epochs = _fit(recipe, site, "run")
    workdir = site.storage / "run"
    state = torch.load(workdir / "best.pt", weights_only=True)["model"]
    encoder = {key for key in state if key.startswith("encoder.")}
    assert FINGERPRINT in state
    assert all("lora_" in key or "norm" in key for key in encoder)
    model = best_model(recipe, site=site, workdir=workdir, device=CPU)
    assert is_adapted(model)
    assert max(e.best_val_miou for e in epochs) == epochs[-1].best_val_miou
    assert all(torch.equal(x, state[key]) for key, x in model.state_dict().items())


def test_a_checkpoint_beside_other_weights_is_refused(
    recipe: Recipe, site: Site, tmp_path: Path
) -> None:
    _fit(recipe, site, "run", 1)
    source = site.weights / "galileo_nano" / "encoder.pt"
    weights = torch.load(source, weights_only=True, map_location="cpu")
    key = next(key for key in weights if key.endswith("q.weight"))
    weights[key][0, 0] += 0.1
    torch.save(weights, tmp_path / "other.pt")
    elsewhere = Site.from_env({"CRYO_WEIGHTS": str(tmp_path), "CRYO_DATA": str(site.data)})
    other = recipe.model.model_copy(update={"weights": "other.pt"})
    with pytest.raises(WeightsError, match="belong to other encoder weights"):
        best_model(
            recipe.model_copy(update={"model": other}),
            site=elsewhere,
            workdir=site.storage / "run",
            device=CPU,
        )


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_a_search_space_over_the_rank_changes_what_is_trained(
    recipe: Recipe, site: Site, rank: int
) -> None:
    trial = recipe.replace({"model.lora.rank": rank, "model.lora.targets": "mlp"})
    model = segmenter(trial, site=site, weights="scratch")
    freeze(trial, model)
    parameter_groups(trial, model)
    downs = [x for key, x in model.named_parameters() if key.endswith("lora_down")]
    assert {len(x) for x in downs} == {rank}
    assert len(downs) == 2 * 4  # two layers in each of four blocks


def test_all_four_keys_of_adapters_can_be_searched(recipe: Recipe, site: Site) -> None:
    ranges = {
        "model.lora.rank": {"kind": "choice", "values": [4, 8]},
        "model.lora.alpha": {"kind": "float", "low": 1.0, "high": 32.0, "log": True},
        "model.lora.dropout": {"kind": "float", "low": 0.0, "high": 0.3},
        "model.lora.targets": {"kind": "choice", "values": ["attention", "mlp", "attention+mlp"]},
    }
    fields = {
        "name": "adapters",
        "base": json.loads(recipe.model_dump_json()),
        "search": {"space": {"params": ranges}, "trials": 4},
    }
    study = Study.model_validate_json(json.dumps(fields))
    values = ({"model.lora.alpha": 4.0, "model.lora.dropout": 0.25}, {"model.lora.alpha": 32.0})
    for over in values:
        trial = study.base.replace(over)
        model = segmenter(trial, site=site, weights="scratch")
        adapters = [x for x in model.modules() if isinstance(x, LoraLinear)]
        assert {x.scale for x in adapters} == {over["model.lora.alpha"] / 8}
        assert {x.dropout.p for x in adapters} == {over.get("model.lora.dropout", 0.0)}


def test_adapters_need_their_regime_and_pretrained_weights(recipe: Recipe, site: Site) -> None:
    with pytest.raises(SpecError, match=r"model\.lora: Adapters exist only with tune: lora"):
        recipe.replace({"model.tune": "frozen", "model.lora.rank": 4})
    with pytest.raises(ValidationError, match="Adapters need pretrained weights, got 'scratch'"):
        Recipe(data=recipe.data, model=ModelSpec(tune="lora", weights="scratch"))
    with pytest.raises(SpecError, match="encoder 'unet' has none"):
        segmenter(recipe.replace({"model.encoder": "unet"}), site=site, weights=None)
    assert math.isclose(recipe.model.lora.alpha / recipe.model.lora.rank, 2.0)
