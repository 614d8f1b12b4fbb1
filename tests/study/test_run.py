"""Whole studies in one process, on a dataset of sixteen small scenes. On Ray: test_ray_studies.py."""

from __future__ import annotations

import pytest
from mlflow.tracking import MlflowClient

from cryo_hpo import stats
from cryo_hpo.results.study import load_result

from ..support.recorded import last_epoch_s, recorded_epochs
from ..support.sandbox import EPOCHS, LR, RULES, SEEDS, TRIALS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("rule", RULES)
def test_a_study_runs_to_its_verdict(finished, rule):
    folder = finished(rule)
    result = load_result(folder)
    assert [t.number for t in result.trials] == list(range(TRIALS))
    baseline = result.trials[0]
    assert (baseline.state == "complete") == (baseline.epochs == EPOCHS)
    assert (
        baseline.state == "complete" or rule == "promote"
    )  # there it pauses at a rung like any other
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
    assert result.improvement.relative_pct.mid == pytest.approx(found.relative_pct.mid)
    assert (result.improvement.verdict, result.improvement.p_value) == (
        found.verdict,
        found.p_value,
    )
    epochs = recorded_epochs(folder)
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
        "relative_improvement_pct": improvement.relative_pct.mid,
        "epochs_spent": result.costs.epochs_search + result.costs.epochs_confirm,
        "epochs_full_grid": TRIALS * EPOCHS,
    }
    assert {k: parent.data.metrics[k] for k in wanted} == pytest.approx(wanted)
    names = {a.path for a in client.list_artifacts(parent.info.run_id)}
    assert names >= {"study.yaml", "environment.json", "data.json", "result.json", "report"}


def test_the_test_split_is_opened_once_and_last(sandbox, finished):
    folder = finished("promote")
    scored = (folder / "test-scores.json").stat().st_mtime_ns
    assert scored / 1e9 >= last_epoch_s(folder)
    keys = [key for key, _ in recorded_epochs(folder)]
    first = next(i for i, key in enumerate(keys) if "-seed" in key)
    assert all("-seed" in key for key in keys[first:]), "the search is over before the comparison"
    before, epochs = (folder / "result.json").read_text(), recorded_epochs(folder)
    output = sandbox.run(sandbox.study("whole-promote"), "whole")
    assert "has finished" in output
    assert (folder / "result.json").read_text() == before
    assert (folder / "test-scores.json").stat().st_mtime_ns == scored
    assert recorded_epochs(folder) == epochs


def test_the_baseline_may_win_and_that_is_said(sandbox):
    bad = {"kind": "float", "low": 1e-9, "high": 1e-8, "log": True}
    search = {
        "space": {"params": {"optim.lr": bad}},
        "trials": 3,
        "parallel": 1,
        "scheduler": RULES["promote"],
    }
    study = sandbox.study("base-wins", search=search, seeds=(1,))
    output = sandbox.run(study, "bad")
    result = load_result(sandbox.root / "bad" / study.name)
    assert (result.winner, result.winner_is_baseline) == (0, True)
    assert [arm.name for arm in result.arms] == ["baseline"]
    assert result.improvement is not None
    assert (result.improvement.relative_pct.mid, result.improvement.verdict) == (0.0, "not shown")
    assert "baseline" in output.casefold()


def test_a_study_without_a_search_trains_its_base_and_a_diverged_arm_scores_0(sandbox):
    study = sandbox.study("plain", search=None, seeds=(3,), baselines={"huge": {"optim.lr": 1e3}})
    sandbox.run(study, "plain")
    result = load_result(sandbox.root / "plain" / study.name)
    assert (result.winner, result.trials, result.improvement) == (None, (), None)
    assert [arm.name for arm in result.arms] == ["baseline", "huge"]
    (base,), (huge,) = (arm.seeds for arm in result.arms)
    assert (base.epochs, base.diverged) == (EPOCHS, False)
    assert huge.diverged
    assert huge.epochs < EPOCHS
    assert huge.test_miou == 0.0 or huge.epochs > 0
    assert result.costs.epochs_full_grid == 0


def test_a_budget_is_spent_and_a_comparison_stops_when_it_is_decided(sandbox):
    search = {
        "space": {"params": {"optim.lr": LR}},
        "budget": 2,
        "parallel": 1,
        "scheduler": RULES["promote"],
    }
    study = sandbox.study("decided", search=search, seeds={"at_most": 16})
    hopeless = study.model_copy(update={"base": study.base.replace({"optim.lr": 1e-9})})
    output = sandbox.run(hopeless, "decided")
    folder = sandbox.root / "decided" / study.name
    result = load_result(folder)
    assert result.costs.epochs_search <= 2 * EPOCHS
    assert result.trials[result.winner or 0].epochs == EPOCHS
    assert result.improvement is not None
    assert (result.improvement.verdict, result.improvement.num_pairs) == ("improved", 6)
    assert result.improvement.stopped == stats.Stopping(16, "improved")
    assert [len(arm.seeds) for arm in result.arms] == [6, 6]
    assert result.costs.epochs_confirm == 2 * 6 * EPOCHS
    assert "Comparison after 4 of at most 16 repeats: undecided." in output
    (line,) = [line for line in output.splitlines() if line.startswith("The search is over: ")]
    assert line.endswith("use its model until the final comparison is over."), "one line, unwrapped"
    assert "10 repeats spared" in (folder / "report" / "report.md").read_text()
