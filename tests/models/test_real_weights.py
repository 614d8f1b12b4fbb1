"""Published weights fine-tuned on real scenes: the loss falls, and the maps beat the plainest one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cryo_hpo.config import Site, load_study
from cryo_hpo.data.cache import Scenes
from cryo_hpo.study.preflight import check
from cryo_hpo.training.build import scenes_of, segmenter
from cryo_hpo.training.loop import fit

STUDIES = Path(__file__).parents[2] / "search_spaces" / "studies"
SMALL = {"data.crop": 64, "model.channels": 32, "optim.lr": 1e-3, "epochs": 3}


def _of_the_majority(scenes: Scenes) -> float:
    """Mean IoU of the map that holds the most frequent class everywhere."""
    counts = scenes.class_counts
    return max(counts) / sum(counts) / len(counts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "study",
    [
        pytest.param("rock-glaciers", id="EfficientNet-Lite0 on rock glaciers"),
        pytest.param("calving-fronts", id="Galileo-nano on calving fronts"),
    ],
)
def test_published_weights_learn_real_scenes(study: str, shared: Path, tmp_path: Path) -> None:
    site = Site.from_env(
        {
            "CRYO_DATA": str(shared / "data"),
            "CRYO_WEIGHTS": str(shared / "weights"),
            "CRYO_CACHE": str(tmp_path / "cache"),
            "CRYO_STORAGE": str(tmp_path / "runs"),
        }
    )
    shipped = load_study(STUDIES / f"{study}.yaml")
    check(shipped, site=site)
    recipe = shipped.base.replace(SMALL)
    epochs = list(fit(recipe, site=site, workdir=tmp_path / "fit", device=torch.device("cpu")))
    losses = [epoch.train_loss for epoch in epochs]
    assert losses == sorted(losses, reverse=True)
    plainest = _of_the_majority(scenes_of(recipe, "val", site))
    assert epochs[-1].best_val_miou > plainest + 0.05
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loaded = segmenter(recipe, site=site, weights=recipe.model.weights)
        scratch = segmenter(recipe, site=site, weights="scratch")
    pairs = zip(loaded.encoder.parameters(), scratch.encoder.parameters(), strict=True)  # type: ignore[attr-defined]
    assert not any(torch.equal(mine, other) for mine, other in pairs if mine.ndim > 1)
