"""Faults injected for real into whole studies. Killed on Ray: execution/test_ray_studies.py.

After each fault nothing is lost and nothing counted twice; where one trial runs at a time, the
study is the one that would have been without it.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from cryo_hpo.results.study import load_result

from ..support.clusters import BIN, answers, environment, free_ports, runs, started, until
from ..support.disks import fill, small_disk
from ..support.outcomes import check_same_outcome
from ..support.postgres import server
from ..support.recorded import has_begun, recorded_epochs
from ..support.sandbox import EPOCHS, finish, kill, wait_for

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("damaged", ["last.pt", "all"])
def test_a_damaged_checkpoint_costs_epochs_and_changes_nothing(sandbox, finished, damaged):
    """The baseline's, which was training, and another's, which waits at a rung."""
    study, storage = sandbox.study("whole-promote"), f"damaged-{damaged}"
    folder = sandbox.root / storage / study.name
    process = sandbox.start(study, storage)
    wait_for(process, lambda: len(recorded_epochs(folder)) >= EPOCHS + 2)
    kill(process)
    files = sorted((folder / "trials").glob("*/*.pt"))
    hit = [path for path in files if damaged == "all" or path.name == damaged]
    assert {path.name for path in files} == {"last.pt", "before.pt", "best.pt"}
    for number, path in enumerate(hit):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if number % 2 else b"garbage" * 100)
    sandbox.run(study, storage)
    check_same_outcome(folder, finished("promote"))


def test_a_full_disk_stops_the_study_and_loses_nothing(sandbox, finished):
    study, storage = sandbox.study("whole-promote"), "full"
    with small_disk(sandbox.root / storage):
        folder = sandbox.root / storage / study.name
        process = sandbox.start(study, storage)
        wait_for(process, partial(has_begun, folder, "trial-0001"))
        fill(sandbox.root / storage / "filler")
        output = finish(process, code=1)
        assert "Traceback" not in output, output
        assert "ree space" in output, output
        (sandbox.root / storage / "filler").unlink()
        sandbox.run(study, storage)
        check_same_outcome(folder, finished("promote"))


def test_a_killed_study_continues_from_a_database(sandbox, finished, monkeypatch):
    """The same study, and the same trace, as from the journal file."""
    study, storage = sandbox.study("whole-promote"), "database"
    folder = sandbox.root / storage / study.name
    with server() as postgres, monkeypatch.context() as here:
        here.setenv("CRYO_OPTUNA_STORAGE", postgres.url)
        process = sandbox.start(study, storage)
        wait_for(process, partial(has_begun, folder, "trial-0002"))
        kill(process)
        output = sandbox.run(study, storage)
        assert postgres.password not in output
    assert not (folder / "journal.log").exists()
    for path in folder.rglob("*"):
        if path.is_file():
            assert postgres.password.encode() not in path.read_bytes(), path
    check_same_outcome(folder, finished("promote"))


@contextlib.contextmanager
def _mlflow(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    words = (
        *(BIN / "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", folder / "mlartifacts"),
    )
    with started(*words, env=environment(), log=folder / "mlflow.log") as server:
        until(lambda: answers(f"http://127.0.0.1:{port}/health") == 200, timeout_s=300)
        yield server


def test_mlflow_may_go_away_for_a_while(sandbox, tmp_path, monkeypatch):
    (port,) = free_ports(1)
    uri = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    base = sandbox.study("x").base.replace({"epochs": 5 * EPOCHS}).model_dump(mode="json")
    study, storage = sandbox.study("away", project="jobs", base=base), "away"
    folder = sandbox.root / storage / study.name
    with _mlflow(tmp_path, port) as server:
        process = sandbox.start(study, storage)
        wait_for(process, partial(has_begun, folder, "trial-0001"))
        server.kill()
        recorded = len(recorded_epochs(folder))
        wait_for(process, lambda: len(recorded_epochs(folder)) >= recorded + 4)  # none waits for it
    assert answers(f"{uri}/health") == 0
    with _mlflow(tmp_path, port):
        finish(process)
        if load_result(folder).mlflow_pending:  # the study ended before the server was asked again
            sandbox.run(study, storage, "upload")
        found = runs(uri, study.name)
        points = {
            (key, point.step)
            for key, run in found.items()
            if key
            for point in MlflowClient(uri).get_metric_history(run.info.run_id, "best_val_miou")
        }
    assert points == set(recorded_epochs(folder))
    assert len(recorded_epochs(folder)) == len(points)
    assert {run.info.status for run in found.values()} <= {"FINISHED", "FAILED"}
    assert found[""].info.status == "FINISHED"
