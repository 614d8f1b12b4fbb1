"""The metric that selects: which checkpoint is kept, and what a search compares."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cryo_hpo.config import DataSpec, ModelSpec, OptimSpec, Recipe, Site
from cryo_hpo.config.space import Float, SearchSpace
from cryo_hpo.config.study import Search
from cryo_hpo.data.dataset import IGNORE
from cryo_hpo.errors import DataError, SpecError
from cryo_hpo.evaluation.field_metrics import Metric
from cryo_hpo.results.epochs import SCORE, score_of
from cryo_hpo.training.build import dataset_of, scenes_of
from cryo_hpo.training.loop import fit
from cryo_hpo.training.validation import rules_of

from ..support.fakes import fake_folder
from ..support.scoring import score_split

CPU = torch.device("cpu")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    names = ("DATA", "STORAGE", "CACHE")
    return Site.from_env({f"CRYO_{name}": str(tmp_path / name.lower()) for name in names})


def a_recipe(site: Site, **card: Any) -> Recipe:
    torch.set_num_threads(1)
    data = fake_folder(site.data, num=(4, 2, 1), size=(32, 40)).model_copy(update=card)
    return Recipe(
        data=DataSpec(card=data, crop=32),
        model=ModelSpec(encoder="unet", decoder="unet", width=4),
        optim=OptimSpec(lr=0.02, schedule="constant"),
        batch_size=2,
        epochs=4,
    )


@pytest.mark.parametrize("kind", ["mde_px", "boundary_f1", "recall", "area_error_km2"])
def test_the_checkpoint_that_is_kept_is_the_best_by_the_metric(site: Site, kind: str) -> None:
    recipe = a_recipe(site, gsd_m=10.0)
    classes = dataset_of(recipe.data).classes
    metric = Metric.named(f"{kind}/{classes[1]}")
    place = site.storage / "t"
    epochs = list(fit(recipe, site=site, workdir=place, device=CPU, metric=metric.name))
    scores = [metric.score(epoch.val) for epoch in epochs]
    best = [max(scores[: number + 1]) for number in range(len(scores))]
    assert [epoch.metrics()[SCORE] for epoch in epochs] == best
    assert [score_of(epoch.metrics()) for epoch in epochs] == best
    assert epochs[-1].best_val_miou == epochs[scores.index(max(scores))].val.miou
    assert math.isclose(epochs[0].metrics()["val_metric"], metric.value(epochs[0].val))
    again = score_split(recipe, "val", site=site, workdir=place, device=CPU)
    assert math.isclose(metric.score(again), max(scores), rel_tol=1e-12)


def test_mean_iou_leaves_the_records_as_they_were(site: Site) -> None:
    (epoch, *_) = fit(a_recipe(site), site=site, workdir=site.storage / "t", device=CPU)
    assert SCORE not in epoch.metrics()
    assert score_of(epoch.metrics()) == epoch.best_val_miou


def test_a_metric_that_cannot_be_measured_is_refused_before_training(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = a_recipe(site)
    monkeypatch.setattr("cryo_hpo.training.scoring.pixel_sizes", lambda _, s: (None,) * len(s))
    scenes, name = scenes_of(recipe, "val", site), dataset_of(recipe.data).classes[1]
    for metric in (f"mde_m/{name}", f"area_error_km2/{name}"):
        with pytest.raises(DataError, match="needs the size of a pixel"):
            rules_of(Metric.named(metric), recipe, scenes)
    with pytest.raises(SpecError, match="no front 'snow'"):
        rules_of(Metric.named("mde_px/snow"), recipe, scenes)


def test_an_edge_that_no_mask_has_is_refused_before_training(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = a_recipe(site)
    scenes, name = scenes_of(recipe, "val", site), dataset_of(recipe.data).classes[1]
    rows = np.arange(32)[:, None] * np.ones(40)
    apart = np.select([rows < 12, rows < 20], [0, IGNORE], 1).astype(np.uint8)
    monkeypatch.setattr(type(scenes), "mask", lambda *_: apart)
    with pytest.raises(DataError, match=r"has an edge.*Pixels without a label may lie between"):
        rules_of(Metric.named(f"boundary_f1/{name}"), recipe, scenes)
    apart[apart == IGNORE] = 0
    assert rules_of(Metric.named(f"boundary_f1/{name}"), recipe, scenes) is not None


def test_a_study_refuses_an_unknown_metric() -> None:
    space = SearchSpace(params={"optim.lr": Float(low=1e-5, high=1e-1, log=True)})
    assert Search(space=space, trials=3).metric == "miou"
    assert Search(space=space, trials=3, metric="mde_m/ice|ocean").metric == "mde_m/ice|ocean"
    with pytest.raises(ValueError, match="There is no metric 'mde'"):
        Search(space=space, trials=3, metric="mde")
