"""A result reaches MLflow whole and once, whenever the study is killed while it publishes it."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from cryo_hpo.results.study import NAME, load_result, write
from cryo_hpo.study import folder as folders
from cryo_hpo.study import run as studies
from cryo_hpo.study.verdict import experiment
from cryo_hpo.tracking import Tracker

from ..support.tracked import trained_study

pytestmark = pytest.mark.slow


class Killed(BaseException):
    """The driver is killed."""


def _twice(storage: Path) -> list[tuple[str, int]]:
    """Return the points that stand twice in MLflow."""
    database = sqlite3.connect(f"file:{storage}/mlflow.db?mode=ro", uri=True)
    with closing(database) as opened:
        return opened.execute(
            "select key, step from metrics group by run_uuid, key, step having count(*) > 1"
        ).fetchall()


def _top(storage: Path) -> tuple[str, dict[str, str]]:
    """Return the status and the tags of the study's own run."""
    database = sqlite3.connect(f"file:{storage}/mlflow.db?mode=ro", uri=True)
    with closing(database) as opened:
        run, status = opened.execute(
            "select r.run_uuid, r.status from runs r join tags t on t.run_uuid = r.run_uuid "
            "where t.key = 'cryo.kind' and t.value = 'study'"
        ).fetchone()
        tags = opened.execute("select key, value from tags where run_uuid = ?", (run,)).fetchall()
    return status, dict(tags)


@pytest.mark.parametrize("killed_at", ["write", "end"])
def test_a_result_is_published_once_and_whole(tmp_path, monkeypatch, killed_at):
    (tmp_path / "storage").mkdir()
    uri = f"sqlite:///{tmp_path}/storage/mlflow.db"
    study, site, result = trained_study(tmp_path, uri)
    path = folders.of(study, site)

    def die(*_: object, **__: object) -> None:
        raise Killed

    tracker = Tracker.connect(uri, experiment=experiment(study), log=path / folders.EVENTS)
    with monkeypatch.context() as patch, closing(tracker):
        if killed_at == "write":
            patch.setattr(studies, "write", die)
        else:
            patch.setattr(Tracker, killed_at, die)
        with pytest.raises(Killed):
            studies.publish(result, study, site, path, tracker=tracker)
    assert (path / NAME).exists() == (killed_at != "write")
    if killed_at == "write":  # the verdict is computed again
        tracker = Tracker.connect(uri, experiment=experiment(study), log=path / folders.EVENTS)
        with closing(tracker):
            studies.publish(result, study, site, path, tracker=tracker)
            tracker.close()
    console = Console(file=io.StringIO())
    final = studies.complete(study, site, path, console=console)
    status, tags = _top(tmp_path / "storage")
    assert (status, tags["cryo.result"]) == ("FINISHED", result.digest)
    assert "cryo.verdict" in tags
    assert _twice(tmp_path / "storage") == []
    assert final.mlflow_run_id
    assert load_result(path) == final
    log = (path / folders.EVENTS).read_bytes()
    assert studies.complete(study, site, path, console=console) == final
    studies.publish_finished(path, site)
    assert (path / folders.EVENTS).read_bytes() == log, "nothing is left to publish"


def test_a_finished_study_keeps_its_result_while_mlflow_is_away(tmp_path, caplog):
    (tmp_path / "storage").mkdir()
    study, site, result = trained_study(tmp_path, f"sqlite:///{tmp_path}/storage/mlflow.db")
    path = folders.of(study, site)
    write(result, path)
    away = site.model_copy(update={"mlflow": "http://127.0.0.1:1"})
    assert studies.complete(study, away, path, console=Console(file=io.StringIO())) == result
    assert "is not yet in MLflow" in caplog.text
