"""MLflow's database file: made whole, remade where a killed start left half, refused with what helps."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from cryo_hpo.config import Site
from cryo_hpo.errors import TrackingError
from cryo_hpo.storage.sqlite_url import sqlite_url
from cryo_hpo.tracking import database
from cryo_hpo.tracking.database import open_database
from cryo_hpo.tracking.server import connect

HEAD = database._revisions()[-1]
OLDER = database._revisions()[0]


def _make(
    file: Path, *, version: str | None = HEAD, runs: int | None = 1, experiments: int = 1
) -> None:
    """Write the skeleton of MLflow's database; MLflow makes an experiment last."""
    with contextlib.closing(sqlite3.connect(file)) as made, made:
        made.execute("CREATE TABLE experiments (id)")
        made.executemany("INSERT INTO experiments VALUES (?)", [(n,) for n in range(experiments)])
        if runs is not None:
            made.execute("CREATE TABLE runs (id)")
            made.executemany("INSERT INTO runs VALUES (?)", [(n,) for n in range(runs)])
        if version is not None:
            made.execute("CREATE TABLE alembic_version (version_num)")
            made.execute("INSERT INTO alembic_version VALUES (?)", (version,))
    os.utime(file, (0, 0))  # nobody makes it just now


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    class Maker:
        """Stands in for MLflow, which takes seconds to make its tables."""

        def __init__(self, *, tracking_uri: str) -> None:
            _make(Path(tracking_uri.removeprefix("sqlite:///")), runs=0)

        def search_experiments(self, **_: Any) -> None:
            """Do nothing."""

    monkeypatch.setattr(database, "MlflowClient", Maker)
    return tmp_path / "mlflow.db"


def _open(file: Path) -> None:
    open_database(f"sqlite:///{file}")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"version": OLDER}, r"an older MLflow made it .* `mlflow db upgrade sqlite:"),
        ({"version": "ffffffffffff"}, r"a newer MLflow made it .*pip install -U mlflow"),
        ({"version": OLDER, "runs": 0}, r"an older MLflow made it .* `mlflow db upgrade sqlite:"),
        ({"version": "ffffffffffff", "runs": 0}, "a newer MLflow made it"),
    ],
)
def test_another_schema_is_refused_with_what_helps(
    file: Path, made: dict[str, Any], words: str
) -> None:
    _make(file, **made)
    with pytest.raises(TrackingError, match=words) as caught:
        _open(file)
    assert "mlflow server" not in str(caught.value)


@pytest.mark.parametrize(
    "made",
    [
        {"version": None, "runs": 0, "experiments": 0},
        {"version": None, "runs": None, "experiments": 0},
        {"version": OLDER, "runs": 0, "experiments": 0},
    ],
)
def test_half_a_database_without_an_experiment_is_made_anew_and_kept_aside(
    file: Path, made: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    _make(file, **made)
    _open(file)
    assert "only half made" in caplog.text
    assert file.with_name("mlflow.db.half-made").exists()
    caplog.clear()
    _open(file)
    assert caplog.text == ""


def test_an_empty_file_becomes_a_database(file: Path) -> None:
    file.touch()
    _open(file)
    assert file.stat().st_size


def test_a_database_of_something_else_is_left_alone(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as made, made:
        made.execute("CREATE TABLE pictures (id)")
    before = file.read_bytes()
    with pytest.raises(TrackingError, match="no database of MLflow: it holds pictures"):
        _open(file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///?x=1"])
def test_a_database_in_memory_is_refused_as_its_records_would_be_lost(uri: str) -> None:
    with pytest.raises(
        TrackingError, match=r"names no file.*Set MLFLOW_TRACKING_URI to sqlite:////"
    ):
        connect(uri, "cryo/x")


def test_a_locked_database_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LOCKED_S", 0.05)
    _make(file)
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TrackingError, match=r"is locked by another process.*`fuser"):
            _open(file)
    _open(file)


@pytest.mark.parametrize("kind", ["a pipe", "a socket"])
def test_what_is_no_file_is_refused_and_left_where_it_is(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "mlflow.db"
    if kind == "a pipe":
        os.mkfifo(file)
    else:
        with socket.socket(socket.AF_UNIX) as opened, pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)  # the address of a socket has at most 107 bytes
            opened.bind(file.name)
    before = file.lstat()
    with pytest.raises(TrackingError, match=f"mlflow.db' is {kind}"):
        _open(file)
    assert os.path.samestat(file.lstat(), before)
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_folder_and_a_damaged_file_are_named(file: Path) -> None:
    file.mkdir()
    with pytest.raises(TrackingError, match="is a folder"):
        _open(file)
    file.rmdir()
    file.write_bytes(b"SQLite format 3\0 and then nothing of the kind" * 50)
    with pytest.raises(TrackingError, match=r"is damaged.*Move it away"):
        connect(f"sqlite:///{file}", "cryo/x")


@pytest.mark.parametrize("way", ["moved", "copied"])
def test_artifacts_follow_a_storage_that_was_moved_or_copied(tmp_path: Path, way: str) -> None:
    old, new = tmp_path / "old disk", tmp_path / "new disk"
    old.mkdir()
    artifact = tmp_path / "a.txt"
    artifact.write_text("a")
    client, experiment = connect(f"sqlite:///{old}/mlflow.db", "cryo/ice")
    run = client.create_run(experiment).info.run_id
    client.log_artifact(run, str(artifact))
    if way == "moved":
        old.rename(new)
    else:
        shutil.copytree(old, new)
    before = sorted(old.rglob("a.txt"))
    client, again = connect(f"sqlite:///{new}/mlflow.db", "cryo/ice")
    assert again == experiment
    assert [file.path for file in client.list_artifacts(run)] == ["a.txt"]
    later = client.create_run(experiment).info.run_id
    client.log_artifact(later, str(artifact))
    assert len(list((new / "mlartifacts").rglob("a.txt"))) == 2
    assert sorted(old.rglob("a.txt")) == before


def test_a_storage_whose_path_means_something_in_a_url_holds_its_own_database(
    tmp_path: Path,
) -> None:
    name = "My%20Drive, runs? f\u00fcr #1, it's"
    folder = tmp_path / name
    uri = Site.from_env({"CRYO_STORAGE": str(folder)}).mlflow
    folder.mkdir()
    client, experiment = connect(uri, "cryo/ice")
    (note := tmp_path / "note.txt").write_text("kept")
    run = client.create_run(experiment).info.run_id
    client.log_artifact(run, str(note))
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([name, "note.txt"])
    assert {"mlflow.db", "mlartifacts"} <= {each.name for each in folder.iterdir()}
    assert [each.read_text() for each in folder.glob("mlartifacts/**/note.txt")] == ["kept"]
    moved = folder.rename(tmp_path / f"{name}-moved")
    client, again = connect(sqlite_url(moved / "mlflow.db"), "cryo/ice")
    assert again == experiment
    assert Path(client.download_artifacts(run, "note.txt")).read_text() == "kept"
