"""`data.normalize`: what the encoder sees is the same in training, scoring and a loaded model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cryo_hpo.config import Recipe, Site, explain_refusal
from cryo_hpo.errors import SpecError
from cryo_hpo.training.build import factors_to_pretraining, normalizer, scenes_of, segmenter
from cryo_hpo.training.loop import fit
from cryo_hpo.training.scoring import best_model, score_scenes

from ..support.fakes import fake_folder

CPU = torch.device("cpu")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    torch.set_num_threads(1)
    names = ("data", "storage", "cache", "weights")
    return Site.from_env({f"CRYO_{name.upper()}": str(tmp_path / name) for name in names})


def _recipe(site: Site, normalize: str, **changes: Any) -> Recipe:
    card = fake_folder(
        site.data, num=(2, 1, 1), size=(16, 16), dtype=changes.pop("dtype", "float32")
    )
    fields = {
        "data": {"card": json.loads(card.model_dump_json()), "crop": 16, "normalize": normalize},
        "model": {"encoder": "presto", "weights": "scratch", "channels": 8, **changes},
        "batch_size": 2,
        "epochs": 1,
    }
    return Recipe.model_validate_json(json.dumps(fields))


@pytest.mark.parametrize("normalize", ["pretraining", "image"])
def test_a_loaded_model_sees_what_the_trained_one_saw(site: Site, normalize: str) -> None:
    recipe, workdir = _recipe(site, normalize), site.storage / "run"
    (epoch,) = fit(recipe, site=site, workdir=workdir, device=CPU)
    model = best_model(recipe, site=site, workdir=workdir, device=CPU)
    val = scenes_of(recipe, "val", site)
    normalize_ = normalizer(recipe, scenes_of(recipe, "train", site), CPU)
    x_BCHW = normalize_(val.image(0))[None]
    assert model.rescale is not None
    seen = model.rescale(x_BCHW if model.pick is None else model.pick(x_BCHW))
    raw = torch.from_numpy(val.image(0).copy())[None]
    if normalize == "pretraining":  # Presto learned from reflectance as it is
        torch.testing.assert_close(seen, raw[:, [2, 1, 0]], atol=1e-5, rtol=1e-5)
    else:
        assert seen.mean(dim=(2, 3)).abs().max() < 1e-5
    (scores,) = score_scenes(recipe, "val", site=site, workdir=workdir, device=CPU).values()
    assert scores.miou == pytest.approx(epoch.val.miou)


def test_images_of_other_units_are_refused_before_training(site: Site) -> None:
    recipe = _recipe(site, "pretraining", dtype="uint8")
    with pytest.raises(SpecError, match="8 bits"):
        factors_to_pretraining(recipe, scenes_of(recipe, "train", site))
    with pytest.raises(SpecError, match="8 bits"):
        list(fit(recipe, site=site, workdir=site.storage / "run", device=CPU))


@pytest.mark.parametrize("value", ["dataset", "pretraining", "image"])
def test_a_search_space_may_vary_it(site: Site, value: str) -> None:
    assert explain_refusal(_recipe(site, "dataset"), "data.normalize", value) == ""


def test_by_the_dataset_nothing_is_added_to_the_network(site: Site) -> None:
    model = segmenter(_recipe(site, "dataset"), site=site, weights="scratch")
    assert model.rescale is None
    assert not [name for name in model.state_dict() if name.startswith("rescale")]
