"""Whole studies on a real local Ray, on a dataset of sixteen small scenes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from cryo_hpo import stats
from cryo_hpo.config import Study, dump_study
from cryo_hpo.results.study import Result, load_result

from ..support.clusters import workers
from ..support.fakes import fake_folder

pytestmark = pytest.mark.ray
EPOCHS, TRIALS, SEEDS = 4, 5, (1, 2)
LR = {"kind": "float", "low": 1e-3, "high": 1e-1, "log": True}
RULES = {
    "promote": {"kind": "asha", "rule": "promote", "grace_epochs": 1, "reduction": 2},
    "stop": {"kind": "asha", "rule": "stop", "grace_epochs": 1, "reduction": 2},
    "none": {"kind": "none"},
}


class Place:
    """A data root with one dataset, and as many storages as there are tests."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.begun: list[subprocess.Popen[str]] = []
        self.card = fake_folder(root / "data", num=(12, 2, 2), size=(32, 32))

    def study(self, name: str, *, rule: str = "promote", **changes: Any) -> Study:
        fields = {
            "name": name,
            "base": {
                "data": {"card": self.card.model_dump(mode="json"), "crop": 32},
                "model": {"encoder": "unet", "decoder": "unet", "width": 4},
                "optim": {"lr": 3e-3, "schedule": "constant"},
                "batch_size": 2,
                "epochs": EPOCHS,
            },
            "search": {
                "space": {"params": {"optim.lr": LR}},
                "trials": TRIALS,
                "scheduler": RULES[rule],
                "parallel": 1,
            },
            "seeds": SEEDS,
        }
        return Study.model_validate_json(json.dumps({**fields, **changes}))

    def env(self, storage: str) -> dict[str, str]:
        places = {
            "CRYO_DATA": self.root / "data",
            "CRYO_CACHE": self.root / "cache",
            "CRYO_STORAGE": self.root / storage,
        }
        return {**os.environ, **{k: str(v) for k, v in places.items()}, "OMP_NUM_THREADS": "1"}

    def begin(self, study: Study, storage: str, *command: str) -> subprocess.Popen[str]:
        """Start the command line on a study, in a process group of its own."""
        spec = self.root / f"{storage}-{study.name}.yaml"
        spec.write_text(dump_study(study))
        process = subprocess.Popen(
            [sys.executable, "-m", "cryo_hpo", *(command or ("run", str(spec)))],
            cwd=self.root,
            env=self.env(storage),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.begun.append(process)
        return process

    def run(self, study: Study, storage: str, *command: str, code: int = 0) -> str:
        """Run the command line to its end; returns what it said."""
        process = self.begin(study, storage, *command)
        said, _ = process.communicate(timeout=500)
        assert process.returncode == code, said
        return said


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("place"))
    yield place
    for process in place.begun:
        if process.poll() is None:  # of a test that failed half-way
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def finished(place) -> Callable[[str], Path]:
    """Rule -> the folder of a study that ran to its end without trouble; each runs once."""
    folders: dict[str, Path] = {}

    def of(rule: str) -> Path:
        if rule not in folders:
            study = place.study(f"whole-{rule}", rule=rule)
            place.run(study, "whole")
            folders[rule] = place.root / "whole" / study.name
        return folders[rule]

    return of


def _epochs(folder: Path) -> list[tuple[str, int]]:
    file = folder / "epochs.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(line["key"], line["epoch"]) for line in map(json.loads, lines)]


def _began(folder: Path, key: str) -> bool:
    return key in [k for k, _ in _epochs(folder)]


