"""Everything reaches MLflow once, whatever happens to the server or to the study."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import sqlalchemy
import sqlalchemy.orm
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.db.utils import _get_managed_session_maker
from mlflow.tracking import MlflowClient

from cryo_hpo.errors import StorageError, TrackingError
from cryo_hpo.tracking import Tracker, deliver, masked, run_id, ui_command
from cryo_hpo.tracking.delivery import TRIES, Runs

EXPERIMENT = "cryo/test"
CURVE = [0.31, 0.42, 0.53]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all tests: making its tables takes seconds."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('with space')}/store/mlflow.db"
    assert run_id(uri, EXPERIMENT, "nobody") is None
    return uri


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def a_study(to: Tracker, name: str, note: Path) -> None:
    """Tell a tracker about a study with two trials."""
    note.write_text("name: a study\n")
    to.start(name, name="the study", tags={"cryo.kind": "study"}, params={"optim.lr": 1e-4})
    to.artifact(name, note, "spec")
    for trial in ("a", "b"):
        key = f"{name}/{trial}"
        to.start(key, name=f"trial {trial}", parent=name, params={"batch_size": 8})
        for step, value in enumerate(CURVE, 1):
            to.log(key, {"val_miou": value, "train_loss": 1 - value}, step=step)
        to.end(key, "FINISHED")
    to.tag(name, {"mlflow.note.content": "It went **well**: {run_id}"})
    to.log(name, {"tuned.test_miou": 0.7}, step=0)
    to.end(name, "FINISHED")


NUM_EVENTS = 5 + 2 * (2 + len(CURVE))


def runs(uri: str, study: str) -> dict[str, Run]:
    """Return a study's runs by their keys; fail if two have the same one."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    found = [] if experiment is None else client.search_runs([experiment.experiment_id])
    mine = [run for run in found if run.data.tags["cryo.key"].split("/")[0] == study]
    keys = [run.data.tags["cryo.key"] for run in mine]
    assert len(keys) == len(set(keys)), f"a run was made twice: {keys}"
    return dict(zip(keys, mine, strict=True))


def everything(uri: str, study: str) -> dict[str, object]:
    """Return all that MLflow holds of a study, but for the ids it made up."""
    client = MlflowClient(tracking_uri=uri)
    told: dict[str, object] = {}
    for key, run in runs(uri, study).items():
        info, made_up = run.info, ("mlflow.parentRunId",)
        points = {
            metric: [
                (p.step, p.value, p.timestamp)
                for p in client.get_metric_history(info.run_id, metric)
            ]
            for metric in run.data.metrics
        }
        tags = {k: v for k, v in run.data.tags.items() if k not in made_up}
        times = (info.start_time, info.end_time)
        told[key] = (info.run_name, info.status, times, points, run.data.params, tags)
    return told


def check_study(uri: str, name: str) -> None:
    """See that what `a_study` told is there, once."""
    found = runs(uri, name)
    assert set(found) == {name, f"{name}/a", f"{name}/b"}
    top = found[name]
    assert (top.info.run_name, top.info.status) == ("the study", "FINISHED")
    assert top.data.params == {"optim.lr": "0.0001"}
    assert top.data.metrics == {"tuned.test_miou": 0.7}
    assert top.data.tags["mlflow.note.content"] == f"It went **well**: {top.info.run_id}"
    client = MlflowClient(tracking_uri=uri)
    for trial in ("a", "b"):
        run = found[f"{name}/{trial}"]
        assert run.data.tags["mlflow.parentRunId"] == top.info.run_id
        assert run.info.status == "FINISHED"
        history = client.get_metric_history(run.info.run_id, "val_miou")
        assert [(p.step, p.value) for p in history] == list(enumerate(CURVE, 1))
    assert [f.path for f in client.list_artifacts(top.info.run_id, "spec")] == ["spec/study.yaml"]


def test_a_study_arrives_in_a_database(database: str, log: Path, tmp_path: Path) -> None:
    to = Tracker.connect(database, experiment=EXPERIMENT, log=log)
    a_study(to, "whole", tmp_path / "study.yaml")
    assert to.close() == 0
    check_study(database, "whole")
    assert run_id(database, EXPERIMENT, "whole") == runs(database, "whole")["whole"].info.run_id
    folder = Path(database.removeprefix("sqlite:///")).parent
    assert list(folder.glob("mlartifacts/*/artifacts/spec/study.yaml"))


