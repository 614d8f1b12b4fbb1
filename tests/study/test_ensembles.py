"""The trainings of an arm are scored together once, as `predict` maps with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cryo_hpo.config import Site
from cryo_hpo.evaluation import together
from cryo_hpo.evaluation.field_metrics import compute_metrics
from cryo_hpo.evaluation.metrics import Scores
from cryo_hpo.execution.executor import TrialResources
from cryo_hpo.execution.inline import InlineExecutor
from cryo_hpo.execution.worker import score_ensemble
from cryo_hpo.prediction.ensemble import open_ensemble
from cryo_hpo.report import markdown
from cryo_hpo.report.table import Table
from cryo_hpo.report.together import ensemble_metrics
from cryo_hpo.report.verdict import verdict_text
from cryo_hpo.results.ensembles import EnsembleResult
from cryo_hpo.results.study import load_result
from cryo_hpo.search.confirm import ENDED, Arm, job
from cryo_hpo.search.jobs import Job, fields_of
from cryo_hpo.study import holdout as testsplit
from cryo_hpo.study.ensembles import open_ensembles
from cryo_hpo.study.summary import study_metrics
from cryo_hpo.training.build import dataset_of, scenes_of
from cryo_hpo.training.checkpoints import BEST, save
from cryo_hpo.training.scoring import field_rules

from ..support.finished import SEEDS, finished_study
from ..support.pool import a_study
from ..support.results import a_result

SITE, SLOTS = Site.from_env({}), TrialResources(1, 0.0, None)


def test_an_ensemble_scores_the_map_that_predict_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = finished_study(tmp_path, epochs=3)
    arm = Arm("baseline", done.study.base, SEEDS)
    jobs = [job(arm, seed, done.folder / "confirm") for seed in SEEDS]
    scored = score_ensemble(fields_of(jobs), site=done.site, cpus=1, gpus=0.0)
    ensemble = open_ensemble(done.folder, arm="baseline", site=done.site)
    scenes = scenes_of(done.study.base, "test", done.site)
    classes = load_result(done.folder).classes
    for i, name in enumerate(scenes.ids):
        map_HW = ensemble.predict(scenes.image(i))
        flat = Scores.of(scenes.mask(i), map_HW, classes=classes)
        expected = field_rules(done.study.base, scenes).measure(flat, i, scenes.mask(i), map_HW)
        assert compute_metrics(scored[name]) == compute_metrics(expected)
        assert any(key.startswith("boundary_f1/") for key in compute_metrics(scored[name]))
    monkeypatch.setattr(together, "MOST_BYTES", 1)  # one chunk of scenes at a time
    again = score_ensemble(fields_of(jobs), site=done.site, cpus=1, gpus=0.0)
    assert {name: each.to_json() for name, each in again.items()} == {
        name: each.to_json() for name, each in scored.items()
    }


def _scores(right: int) -> Scores:
    """Return scores of which so many pixels of 100 of each class are right."""
    classes = dataset_of(a_study().base.data).classes
    return Scores(classes, np.array([[right, 100 - right], [100 - right, right]]))


class FakeExecutor(InlineExecutor):
    """Return a good map for every ensemble, and remember which were requested."""

    def __init__(self) -> None:
        super().__init__()
        self.requested: list[list[str]] = []

    def score_ensembles(
        self, ensembles: Sequence[Sequence[Job]], **_: Any
    ) -> list[dict[str, Scores]]:
        self.requested += [[member.key for member in members] for members in ensembles]
        return [{"a": _scores(90)} for _ in ensembles]


@pytest.fixture(name="arms")
def _arms(tmp_path: Path) -> list[Arm]:
    """Return arms of three finished trainings; one of the tuned ones diverged."""
    study = a_study(seeds=(1, 2, 3))
    arms = [Arm(name, study.base, (1, 2, 3)) for name in ("baseline", "paper", "tuned")]
    found = {}
    for arm in arms:
        for seed in arm.seeds:
            folder = tmp_path / "confirm" / arm.training(seed)
            save(folder / BEST, {"recipe": arm.recipe.id, "weights": torch.zeros(1)})
            diverged = (arm.name, seed) == ("tuned", 2)
            (folder / ENDED).write_text("diverged" if diverged else "complete")
            found[arm.training(seed)] = {"a": _scores(60)}
    testsplit.keep_scores(found, tmp_path, study.base)
    return arms


def _open(arms: list[Arm], path: Path, executor: FakeExecutor) -> tuple[EnsembleResult, ...]:
    return open_ensembles(arms, site=SITE, path=path, slots=SLOTS, executor=executor)


def test_each_arm_is_scored_together_once_without_diverged_trainings(
    tmp_path: Path, arms: list[Arm]
) -> None:
    executor = FakeExecutor()
    baseline, tuned = _open(arms, tmp_path, executor)
    assert executor.requested == [
        ["baseline-seed1", "baseline-seed2", "baseline-seed3"],
        ["tuned-seed1", "tuned-seed3"],
    ]
    assert (baseline.name, baseline.seeds) == ("baseline ensemble", (1, 2, 3))
    assert (tuned.name, tuned.seeds) == ("tuned ensemble", (1, 3))
    assert tuned.test_miou == pytest.approx(90 / 110)
    assert tuned.gain == pytest.approx(90 / 110 - 60 / 140)
    later = FakeExecutor()
    assert _open(arms, tmp_path, later) == (baseline, tuned)
    assert later.requested == [], "the test split is opened once for an ensemble"


def test_one_training_is_no_ensemble_and_a_lost_model_costs_only_it(
    tmp_path: Path, arms: list[Arm]
) -> None:
    (tmp_path / "confirm" / "baseline-seed1" / BEST).unlink()
    single = [arms[0], Arm("tuned", arms[2].recipe, (1, 2))]
    executor = FakeExecutor()
    assert _open(single, tmp_path, executor) == ()
    assert executor.requested == []


def test_report_and_mlflow_show_the_third_arm() -> None:
    tuned = EnsembleResult(
        arm="tuned",
        seeds=(1, 2, 3, 4),
        test_miou=0.8299,
        test_iou={"rock": 0.9, "ice": 0.84, "lake": None},
        mean_member_miou=0.8124,
    )
    fixed = tuned.model_copy(
        update={"arm": "baseline", "test_miou": 0.71, "mean_member_miou": 0.7014}
    )
    result = a_result(ensembles=(fixed, tuned))
    assert "tuned ensemble" in markdown(result)
    said = verdict_text(result)
    assert "the 4 trainings of 'tuned' score 82.99 (+1.75 points over one of them)" in said
    assert "those of the baseline 71.00 (+0.86)" in said
    metrics = study_metrics(result)
    assert metrics["tuned_ensemble.test_miou"] == 0.8299
    assert metrics["tuned_ensemble.gain_points"] == pytest.approx(1.75)
    assert "ensemble" not in verdict_text(a_result())


def test_every_metric_of_an_ensemble_stands_beside_that_of_its_members() -> None:
    result = a_result()
    tuned = result.arm("tuned")
    values = ({"mde_m/ice": 120.0, "f1": 0.8}, {"mde_m/ice": 80.0, "f1": 0.7}, {"f1": 0.9})
    seeds = tuple(
        seed.model_copy(update={"test_metrics": each})
        for seed, each in zip(tuned.seeds, values, strict=False)
    )
    arms = [arm for arm in result.arms if arm.name != "tuned"]
    one = EnsembleResult(
        arm="tuned",
        seeds=tuple(seed.seed for seed in seeds),
        test_miou=0.83,
        test_iou={},
        test_metrics={"mde_m/ice": 61.5, "f1": 0.85, "iou/ice": 0.8},
        mean_member_miou=0.81,
    )
    changed = {"arms": (*arms, tuned.model_copy(update={"seeds": seeds})), "ensembles": (one,)}
    result = result.model_copy(update=changed)
    _, table = ensemble_metrics(result)
    assert isinstance(table, Table)
    assert table.rows == (
        ("mean distance error of ice (m)", "100.00", "61.50"),
        ("mean F1 (%)", "80.00", "85.00"),
    )
    assert "tuned, one training" in markdown(result)
    metrics = study_metrics(result)
    assert metrics["tuned_ensemble.test_mde_m/ice"] == 61.5
    assert metrics["tuned_ensemble.test_f1"] == 0.85
    assert "tuned_ensemble.test_iou/ice" not in metrics, "its members have no such value"
