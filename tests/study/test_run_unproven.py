"""Whole studies that end without a full proof, in one process."""

from __future__ import annotations

import json

import pytest

from cryo_hpo.config import Site
from cryo_hpo.prediction.model import open_model
from cryo_hpo.results.study import load_result
from cryo_hpo.study.status import read_status

from ..support.recorded import recorded_epochs
from ..support.sandbox import EPOCHS

pytestmark = pytest.mark.slow


def test_a_quick_proof_trains_only_what_the_search_has_not(sandbox):
    study = sandbox.study("quick", proof="quick")
    output = sandbox.run(study, "unproven")
    folder = sandbox.root / "unproven" / study.name
    result = load_result(folder)
    assert "Unproven" in output
    assert "Improved" not in output
    assert json.loads((folder / "result.json").read_text())["verdict"] == "unproven"
    assert read_status(folder).verdict == "unproven"
    assert result.improvement is None
    for arm, number in zip(result.arms, (0, result.winner), strict=False):
        (seed,) = arm.seeds
        trial = result.trials[number or 0]
        assert (seed.seed, seed.epochs) == (study.base.seed, EPOCHS)
        assert seed.reused is not None
        assert (seed.reused.training, seed.reused.epochs) == (f"trial-{number:04d}", trial.epochs)
        # what was trained further is what one training would have been
        assert seed.val_miou >= (trial.best_val_miou or 0)
    assert result.costs.epochs_confirm == EPOCHS - result.trials[0].epochs
    scored = json.loads((folder / "test-scores.json").read_text())
    assert set(scored) == {f"{arm.name}-seed0" for arm in result.arms}
    assert len(recorded_epochs(folder)) == len(set(recorded_epochs(folder)))


def test_without_a_proof_the_test_split_stays_closed(sandbox):
    study = sandbox.study("searched", proof="none")
    output = sandbox.run(study, "unproven")
    folder = sandbox.root / "unproven" / study.name
    result = load_result(folder)
    assert "nothing was scored on the test split (proof: none)" in output
    assert (result.arms, result.improvement, result.verdict) == ((), None, "unproven")
    assert not (folder / "test-scores.json").exists()
    assert result.costs.epochs_confirm == 0
    places = sandbox.places("unproven")
    assert open_model(folder, site=Site.from_env(places)).card.trial == result.winner