def _wait(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    """Wait until a running study has come to a point."""
    until = time.monotonic() + 300
    while not ready():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until, "the study did not get there"
        time.sleep(0.02)


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill the driver alone; the Ray processes it started notice by themselves."""
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def _trace(result: Result) -> list[tuple[Any, ...]]:
    return [(t.number, t.params, t.state, t.curve) for t in result.trials]


def _scores(result: Result) -> list[tuple[str, list[float]]]:
    return [(arm.name, [s.test_miou for s in arm.seeds]) for arm in result.arms]


@pytest.mark.parametrize("rule", RULES)
def test_a_study_runs_to_its_verdict(finished, rule):
    folder = finished(rule)
    result = load_result(folder)
    assert [t.number for t in result.trials] == list(range(TRIALS))
    baseline = result.trials[0]
    assert (baseline.state == "complete") == (baseline.epochs == EPOCHS)
    assert baseline.state == "complete" or rule == "promote"  # there it waits like any other
    if rule == "none":
        assert {t.epochs for t in result.trials if t.state != "diverged"} == {EPOCHS}
    winner = result.trials[result.winner or 0]
    assert winner.state == "complete"
    assert winner.best_val_miou == max(
        t.best_val_miou or 0 for t in result.trials if t.state == "complete"
    )
    fixed, tuned = result.arm("baseline"), result.arms[-1]
    assert tuned.name == ("baseline" if result.winner_is_baseline else "tuned")
    for arm in result.arms:
        assert [s.seed for s in arm.seeds] == list(SEEDS)
        assert not any(s.diverged for s in arm.seeds)
    found = stats.relative_improvement(
        [s.test_miou for s in tuned.seeds], [s.test_miou for s in fixed.seeds]
    )
    assert result.improvement is not None
    assert result.improvement.relative_pct == pytest.approx(found.relative_pct.mid)
    assert (result.improvement.verdict, result.improvement.p_value) == (
        found.verdict,
        found.p_value,
    )
    epochs = _epochs(folder)
    assert len(epochs) == len(set(epochs))
    assert result.costs.epochs_search == sum(t.epochs for t in result.trials)
    assert result.costs.epochs_search + result.costs.epochs_confirm == len(epochs)
    assert result.costs.epochs_confirm == len(result.arms) * len(SEEDS) * EPOCHS


@pytest.mark.parametrize("rule", RULES)
def test_mlflow_has_one_run_per_training_below_the_study(finished, rule, tmp_path):
    folder = finished(rule)
    result = load_result(folder)
    assert result.mlflow_pending == 0
    client = MlflowClient(f"sqlite:///{folder.parent / 'mlflow.db'}")
    parent = client.get_run(result.mlflow_run_id or "")
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    by_key = {run.data.tags["cryo.key"].removeprefix(f"{result.study}/"): run for run in children}
    seeds = {f"{arm.name}-seed{s}" for arm in result.arms for s in SEEDS}
    assert set(by_key) == {f"trial-{n:04d}" for n in range(TRIALS)} | seeds
    assert len(children) == len(by_key)
    assert parent.info.status == "FINISHED"
    for trial in result.trials:
        run = by_key[f"trial-{trial.number:04d}"]
        assert run.info.status == ("FAILED" if trial.state == "diverged" else "FINISHED")
        assert run.data.tags["cryo.state"] == trial.state
        assert float(run.data.params["optim.lr"]) == trial.lr
        points = client.get_metric_history(run.info.run_id, "best_val_miou")
        assert {p.step: p.value for p in points} == pytest.approx(trial.curve)
        assert len(points) == len(trial.curve)
    improvement = result.improvement
    assert improvement is not None
    wanted = {
        "baseline.test_miou": result.arm("baseline").mean_test_miou,
        "tuned.test_miou": improvement.tuned,
        "relative_improvement_pct": improvement.relative_pct,
        "epochs_spent": result.costs.epochs_search + result.costs.epochs_confirm,
        "epochs_full_grid": TRIALS * EPOCHS,
    }
    assert {k: parent.data.metrics[k] for k in wanted} == pytest.approx(wanted)
    names = {a.path for a in client.list_artifacts(parent.info.run_id)}
    assert names >= {"study.yaml", "environment.json", "data.json", "result.json", "report"}


def test_the_test_split_is_opened_once_and_last(place, finished):
    folder = finished("promote")
    scored = (folder / "test-scores.json").stat().st_mtime_ns
    assert scored >= (folder / "epochs.jsonl").stat().st_mtime_ns
    keys = [key for key, _ in _epochs(folder)]
    first = next(i for i, key in enumerate(keys) if "-seed" in key)
    assert all("-seed" in key for key in keys[first:]), "the search is over before the comparison"
    before, epochs = (folder / "result.json").read_text(), _epochs(folder)
    said = place.run(place.study("whole-promote"), "whole")
    assert "has finished" in said
    assert (folder / "result.json").read_text() == before
    assert (folder / "test-scores.json").stat().st_mtime_ns == scored
    assert _epochs(folder) == epochs


@pytest.mark.parametrize(
    ("rule", "points"), [("promote", ["trial-0002", "baseline-seed2"]), ("stop", ["trial-0003"])]
)
def test_a_killed_driver_goes_on_to_the_same_result(place, finished, rule, points):
    study, storage = place.study(f"whole-{rule}", rule=rule), f"killed-{rule}"
    folder = place.root / storage / study.name
    for point in points:
        process = place.begin(study, storage)
        _wait(process, partial(_began, folder, point))
        _kill(process)
        assert not (folder / "result.json").exists()
    said = place.run(study, storage, "resume", study.name)
    epochs = _epochs(folder)
    assert len(epochs) == len(set(epochs)), "no epoch is recorded twice"
    result, whole = load_result(folder), load_result(finished(rule))
    assert _trace(result) == _trace(whole)
    assert _scores(result) == _scores(whole)
    assert result.costs.epochs_search == whole.costs.epochs_search
    assert result.costs.epochs_confirm == whole.costs.epochs_confirm
    assert "Traceback" not in said


def test_a_second_driver_is_refused_and_a_lost_worker_is_replaced(place, finished):
    study, storage = place.study("whole-promote"), "worker"
    folder = place.root / storage / study.name
    process = place.begin(study, storage)
    _wait(process, lambda: len(_epochs(folder)) >= 2)
    (worker,) = workers(process.pid)
    os.kill(worker, signal.SIGKILL)
    said = place.run(study, storage, code=1)
    assert f"process {process.pid} on {os.uname().nodename}" in said
    said, _ = process.communicate(timeout=500)
    assert process.returncode == 0, said
    epochs = _epochs(folder)
    assert len(epochs) == len(set(epochs))
    assert _trace(load_result(folder)) == _trace(load_result(finished("promote")))
    assert _scores(load_result(folder)) == _scores(load_result(finished("promote")))


def test_the_baseline_may_win_and_that_is_said(place):
    bad = {"kind": "float", "low": 1e-9, "high": 1e-8, "log": True}
    search = {
        "space": {"params": {"optim.lr": bad}},
        "trials": 3,
        "parallel": 1,
        "scheduler": RULES["promote"],
    }
    study = place.study("base-wins", search=search, seeds=(1,))
    said = place.run(study, "bad")
    result = load_result(place.root / "bad" / study.name)
    assert (result.winner, result.winner_is_baseline) == (0, True)
    assert [arm.name for arm in result.arms] == ["baseline"]
    assert result.improvement is not None
    assert (result.improvement.relative_pct, result.improvement.verdict) == (0.0, "not shown")
    assert "baseline" in said.casefold()


def test_a_study_without_a_search_trains_its_base_and_a_diverged_arm_scores_0(place):
    study = place.study("plain", search=None, seeds=(3,), baselines={"huge": {"optim.lr": 1e30}})
    place.run(study, "plain")
    result = load_result(place.root / "plain" / study.name)
    assert (result.winner, result.trials, result.improvement) == (None, (), None)
    assert [arm.name for arm in result.arms] == ["baseline", "huge"]
    (base,), (huge,) = (arm.seeds for arm in result.arms)
    assert (base.epochs, base.diverged) == (EPOCHS, False)
    assert huge.diverged
    assert huge.epochs < EPOCHS
    assert huge.test_miou == 0.0 or huge.epochs > 0
    assert result.costs.epochs_full_grid == 0
