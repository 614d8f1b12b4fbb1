"""What a recipe says of its optimizer: own values, laws, and arms with another one."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from pydantic import ValidationError

from cryo_hpo.config import DataSpec, OptimSpec, Recipe, Search, Study, explain
from cryo_hpo.config.space import Choice, Float, SearchSpace

BASE = Recipe(
    data=DataSpec(name="glid"), optim=OptimSpec(lr=3e-4, schedule="cosine", weight_decay=0.1)
)


@pytest.mark.parametrize(
    ("name", "lr", "schedule", "decay"),
    [
        ("adamw", 1e-4, "multistep", 0.05),
        ("sgd", 1e-2, "multistep", 1e-4),
        ("prodigy", 1.0, "multistep", 0.05),
        ("schedule-free", 2.5e-3, "constant", 0.05),
    ],
)
def test_keys_that_are_left_out_are_those_of_the_optimizer(name, lr, schedule, decay):
    optim = OptimSpec(name=name)
    assert (optim.lr, optim.schedule, optim.weight_decay) == (lr, schedule, decay)
    again = OptimSpec.model_validate_json(optim.model_dump_json())
    assert again == optim


@pytest.mark.parametrize(
    ("optim", "place", "message"),
    [
        ({"name": "prodigy", "lr": 1e-4}, ("lr",), "factor on the rate that it estimates, got 0.0001"),
        ({"name": "prodigy", "layer_decay": 0.8}, ("layer_decay",), "one learning rate for all layers"),
        ({"name": "prodigy", "encoder_lr_scale": 0.1}, ("encoder_lr_scale",), "Set it to 1"),
        ({"name": "schedule-free", "schedule": "cosine"}, ("schedule",), "got cosine. Drop the key"),
        ({"name": "schedule-free", "schedule": "multistep"}, ("schedule",), "got multistep"),
        ({"name": "schedule-free", "ema": 0.9}, ("ema",), "an average of the weights already"),
    ],
)  # fmt: skip
def test_what_an_optimizer_cannot_do_is_refused_in_words(optim, place, message):
    with pytest.raises(ValidationError) as caught:
        OptimSpec(**optim)
    (problem,) = explain(caught.value, OptimSpec)
    assert problem.loc == place
    assert message in problem.message


def test_another_optimizer_brings_its_own_rate_and_schedule():
    optim = BASE.replace({"optim.name": "prodigy"}).optim
    assert (optim.lr, optim.schedule, optim.weight_decay) == (1.0, "cosine", 0.1)
    free = BASE.replace({"optim.name": "schedule-free"})
    assert (free.optim.lr, free.optim.schedule) == (2.5e-3, "constant")
    assert free.replace({"seed": 3}).optim == free.optim
    back = free.replace({"optim.name": "adamw", "optim.lr": 3e-4}).optim
    assert (back.lr, back.schedule, back.weight_decay) == (3e-4, "multistep", 0.1)
    assert BASE.replace({"optim.name": "adamw"}) == BASE


def test_under_cryo_bench_another_optimizer_keeps_its_own_rate():
    recipe = Recipe(data=BASE.data, optim=OptimSpec(name="prodigy"), protocol="cryo-bench")
    assert recipe.optim.lr == 1.0
    assert Recipe(data=BASE.data, protocol="cryo-bench").optim.lr == 1e-4


def test_the_id_of_a_recipe_with_adamw_is_that_from_before_there_was_a_choice():
    raw = BASE.model_dump(mode="json")
    del raw["optim"]["name"]
    del raw["data"]["boundary_tolerance"]  # as new as the choice, or newer
    del raw["reproducible"], raw["compile"], raw["recompute"]
    text = json.dumps(raw, sort_keys=True, separators=(",", ":"))
    assert BASE.id == hashlib.sha256(text.encode()).hexdigest()[:12]
    assert BASE.replace({"optim.name": "sgd", "optim.lr": 3e-4}).id != BASE.id


def test_arms_with_another_optimizer_are_checked_as_a_whole():
    scaled = BASE.replace({"optim.layer_decay": 0.8})
    arms: dict[str, Any] = {
        "prodigy": {"optim.name": "prodigy", "optim.layer_decay": 1.0},
        "schedule-free": {"optim.name": "schedule-free", "optim.lr": 1e-2},
    }
    Study(name="arms", base=scaled, baselines=arms)
    with pytest.raises(ValidationError) as caught:
        Study(name="arms", base=scaled, baselines={"prodigy": {"optim.name": "prodigy"}})
    (problem,) = explain(caught.value, Study)
    assert problem.loc == ("baselines", "prodigy", "optim.name")
    assert "optim.layer_decay: Prodigy estimates one learning rate" in problem.message
    both: dict[str, Any] = {"p": {"optim.name": "prodigy", "optim.lr": 1e-3}}
    with pytest.raises(ValidationError) as caught:
        Study(name="arms", base=BASE, baselines=both)
    (problem,) = explain(caught.value, Study)
    assert problem.loc == ("baselines", "p")
    assert "optim.lr: With prodigy, lr is a factor" in problem.message


def test_optimizers_are_arms_and_not_searched():
    space = SearchSpace(params={"optim.name": Choice(values=("adamw", "prodigy"))})
    with pytest.raises(ValidationError) as caught:
        Study(name="searched", base=BASE, search=Search(space=space, trials=3), seeds=(1,))
    (problem,) = explain(caught.value, Study)
    assert "compare them as `baselines`" in problem.message
    prodigy = BASE.replace({"optim.name": "prodigy"})
    rates = SearchSpace(params={"optim.lr": Float(low=1e-5, high=1e-1, log=True)})
    with pytest.raises(ValidationError, match="lr is a factor on the rate"):
        Study(name="rates", base=prodigy, search=Search(space=rates, trials=3), seeds=(1,))