def test_delivering_again_adds_nothing(database: str, log: Path, tmp_path: Path) -> None:
    to = Tracker.connect(database, experiment=EXPERIMENT, log=log)
    a_study(to, "again", tmp_path / "study.yaml")
    to.close()
    before = everything(database, "again")
    assert deliver(log, uri=database, experiment=EXPERIMENT) == 0
    log.with_name("events.jsonl.mlflow").unlink()
    assert deliver(log, uri=database, experiment=EXPERIMENT) == 0
    assert everything(database, "again") == before


def test_a_study_that_goes_on_opens_its_runs_again(database: str, log: Path) -> None:
    to = Tracker.connect(database, experiment=EXPERIMENT, log=log)
    to.start("resumed", name="first", params={"a": 1})
    to.log("resumed", {"m": 1.0}, step=1)
    to.end("resumed", "KILLED")
    assert to.close() == 0
    assert runs(database, "resumed")["resumed"].info.status == "KILLED"
    to = Tracker.connect(database, experiment=EXPERIMENT, log=log)
    to.start("resumed", name="second", params={"a": 1})
    to.log("resumed", {"m": 1.0}, step=2)
    to.end("resumed", "FINISHED")
    assert to.close() == 0
    run = runs(database, "resumed")["resumed"]
    assert (run.info.status, run.info.run_name) == ("FINISHED", "second")
    client = MlflowClient(tracking_uri=database)
    assert [p.step for p in client.get_metric_history(run.info.run_id, "m")] == [1, 2]


def test_two_studies_of_one_name_stay_apart(database: str, tmp_path: Path) -> None:
    for machine, rate in {"one": 0.1, "two": 0.2}.items():
        log = tmp_path / machine / "events.jsonl"
        to = Tracker.connect(database, experiment=EXPERIMENT, log=log)
        to.start("twins", name=machine, params={"lr": rate})
        assert to.close() == 0
        assert not log.with_name("events.jsonl.refused").exists()
    with pytest.raises(AssertionError, match="made twice"):
        runs(database, "twins")


