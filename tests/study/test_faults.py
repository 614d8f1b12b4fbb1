"""Faults injected for real into whole studies. A killed driver and a killed worker: test_study.py.

After each fault nothing is lost and nothing counted twice; where one trial runs at a time, the
study is the one that would have been without it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from cryo_hpo.results.study import load_result

from ..support.clusters import BIN, answers, environment, free_ports, runs, started, until
from ..support.postgres import server
from . import test_run as test_study
from .test_run import EPOCHS, Place

pytestmark = pytest.mark.ray
place, finished = test_study.place, test_study.finished
_began, _epochs, _kill, _wait = (
    test_study._began,
    test_study._epochs,
    test_study._kill,
    test_study._wait,
)


def _check_the_same(folder: Path, whole: Path) -> None:
    epochs = _epochs(folder)
    assert len(epochs) == len(set(epochs)), "no epoch is recorded twice"
    found, wanted = load_result(folder), load_result(whole)
    assert test_study._trace(found) == test_study._trace(wanted)
    assert test_study._scores(found) == test_study._scores(wanted)
    assert found.costs.epochs_search == wanted.costs.epochs_search
    assert found.costs.epochs_confirm == wanted.costs.epochs_confirm


@pytest.mark.parametrize("damaged", ["last.pt", "both"])
def test_a_damaged_checkpoint_costs_epochs_and_changes_nothing(place, finished, damaged):
    """The baseline's, which was training, and another's, which waits at a rung."""
    study, storage = place.study("whole-promote"), f"damaged-{damaged}"
    folder = place.root / storage / study.name
    process = place.begin(study, storage)
    _wait(process, lambda: len(_epochs(folder)) >= EPOCHS + 2)
    _kill(process)
    files = sorted((folder / "trials").glob("*/*.pt"))
    hit = [path for path in files if damaged == "both" or path.name == damaged]
    assert {path.name for path in files} == {"last.pt", "before.pt"}
    for number, path in enumerate(hit):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if number % 2 else b"garbage" * 100)
    place.run(study, storage)
    _check_the_same(folder, finished("promote"))


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    """A disk of its own at a folder."""
    if os.getuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True
    )
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(path: Path) -> None:
    """Write until the disk takes no more."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**16))
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        while True:
            file.write(b"0")


def test_a_full_disk_stops_the_study_and_loses_nothing(place, finished):
    study, storage = place.study("whole-promote"), "full"
    with _small_disk(place.root / storage):
        folder = place.root / storage / study.name
        process = place.begin(study, storage)
        _wait(process, partial(_began, folder, "trial-0001"))
        _fill(place.root / storage / "filler")
        said, _ = process.communicate(timeout=500)
        assert process.returncode == 1, said
        assert "Traceback" not in said, said
        assert "ree space" in said, said
        (place.root / storage / "filler").unlink()
        place.run(study, storage)
        _check_the_same(folder, finished("promote"))


def test_a_killed_driver_goes_on_from_a_database(place, finished, monkeypatch):
    """The same study, and the same trace, as from the journal file."""
    study, storage = place.study("whole-promote"), "database"
    folder = place.root / storage / study.name
    with server() as postgres, monkeypatch.context() as here:
        here.setenv("CRYO_OPTUNA_STORAGE", postgres.url)
        process = place.begin(study, storage)
        _wait(process, partial(_began, folder, "trial-0002"))
        _kill(process)
        said = place.run(study, storage)
        assert postgres.password not in said
    assert not (folder / "journal.log").exists()
    for path in folder.rglob("*"):
        if path.is_file():
            assert postgres.password.encode() not in path.read_bytes(), path
    _check_the_same(folder, finished("promote"))


def test_somebody_elses_cluster_on_this_machine_is_left_alone(place, monkeypatch):
    """Ray notes the address of a cluster that was started here, and would join it."""
    scratch = Path(tempfile.mkdtemp(prefix="r-", dir="/tmp"))  # sockets take short paths only
    (scratch / "ray").mkdir()
    (scratch / "ray" / "ray_current_cluster").write_text("127.0.0.1:9")
    monkeypatch.setenv("RAY_TMPDIR", str(scratch))
    base = place.study("x").base.model_dump(mode="json")
    study = place.study("alone", search=None, seeds=(1,), base={**base, "epochs": 1})
    try:
        place.run(study, "beside")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    assert load_result(place.root / "beside" / "alone").arms


@contextlib.contextmanager
def _mlflow(folder: Path, port: int) -> Iterator[None]:
    words = (
        *(BIN / "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", folder / "mlartifacts"),
    )
    with started(*words, env=environment(), log=folder / "mlflow.log"):
        until(lambda: answers(f"http://127.0.0.1:{port}/health") == 200, timeout_s=300)
        yield


def test_mlflow_may_go_away_for_a_while(place: Place, tmp_path, monkeypatch):
    (port,) = free_ports(1)
    uri = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    study, storage = place.study("away", project="jobs"), "away"
    folder = place.root / storage / study.name
    with _mlflow(tmp_path, port):
        process = place.begin(study, storage)
        _wait(process, partial(_began, folder, "trial-0001"))
    told = len(_epochs(folder))
    assert answers(f"{uri}/health") == 0
    _wait(process, lambda: len(_epochs(folder)) >= told + 4)  # nobody waits for the server
    with _mlflow(tmp_path, port):
        said, _ = process.communicate(timeout=500)
        assert process.returncode == 0, said
        if load_result(folder).mlflow_pending:  # the study ended before the server was asked again
            place.run(study, storage, "upload", study.name)
        found = runs(uri, study.name)
        points = {
            (key, point.step)
            for key, run in found.items()
            if key
            for point in MlflowClient(uri).get_metric_history(run.info.run_id, "best_val_miou")
        }
    assert points == set(_epochs(folder))
    assert len(_epochs(folder)) == len(points)
    assert {run.info.status for run in found.values()} <= {"FINISHED", "FAILED"}
    assert found[""].info.status == "FINISHED"
