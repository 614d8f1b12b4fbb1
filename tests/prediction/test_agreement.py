"""Where trainings that map together disagree strongly, they are named."""

# H W pixels, K classes, M members

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from cryo_hpo.prediction.agreement import Agreement, disagreement
from cryo_hpo.prediction.ensemble import Ensemble, open_ensemble
from cryo_hpo.prediction.scene import predict_scene

from ..support.fakes import fake_scene, write
from ..support.finished import finished_study


def _far(*maps: list[int], absent: int = 0) -> dict[int, float]:
    """Return who is far from the first map, each a row of 100 pixels with that many of a class."""
    rows_MHW = np.array([np.repeat(np.arange(len(counts)), counts)[None] for counts in maps])
    probs_MKHW = np.eye(3, dtype=np.float32)[rows_MHW].transpose(0, 3, 1, 2)
    absent_HW = np.arange(100)[None] < absent
    agreement = Agreement(len(maps), 3)
    agreement.add(rows_MHW[0].astype(np.uint8), probs_MKHW, absent_HW)
    return agreement.far()


@pytest.mark.parametrize(
    ("maps", "far"),
    [
        (([90, 10], [90, 10]), []),
        (([90, 10], [92, 8]), []),
        (([90, 10], [100]), [1]),
        (([90, 10], [0, 100]), [1]),
        (([100], [99, 1]), []),
        (([100], [60, 40]), [1]),
        (([90, 10], [88, 12], [0, 0, 100]), [2]),
    ],
    ids=["equal", "near", "all ground", "all ice", "a speck", "much ice", "a third class"],
)
def test_far_is_who_has_less_than_half_in_common(
    maps: tuple[list[int], ...], far: list[int]
) -> None:
    assert list(_far(*maps)) == far


def test_pixels_without_data_do_not_count() -> None:
    assert _far([90, 10], [100], absent=100) == {}


def test_the_sentence_names_who_is_far_and_what_to_do() -> None:
    said = disagreement("a.tif", (3, 5), {1: 0.474})
    assert "these have a mIoU below 50 with the map of all" in said
    assert "seed 5 (47)" in said
    assert "--members best" in said
    assert disagreement("a.tif", (3, 5), {}) == ""


def test_a_collapsed_training_is_named_when_a_scene_is_mapped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = finished_study(tmp_path / "done", epochs=4)
    whole = open_ensemble(done.folder, site=done.site)
    image_CHW = fake_scene(np.random.default_rng(5), size=(50, 61), bands=3, dtype="uint8")[0]
    write(tmp_path / "scene.tif", image_CHW, georeferenced=True)
    good, other = whole.members
    with torch.no_grad():  # one class everywhere, with little confidence
        last = [p for p in other.segmenter.parameters() if p.shape[:1] == (len(good.card.classes),)]
        last[-2].zero_()
        last[-1].copy_(torch.tensor([0.1] + [0.0] * (len(good.card.classes) - 1)))
    ensemble = Ensemble((good, good, good, other))
    with caplog.at_level(logging.WARNING):
        predict_scene(ensemble, tmp_path / "scene.tif", tmp_path / "m.tif")
    with rasterio.open(tmp_path / "m.tif") as file:
        assert len(np.unique(file.read())) > 1, "the others still see two classes"
    assert f"seed {other.card.seed} (" in caplog.text
    assert f"seed {good.card.seed} (" not in caplog.text