def test_points_of_a_run_travel_together(
    database: str, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    log_batch = MlflowClient.log_batch
    gate = threading.Event()

    def counted(self: MlflowClient, run_id: str, metrics: Sequence[Any] = (), **rest: Any) -> Any:
        gate.wait(20)
        calls.append(len(metrics))
        return log_batch(self, run_id, metrics=metrics, **rest)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    to = Tracker.connect(database, experiment=EXPERIMENT, log=log)
    to.start("many", name="many")
    for step in range(50):
        to.log("many", {"x": float(step), "y": 1.0}, step=step)
    gate.set()
    assert to.close() == 0
    assert sum(calls) == 100
    assert len(calls) <= 4  # the start, and the points as they had gathered


def test_what_mlflow_cannot_hold_is_left_out_or_renamed(database: str, log: Path) -> None:
    to = Tracker.connect(database, experiment=EXPERIMENT, log=log)
    to.start("odd", name="odd", params={"optim.lr(max)": None})
    to.log("odd", {"nan": math.nan, "inf": -math.inf, "iou/[ice] 100%": 0.5, "../x//y": 1}, step=1)
    to.log("odd", {"nothing": math.nan}, step=2)
    to.tag("odd", {"mlflow.note.content": "long " * 4000})
    assert to.close() == 0
    assert not log.with_name("events.jsonl.refused").exists()
    data = runs(database, "odd")["odd"].data
    assert data.metrics == {"iou/_ice_ 100_": 0.5, "x/y": 1.0}
    assert data.params == {"optim.lr_max_": "None"}


def test_a_refused_record_does_not_hold_up_the_others(
    database: str, log: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    to = Tracker.connect(database, experiment=EXPERIMENT, log=log)
    to.start("poison", name="poison", params={"lr": 1})
    to.start("poison", name="poison", params={"lr": 2})  # MLflow's parameters never change
    to.artifact("poison", tmp_path / "was never written")
    to.log("a stranger", {"m": 1.0}, step=1)
    to.log("poison", {"m": 1.0}, step=1)
    to.log("poison", {"m" * 300: 1.0}, step=2)  # a name too long spoils only itself
    to.log("poison", {"m": 3.0}, step=3)
    to.end("poison", "FAILED")
    assert to.close() == 0
    run = runs(database, "poison")["poison"]
    assert (run.data.params, run.info.status) == ({"lr": "1"}, "FAILED")
    history = MlflowClient(tracking_uri=database).get_metric_history(run.info.run_id, "m")
    assert [p.step for p in history] == [1, 3]
    refused = log.with_name("events.jsonl.refused").read_text().splitlines()
    assert [json.loads(line)["do"] for line in refused] == ["start", "artifact", "log", "log"]
    assert all(json.loads(line)["refused"] for line in refused)
    assert "refuses a record of run 'poison'" in caplog.text


FULL = "(raised as a result of Query-invoked autoflush)\n(sqlite3.OperationalError) database or disk is full"


@pytest.mark.parametrize(
    "error",
    [
        MlflowException(FULL),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError(
            "500: (psycopg.errors.DiskFull) could not extend file: No space left on device"
        ),
    ],
    ids=["SQLite", "artifacts", "a server's PostgreSQL"],
)
def test_a_full_disk_refuses_nothing(
    error: Exception,
    database: str,
    log: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log_batch, tries = MlflowClient.log_batch, iter(range(4 * TRIES))

    def full_for_long(self: MlflowClient, run_id: str, *args: Any, **rest: Any) -> None:
        if rest.get("metrics") and next(tries, None) is not None:
            raise error
        log_batch(self, run_id, *args, **rest)

    monkeypatch.setattr(MlflowClient, "log_batch", full_for_long)
    to = Tracker.connect(database, experiment=EXPERIMENT, log=log)
    monkeypatch.setattr(to._courier, "_pause", lambda _: None)
    name = type(error).__name__
    to.start(name, name="full")
    to.log(name, {"m": 1.0}, step=1)
    to.end(name, "FINISHED")
    assert to.close() == 0
    assert next(tries, None) is None, "it was full for longer than a refused call is tried"
    assert runs(database, name)[name].data.metrics == {"m": 1.0}
    assert not log.with_name("events.jsonl.refused").exists()
    assert "raised as a result" not in caplog.text
    assert caplog.text.count("does not take records") == 1


def test_a_record_that_breaks_the_server_is_given_up(
    database: str, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_terminated = MlflowClient.set_terminated

    def breaks(self: MlflowClient, run_id: str, status: str, **rest: Any) -> None:
        if status == "KILLED":
            raise RuntimeError("500 internal error at http://ann:secret@host/api")
        set_terminated(self, run_id, status, **rest)

    monkeypatch.setattr(MlflowClient, "set_terminated", breaks)
    to = Tracker.connect(database, experiment=EXPERIMENT, log=log)
    monkeypatch.setattr(to._courier, "_pause", lambda _: None)
    to.start("broken", name="broken")
    to.end("broken", "KILLED")
    to.end("broken", "FINISHED")
    assert to.close() == 0
    assert runs(database, "broken")["broken"].info.status == "FINISHED"
    refused = log.with_name("events.jsonl.refused").read_text()
    assert refused.count("500 internal error") == 1
    assert "secret" not in refused
    monkeypatch.setattr("cryo_hpo.tracking.courier.RETRY_S", 0.01)
    log.with_name("events.jsonl.mlflow").unlink()
    assert deliver(log, uri=database, experiment=EXPERIMENT) == 0
    assert log.with_name("events.jsonl.refused").read_text().count("500 internal") == 2


def test_a_server_that_goes_away_is_said_once(
    database: str, log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = threading.Event()
    tried = threading.Semaphore(0)
    create_run, get_experiment = MlflowClient.create_run, MlflowClient.get_experiment

    def fails(works: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **rest: Any) -> Any:
            if away.is_set():
                tried.release()
                raise ConnectionError("refused")
            return works(*args, **rest)

        return call

    to = Tracker.connect(database, experiment=EXPERIMENT, log=log)
    monkeypatch.setattr(MlflowClient, "create_run", fails(create_run))
    monkeypatch.setattr(MlflowClient, "get_experiment", fails(get_experiment))
    monkeypatch.setattr(to._courier, "_pause", lambda _: time.sleep(0.01))
    away.set()
    to.start("patient", name="patient")
    for _ in range(20):  # ten tries: more than a record gets that is itself to blame
        assert tried.acquire(timeout=10)
    assert to.pending() == 1
    away.clear()
    assert to.close() == 0
    assert "patient" in runs(database, "patient")
    said = [r.message for r in caplog.records if r.name.startswith("cryo_hpo")]
    assert len(said) == 2, said
    assert "does not take records: refused. The study continues" in said[0]
    assert "is back" in said[1]


def test_telling_never_waits_for_the_server(
    database: str, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    create_run = MlflowClient.create_run

    def hangs(*args: Any, **rest: Any) -> Any:
        gate.wait(20)
        return create_run(*args, **rest)

    monkeypatch.setattr(MlflowClient, "create_run", hangs)
    to = Tracker.connect(database, experiment=EXPERIMENT, log=log)
    begun = time.perf_counter()
    to.start("hung", name="hung")
    for step in range(100):
        to.log("hung", {"m": 1.0}, step=step)
    assert time.perf_counter() - begun < 2
    begun = time.perf_counter()
    assert to.close(timeout_s=0.2) == 101
    assert time.perf_counter() - begun < 1
    gate.set()
    to._courier._thread.join(20)


def test_a_log_moved_with_its_study_still_finds_its_files(database: str, tmp_path: Path) -> None:
    study = tmp_path / "study"
    to = Tracker.connect(database, experiment=EXPERIMENT, log=study / "events.jsonl")
    (study / "result.json").write_text("{}")
    to.start("moved", name="moved")
    to.artifact("moved", study / "result.json")
    assert to.close() == 0
    moved = study.rename(tmp_path / "elsewhere")
    (moved / "events.jsonl.mlflow").unlink()
    assert deliver(moved / "events.jsonl", uri=database, experiment=EXPERIMENT) == 0
    assert not (moved / "events.jsonl.refused").exists()


def test_no_server_is_refused_at_once(log: Path) -> None:
    uri = f"http://ann:secret@127.0.0.1:{free_port()}"
    begun = time.perf_counter()
    with pytest.raises(TrackingError, match=r"MLflow must answer before .* unset") as refusal:
        Tracker.connect(uri, experiment=EXPERIMENT, log=log)
    assert time.perf_counter() - begun < 5
    assert "http://ann:***@127.0.0.1" in str(refusal.value)
    assert "secret" not in str(refusal.value)
    assert not log.exists()


def test_a_server_that_hangs_is_refused_soon(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryo_hpo.tracking.server.CONNECT_S", 1)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        begun = time.perf_counter()
        with pytest.raises(TrackingError, match="timed out"):
            Tracker.connect(
                f"http://127.0.0.1:{deaf.getsockname()[1]}", experiment=EXPERIMENT, log=log
            )
        assert time.perf_counter() - begun < 4
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "30"


def test_a_database_that_is_none_is_refused_at_once(log: Path, tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    file.mkdir()
    begun = time.perf_counter()
    with pytest.raises(TrackingError, match=r"is a folder\. Set MLFLOW_TRACKING_URI to a file"):
        Tracker.connect(f"sqlite:///{file}", experiment=EXPERIMENT, log=log)
    assert time.perf_counter() - begun < 5


def test_a_deleted_experiment_is_refused_with_its_cure(database: str, log: Path) -> None:
    client = MlflowClient(tracking_uri=database)
    number = client.create_experiment("cryo/deleted")
    client.delete_experiment(number)
    with pytest.raises(TrackingError, match=f"experiments restore --experiment-id {number}"):
        Tracker.connect(database, experiment="cryo/deleted", log=log)


def test_a_server_that_goes_away_during_an_upload_leaves_the_rest(
    database: str, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = Tracker.connect(database, experiment=EXPERIMENT, log=log)
    to.start("halfway", name="halfway")
    to.end("halfway", "FINISHED")
    to.close()
    log.with_name("events.jsonl.mlflow").unlink()

    def away(*_: Any, **__: Any) -> Any:
        raise ConnectionError("refused")

    monkeypatch.setattr("cryo_hpo.tracking.courier.RETRY_S", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_terminated", away)
        patch.setattr(MlflowClient, "get_experiment", away)
        assert deliver(log, uri=database, experiment=EXPERIMENT) == 2
    assert deliver(log, uri=database, experiment=EXPERIMENT) == 0


def test_there_must_be_a_log_to_deliver(database: str, log: Path) -> None:
    with pytest.raises(StorageError, match="no log"):
        deliver(log, uri=database, experiment=EXPERIMENT)
    assert not log.exists()


def test_keys_may_hold_quotes(database: str, log: Path) -> None:
    to = Tracker.connect(database, experiment=EXPERIMENT, log=log)
    to.start("it's", name="quoted")
    assert to.close() == 0
    assert run_id(database, EXPERIMENT, "it's") is not None


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://ann:s3cr@t@host:5000/x", "http://ann:***@host:5000/x"),
        ("postgresql://ann:secret@host/db failed", "postgresql://ann:***@host/db failed"),
        ("sqlite:////runs/mlflow.db", "sqlite:////runs/mlflow.db"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
    ],
)
def test_passwords_are_masked(uri: str, expected: str) -> None:
    assert masked(uri) == expected


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:////runs/mlflow.db", "mlflow ui --backend-store-uri sqlite:////runs/mlflow.db"),
        ("sqlite:////my runs/m.db", "mlflow ui --backend-store-uri 'sqlite:////my runs/m.db'"),
        ("postgresql://ann:secret@h/db", 'mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI"'),
    ],
)
def test_a_database_is_shown_by_a_command(uri: str, expected: str) -> None:
    assert ui_command(uri) == f"{expected} --port 5000"
    assert ui_command(uri, port=5050) == f"{expected} --port 5050"


def test_a_server_is_shown_by_its_address() -> None:
    port = free_port()
    uri = f"http://ann:secret@127.0.0.1:{port}/"
    assert ui_command(uri) == f"http://127.0.0.1:{port}"
    # the front page, when the server does not tell the way to the run
    assert ui_command(uri, experiment=EXPERIMENT, key="k") == f"http://127.0.0.1:{port}"


class Server:
    """A real `mlflow server` that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "-w", "1", "--port", str(self._port)]
        command += ["--host", "127.0.0.1", "--backend-store-uri", f"sqlite:///{self._folder}/s.db"]
        command += ["--artifacts-destination", str(self._folder / "files")]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self._folder / "server.log").open("ab") as output:
            self._process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        deadline = time.monotonic() + 180
        while not self._healthy():
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            assert time.monotonic() < deadline, (self._folder / "server.log").read_text()
            time.sleep(0.3)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # its workers are in its session
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (URLError, ConnectionError, TimeoutError):
            return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    yield running
    running.kill()


@pytest.mark.slow
def test_a_server_killed_on_the_way_gets_everything_once(
    server: Server, log: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    to = Tracker.connect(server.uri, experiment=EXPERIMENT, log=log)
    to.start("early", name="before the fall")
    for step in range(40):
        to.log("early", {"m": float(step)}, step=step)
        time.sleep(0.02)
        if step == 20:
            server.kill()
    a_study(to, "killed", tmp_path / "study.yaml")
    assert to.pending() >= NUM_EVENTS
    server.start()
    assert to.close() == 0
    check_study(server.uri, "killed")
    run = runs(server.uri, "early")["early"]
    history = MlflowClient(tracking_uri=server.uri).get_metric_history(run.info.run_id, "m")
    assert sorted((p.step, p.value) for p in history) == [(s, float(s)) for s in range(40)]
    said = [r.message for r in caplog.records if r.name.startswith("cryo_hpo")]
    assert len(said) == 2, said
    assert said[0].startswith(f"MLflow at {server.uri} does not take records")
    assert said[1] == f"MLflow at {server.uri} is back; the records follow."
    address = ui_command(server.uri, experiment=EXPERIMENT, key="early")
    assert address.startswith(f"{server.uri}/#/experiments/")
    assert address.endswith(f"/runs/{run.info.run_id}")


@pytest.mark.slow
def test_records_wait_on_disk_until_they_are_uploaded(
    server: Server, log: Path, tmp_path: Path
) -> None:
    to = Tracker.connect(server.uri, experiment=EXPERIMENT, log=log)
    server.kill()
    a_study(to, "later", tmp_path / "study.yaml")
    assert to.close(timeout_s=1) == NUM_EVENTS
    to._courier._thread.join(40)  # its last request may still be on the way
    with pytest.raises(TrackingError, match="MLflow must answer"):
        deliver(log, uri=server.uri, experiment=EXPERIMENT)
    server.start()
    assert deliver(log, uri=server.uri, experiment=EXPERIMENT) == 0
    check_study(server.uri, "later")


def test_a_run_is_closed_ahead_of_all_that_waits(
    database: str, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = Runs.apply

    def slowly(self: Runs, events: Sequence[dict[str, Any]]) -> None:
        time.sleep(0.2 if events[0]["do"] == "tag" else 0)
        apply(self, events)

    to = Tracker.connect(database, experiment=EXPERIMENT, log=log)
    to.start("late", name="late")
    to.start("late/a", name="a", parent="late")
    assert to.close() == 0
    monkeypatch.setattr(Runs, "apply", slowly)
    to = Tracker.connect(database, experiment=EXPERIMENT, log=log)
    for number in range(30):
        to.tag("late", {"note": str(number)})
    for key in ("late", "late/a"):
        to.start(key, name=key)  # goes on: must not open again what is closed ahead of it
        to.end(key, "KILLED")
    assert to.close(1.5, ends_first=True) > 0, "all was delivered: nothing had to wait"
    assert {run.info.status for run in runs(database, "late").values()} == {"KILLED"}
    monkeypatch.undo()
    time.sleep(1)  # the call that was under way ends, and releases the log
    assert deliver(log, uri=database, experiment=EXPERIMENT) == 0
    found = runs(database, "late")
    assert {run.info.status for run in found.values()} == {"KILLED"}
    assert found["late"].data.tags["note"] == "29"


def test_a_database_that_takes_no_more_prints_no_traceback(database, capfd):
    """MLflow logs one for a statement that its database refuses; the log keeps the record."""
    engine = sqlalchemy.create_engine(database)
    sessions = _get_managed_session_maker(sqlalchemy.orm.sessionmaker(engine), "sqlite")
    with pytest.raises(MlflowException, match="no such table"), sessions() as session:
        session.execute(sqlalchemy.text("SELECT * FROM nowhere"))
    engine.dispose()
    assert "Traceback" not in "".join(capfd.readouterr())


def test_logs_side_by_side_are_delivered_together(database: str, tmp_path: Path) -> None:
    top = Tracker.connect(database, experiment=EXPERIMENT, log=tmp_path / "c" / "events.jsonl")
    top.start("many-cells", name="a campaign")
    cell = top.beside(tmp_path / "c.cell" / "events.jsonl")
    cell.start("many-cells.one", name="a cell", parent="many-cells")
    cell.start("many-cells.one/a", name="a training", parent="many-cells.one")
    for key in ("many-cells.one/a", "many-cells.one"):
        cell.end(key, "FINISHED")
    top.end("many-cells", "FINISHED")
    assert (top.close(), cell.closed, cell.pending()) == (0, True, 0)
    found = {
        key: run
        for name in ("many-cells", "many-cells.one")
        for key, run in runs(database, name).items()
    }
    above = {key: run.data.tags.get("mlflow.parentRunId") for key, run in found.items()}
    ids = {key: run.info.run_id for key, run in found.items()}
    assert above == {
        "many-cells": None,
        "many-cells.one": ids["many-cells"],
        "many-cells.one/a": ids["many-cells.one"],
    }
    assert {run.info.status for run in found.values()} == {"FINISHED"}


def test_a_log_whose_database_is_lost_is_sent_again_whole(
    database: str, log: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    to = Tracker.connect(database, experiment=EXPERIMENT, log=log)
    a_study(to, "lost", tmp_path / "study.yaml")
    assert to.close() == 0
    new = f"sqlite:///{tmp_path}/new.db"
    assert deliver(log, uri=new, experiment=EXPERIMENT) == 0
    assert "its database was removed or replaced. They are sent again" in caplog.text
    check_study(new, "lost")
    caplog.clear()
    assert deliver(log, uri=new, experiment=EXPERIMENT) == 0
    assert caplog.text == ""


def test_a_log_that_lost_its_end_brings_no_point_twice(database: str, log: Path) -> None:
    to = Tracker.connect(database, experiment=EXPERIMENT, log=log)
    to.start("cut", name="cut")
    for step in range(4):
        to.log("cut", {"m": float(step)}, step=step)
    assert to.close() == 0
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:4]))
    to = Tracker.connect(database, experiment=EXPERIMENT, log=log)
    for step in range(2, 6):  # what was lost is recorded again, later
        to.log("cut", {"m": float(step)}, step=step)
    to.end("cut", "FINISHED")
    assert to.close() == 0
    run = runs(database, "cut")["cut"]
    history = MlflowClient(tracking_uri=database).get_metric_history(run.info.run_id, "m")
    assert sorted((p.step, p.value) for p in history) == [(s, float(s)) for s in range(6)]
    assert run.info.status == "FINISHED"
