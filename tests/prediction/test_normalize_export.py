"""Models under `data.normalize: pretraining` and `image`: exported, loaded and mapped as trained."""

# C bands, H W pixels

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray

from cryo_hpo.prediction.model import Model, export_model, load_model, open_model
from cryo_hpo.prediction.scene import predict_scene
from cryo_hpo.training.build import normalizer, scenes_of
from cryo_hpo.training.scoring import best_model

from ..support.finished import Finished, finished_study

MODEL = {"encoder": "presto", "decoder": "upernet", "weights": "scratch", "channels": 8}
CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["dataset", "pretraining", "image"])
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp(request.param)
    return finished_study(root, dtype="float32", model=MODEL, epochs=1, normalize=request.param)


@pytest.fixture
def exported(done: Finished, tmp_path: Path) -> Model:
    export_model(done.folder, tmp_path / "model.pt", site=done.site)
    return load_model(tmp_path / "model.pt")


@pytest.fixture(scope="module", name="image_CHW")
def _image() -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(0.1, 0.6, (3, 16, 16)).astype(np.float32)


def _rule(done: Finished) -> str:
    return done.study.base.data.normalize


def _logits(done: Finished, image_CHW: NDArray[Any], seed: int) -> torch.Tensor:
    """Run the network that was trained, without the code of prediction."""
    recipe = done.study.base.replace({"seed": seed})
    workdir = done.folder / "confirm" / f"baseline-seed{seed}"
    model = best_model(recipe, site=done.site, workdir=workdir, device=CPU).eval()
    normalize = normalizer(recipe, scenes_of(recipe, "train", done.site), CPU)
    with torch.inference_mode():
        logits_KHW: torch.Tensor = model(normalize(image_CHW)[None])[0]
    return logits_KHW


def test_an_exported_model_maps_as_the_trained_one(
    done: Finished, exported: Model, image_CHW: NDArray[np.float32]
) -> None:
    assert exported.card.recipe["data"]["normalize"] == _rule(done)
    expected = _logits(done, image_CHW, seed=exported.card.recipe["seed"]).softmax(dim=0).numpy()
    opened = open_model(done.folder, site=done.site)
    for model in (exported, opened):
        np.testing.assert_allclose(model.probabilities(image_CHW), expected, rtol=0, atol=1e-5)


def test_gain_and_offset_of_an_image_matter_unless_each_is_normalized_by_itself(
    done: Finished, exported: Model, image_CHW: NDArray[np.float32]
) -> None:
    plain, moved = (exported.probabilities(x) for x in (image_CHW, 3 * image_CHW + 0.5))
    apart = float(np.abs(plain - moved).max())
    assert apart < 1e-4 if _rule(done) == "image" else apart > 1e-4


def test_the_network_for_other_programs_takes_pixels_as_in_the_files(
    exported: Model, image_CHW: NDArray[np.float32]
) -> None:
    with torch.inference_mode():
        logits_KHW = exported.native()(torch.from_numpy(image_CHW)[None])[0]
    expected = exported.probabilities(image_CHW)
    np.testing.assert_allclose(logits_KHW.softmax(dim=0).numpy(), expected, rtol=0, atol=1e-5)


def test_a_file_is_mapped_like_its_pixels(done: Finished, exported: Model, tmp_path: Path) -> None:
    scenes = scenes_of(done.study.base, "test", done.site)
    scene = done.site.data / "fake" / "test" / "images" / f"{scenes.ids[0]}.tif"
    predict_scene(exported, scene, tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as file:
        classes_HW = file.read(1)
    assert np.array_equal(classes_HW, exported.predict(scenes.image(0)))
