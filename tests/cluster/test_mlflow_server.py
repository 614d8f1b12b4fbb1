"""The shipped MLflow servers, on a real PostgreSQL: who may in, what is kept, and where."""

from __future__ import annotations

import base64
import json
import stat
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from cryo_hpo.errors import TrackingError
from cryo_hpo.tracking import Tracker

from ..support import shipped
from ..support.clusters import answers, listening
from ..support.postgres import server
from ..support.shipped import Shipped

pytestmark = pytest.mark.machines
EXPERIMENT, KEY = "cryo/shipped", "the-study"
CURVE = [0.31, 0.42, 0.53]
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


@pytest.fixture(scope="module", params=["unit", "compose"])
def mlflow(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Shipped]:
    folder = tmp_path_factory.mktemp(request.param)
    with server() as data, getattr(shipped, request.param)(folder, data).running() as running:
        yield running


@pytest.fixture(autouse=True)
def log(mlflow: Shipped) -> Iterator[None]:
    """Show what the server wrote; pytest prints it where a test fails."""
    yield
    sys.stdout.write(mlflow.home.with_suffix(".log").read_text()[-6000:])


def sign_in(monkeypatch: pytest.MonkeyPatch, name: str, password: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)


def basic(name: str, password: str) -> dict[str, str]:
    word = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"Authorization": f"Basic {word}"}


def tell_a_study(mlflow: Shipped, folder: Path) -> Run:
    """Tell the server of a study through our own tracker, and return the run as it has it."""
    (folder / "study.yaml").write_text("name: the study\n")
    to = Tracker.connect(mlflow.url, experiment=EXPERIMENT, log=folder / "events.jsonl")
    to.start(KEY, name="the study", tags={"cryo.kind": "study"}, params={"optim.lr": 1e-4})
    for step, value in enumerate(CURVE, 1):
        to.log(KEY, {"val_miou": value}, step=step)
    to.artifact(KEY, folder / "study.yaml", "spec")
    to.end(KEY, "FINISHED")
    assert to.close() == 0, "something was not delivered"
    assert not (folder / "events.jsonl.refused").exists()
    client = MlflowClient(tracking_uri=mlflow.url)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    return found


def test_nobody_gets_in_without_the_password(mlflow: Shipped, tmp_path, monkeypatch):
    assert answers(mlflow.url + SEARCH) == 401
    assert answers(mlflow.url + SEARCH, basic("admin", "password1234")) == 401
    assert answers(mlflow.url + SEARCH, basic("admin", mlflow.password)) == 200
    with pytest.raises(TrackingError, match=r"401|authenticat"):
        Tracker.connect(mlflow.url, experiment=EXPERIMENT, log=tmp_path / "events.jsonl")


def test_a_foreign_host_header_is_refused(mlflow: Shipped):
    known = basic("admin", mlflow.password)
    assert answers(mlflow.url + SEARCH, {**known, "Host": "evil.example:5000"}) == 403
    assert answers(mlflow.url + SEARCH, {**known, "Host": "localhost:5000"}) == 200


def test_it_listens_on_loopback_alone(mlflow: Shipped):
    assert len(mlflow.pids()) >= 3, "a server and its two workers"
    assert listening(mlflow.pids()) == {f"127.0.0.1:{mlflow.port}"}


def test_a_study_is_kept_in_postgresql_and_in_the_folder(mlflow: Shipped, tmp_path, monkeypatch):
    sign_in(monkeypatch, "admin", mlflow.password)
    told = tell_a_study(mlflow, tmp_path)
    assert (told.info.run_name, told.info.status) == ("the study", "FINISHED")
    assert told.data.params == {"optim.lr": "0.0001"}
    assert told.data.tags["cryo.kind"] == "study"
    client, run_id = MlflowClient(tracking_uri=mlflow.url), told.info.run_id
    history = client.get_metric_history(run_id, "val_miou")
    assert [(p.step, p.value) for p in history] == list(enumerate(CURVE, 1))
    back = Path(client.download_artifacts(run_id, "spec/study.yaml", str(tmp_path)))
    assert back.read_text() == "name: the study\n"

    assert mlflow.rows("SELECT name FROM experiments WHERE name LIKE 'cryo/%'") == [(EXPERIMENT,)]
    assert mlflow.rows("SELECT run_uuid, status FROM runs") == [(run_id, "FINISHED")]
    assert mlflow.rows("SELECT key, value FROM params") == [("optim.lr", "0.0001")]
    points = mlflow.rows("SELECT step, value FROM metrics WHERE key = 'val_miou' ORDER BY step")
    assert points == list(enumerate(CURVE, 1))
    (kept,) = (mlflow.home / "artifacts").rglob("study.yaml")
    assert kept.read_text() == "name: the study\n"
    assert not list(mlflow.home.rglob("mlflow.db")), "a database beside the one that was asked for"


def test_the_passwords_file_is_no_artifact(mlflow: Shipped):
    """Who may sign in may read artifacts: the hashes of the passwords must lie elsewhere."""
    name, password = "reader", "a-reader-s-password"
    new = json.dumps({"username": name, "password": password}).encode()
    head = {**basic("admin", mlflow.password), "Content-Type": "application/json"}
    request = urllib.request.Request(f"{mlflow.url}/api/2.0/mlflow/users/create", new, head)
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
    known = basic(name, password)
    assert answers(mlflow.url + SEARCH, known) == 200
    (users,) = mlflow.home.rglob("basic_auth.db")
    assert users.parent == mlflow.home, "the one folder that the service may write"
    place = f"{mlflow.url}/api/2.0/mlflow-artifacts/artifacts/basic_auth.db"
    assert answers(place, known) == 404
    if mlflow.umask == "0077":  # the unit's; in a container, nobody else is there
        assert stat.S_IMODE(users.stat().st_mode) == 0o600
