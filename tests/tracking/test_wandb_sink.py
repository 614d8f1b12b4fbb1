"""W&B gets every run of the log once: whole when it rests, again after a crash, never before."""

from __future__ import annotations

import contextlib
import logging
import struct
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cryo_hpo.config import Site
from cryo_hpo.errors import TrackingError
from cryo_hpo.storage.event_log import EventLog
from cryo_hpo.tracking import Tracker, run_id
from cryo_hpo.tracking.wandb_sink import WandbSink, connect_wandb, deliver_to_wandb

OFFLINE = {"WANDB_MODE": "offline"}


class Server:
    """Stands for W&B, online: keeps the history of every run, and takes no step twice."""

    Settings = dict

    def __init__(self) -> None:
        self.history: dict[str, list[tuple[int, dict[str, float]]]] = {}
        self.runs: list[dict[str, Any]] = []  # as they were opened
        self.summaries: dict[str, dict[str, Any]] = {}
        self.exit_codes: dict[str, int] = {}
        self.is_away = False
        self.dies_before_end = False

    def init(self, **facts: Any) -> Run:
        if self.is_away:
            raise OSError("no route to host")
        self.runs.append(facts)
        return Run(self, facts["name"])


class Run:
    def __init__(self, server: Server, name: str) -> None:
        self._server, self._name = server, name
        steps = [step for step, _ in server.history.setdefault(name, [])]
        self.starting_step = max(steps) + 1 if steps else 0
        self.summary = server.summaries.setdefault(name, {})

    def log(self, metrics: dict[str, float], *, step: int) -> None:
        history = self._server.history[self._name]
        assert not history or step > history[-1][0], "W&B drops it with a warning"
        history.append((step, dict(metrics)))

    def finish(self, *, exit_code: int) -> None:
        if self._server.dies_before_end:
            raise KeyboardInterrupt
        self._server.exit_codes[self._name] = exit_code


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[EventLog]:
    with contextlib.closing(EventLog(tmp_path / "events.jsonl")) as log:
        yield log


@pytest.fixture
def installed(monkeypatch) -> None:
    """Lets the package look installed, without the seconds of its import."""
    monkeypatch.setitem(sys.modules, "wandb", ModuleType("wandb"))


def _sink(server: Server, log: EventLog) -> WandbSink:
    """Return a sink that has read the log, without its thread."""
    sink = WandbSink(server, "ice", is_online=True, own_dir=None)
    sink._closing.set()
    sink.follow(log)
    return sink


def _start(log: EventLog, key: str = "") -> None:
    tags = {"cryo.kind": "search" if key else "study", "cryo.state": "running"}
    facts: dict[str, Any] = {"name": key or "s", "tags": tags, "params": {"lr": "0.1"}}
    log.append("started" if key else "study started", study="s", key=key, **facts)


def _epochs(log: EventLog, key: str, *epochs: int) -> None:
    for epoch in epochs:
        log.append("epoch", study="s", key=key, epoch=epoch, val_miou=epoch / 10)


def _end(log: EventLog, key: str, state: str = "complete") -> None:
    log.append("ended", study="s", key=key, state=state, message="", epochs=2, seconds=1.0)


def test_runs_are_grouped_by_study_and_sent_when_they_rest(opened: EventLog):
    server = Server()
    sink = _sink(server, opened)
    _start(opened)
    _start(opened, "a")
    _start(opened, "b")
    _epochs(opened, "a", 1, 2)
    _epochs(opened, "b", 1)
    sink.deliver()
    assert server.runs == []
    _end(opened, "a")
    _end(opened, "b", "diverged")
    sink.deliver()
    assert [(r["name"], r["group"], r["job_type"]) for r in server.runs] == [
        ("a", "s", "search"),
        ("b", "s", "search"),
    ]
    assert {(r["project"], r["resume"], r["reinit"]) for r in server.runs} == {
        ("ice", "allow", "create_new")
    }
    assert [step for step, _ in server.history["a"]] == [1, 2]
    assert server.summaries["a"]["state"] == "complete"
    assert server.exit_codes == {"a": 0, "b": 1}
    assert sink.pending() == 1  # the study still runs


def test_a_paused_training_grows_when_it_rests_again(opened: EventLog):
    server = Server()
    sink = _sink(server, opened)
    _start(opened, "a")
    _epochs(opened, "a", 1)
    opened.append("paused", study="s", key="a", epoch=1)
    sink.deliver()
    assert server.summaries["a"]["state"] == "paused"
    _start(opened, "a")
    _epochs(opened, "a", 2)
    _end(opened, "a")
    sink.deliver()
    assert [step for step, _ in server.history["a"]] == [1, 2]
    assert server.summaries["a"]["state"] == "complete"
    assert len({run["id"] for run in server.runs}) == 1


def test_a_study_ends_with_its_verdict_and_the_test_scores(opened: EventLog):
    server = Server()
    sink = _sink(server, opened)
    _start(opened)
    _start(opened, "a")
    _epochs(opened, "a", 1, 2)
    _end(opened, "a")
    sink.deliver()
    opened.append("metrics", study="s", key="a", step=2, metrics={"test_miou": 0.8})
    gain = {"relative_improvement_pct": 15.9, "relative_improvement_pct.low": 15.6}
    opened.append("metrics", study="s", key="", step=0, metrics=gain)
    opened.append("tag", study="s", key="", tags={"cryo.verdict": "improved"})
    opened.append("study ended", study="s", key="", status="FINISHED")
    sink.deliver()
    assert server.summaries["a"]["test_miou"] == 0.8
    assert server.summaries["s"]["verdict"] == "improved"
    assert server.summaries["s"]["relative_improvement_pct"] == 15.9
    assert server.summaries["s"]["relative_improvement_pct_low"] == 15.6
    assert sink.pending() == 0


def test_each_run_comes_once_after_a_crash_at_its_end(opened: EventLog):
    server = Server()
    _start(opened, "a")
    _epochs(opened, "a", 1, 2)
    _end(opened, "a")
    server.dies_before_end = True
    with pytest.raises(KeyboardInterrupt):
        _sink(server, opened).deliver()
    server.dies_before_end = False
    again = _sink(server, opened)
    again.deliver()
    assert [step for step, _ in server.history["a"]] == [1, 2]
    assert (server.exit_codes, again.pending()) == ({"a": 0}, 0)
    runs = len(server.runs)
    _sink(server, opened).deliver()  # a third process has nothing to do
    assert len(server.runs) == runs


def test_a_run_that_was_running_in_the_crash_is_sent_by_the_next_process(opened: EventLog):
    server = Server()
    _start(opened, "a")
    _start(opened, "b")
    _epochs(opened, "a", 1)
    _end(opened, "b")
    _sink(server, opened).deliver()
    assert [run["name"] for run in server.runs] == ["b"]
    _epochs(opened, "a", 2)
    _end(opened, "a")
    _sink(server, opened).deliver()
    assert [step for step, _ in server.history["a"]] == [1, 2]
    assert server.exit_codes == {"a": 0, "b": 0}


def test_a_study_outlives_a_server_that_is_away(opened: EventLog, caplog):
    server = Server()
    server.is_away = True
    sink = WandbSink(server, "ice", is_online=True, own_dir=None)
    with caplog.at_level(logging.WARNING):
        sink.follow(opened)
        _start(opened, "a")
        _end(opened, "a")
        assert sink.close(timeout_s=30) == 1
    assert "W&B does not take runs: no route to host" in caplog.text
    assert "1 runs are not yet in W&B" in caplog.text
    server.is_away = False
    later = WandbSink(server, "ice", is_online=True, own_dir=None)
    later.follow(opened)
    assert later.close(timeout_s=30) == 0
    assert list(server.history) == ["a"]


@pytest.mark.parametrize(
    ("env", "project", "message"),
    [
        ({"NETRC": "/nowhere"}, "ice", "there is no key for W&B"),
        ({"WANDB_MODE": "dryrun"}, "ice", "WANDB_MODE must be"),
        (OFFLINE, "team/ice", "no name of a project"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_what_cannot_work_is_refused(env: dict[str, str], project: str, message: str):
    with pytest.raises(TrackingError, match=message):
        connect_wandb(project, env)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(TrackingError, match=r"pip install 'cryo-hpo\[wandb\]'"):
        connect_wandb("ice", OFFLINE)


def test_disabled_is_no_sink_and_marks_nothing_as_delivered():
    assert connect_wandb("ice", {"WANDB_MODE": "disabled"}) is None


@pytest.mark.usefixtures("installed")
def test_it_is_refused_before_a_study_has_a_folder(tmp_path: Path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/nowhere")
    site = Site.from_env({"CRYO_WANDB_PROJECT": "ice", "CRYO_STORAGE": str(tmp_path)})
    with pytest.raises(TrackingError, match="no key for W&B"):
        Tracker.connect(
            site.mlflow, experiment="cryo/t", log=tmp_path / "s" / "events.jsonl", wandb=site.wandb
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_one_log_feeds_both_mlflow_and_the_real_client(tmp_path: Path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_DIR", raising=False)
    uri, log = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "s" / "events.jsonl"
    tracker = Tracker.connect(uri, experiment="cryo/t", log=log, wandb="ice")
    tracker.start("s", name="s", tags={"cryo.kind": "study"})
    tracker.tag("s", {"cryo.verdict": "not shown"})
    tracker.end("s", "FINISHED")
    assert tracker.close(timeout_s=120) == 0
    assert run_id(uri, "cryo/t", "s") is not None
    (file,) = (tmp_path / "s" / "wandb").glob("offline-run-*/*.wandb")
    assert _read(file)["summary"]["verdict"] == '"not shown"'


@pytest.mark.slow
def test_the_real_client_offline_keeps_each_run_once(tmp_path: Path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_DIR", raising=False)
    path = tmp_path / "events.jsonl"
    with contextlib.closing(EventLog(path)) as log:
        _start(log)
        _start(log, "a")
        _epochs(log, "a", 1)
        log.append("paused", study="s", key="a", epoch=1)
    assert deliver_to_wandb(path, project="ice") == 1  # the study itself is still running
    with contextlib.closing(EventLog(path)) as log:
        _start(log, "a")
        _epochs(log, "a", 2)
        _end(log, "a")
        log.append("tag", study="s", key="", tags={"cryo.verdict": "improved"})
        log.append("study ended", study="s", key="", status="FINISHED")
    mark = path.with_name("events.jsonl.wandb")
    crashed = mark.read_bytes()
    assert deliver_to_wandb(path, project="ice") == 0
    delivered = mark.read_bytes()
    mark.write_bytes(crashed)  # as after a crash between W&B and the position
    assert deliver_to_wandb(path, project="ice") == 0
    assert mark.read_bytes() == delivered
    runs = [_read(file) for file in sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))]
    by_name = {run["name"]: run for run in runs}
    assert sorted(run["name"] for run in runs) == ["a", "s"]
    assert (by_name["a"]["group"], by_name["a"]["project"]) == ("s", "ice")
    assert by_name["a"]["steps"] == [1, 2]
    assert by_name["s"]["summary"]["verdict"] == '"improved"'


def _read(file: Path) -> dict[str, Any]:
    """Read a file of W&B's client: records in the blocks of LevelDB's log."""
    Record = import_module("wandb.proto.wandb_internal_pb2").Record
    raw, at, part = file.read_bytes(), 7, b""
    run: dict[str, Any] = {"steps": [], "summary": {}}
    while at + 7 <= len(raw):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
        _, length, kind = struct.unpack("<IHB", raw[at : at + 7])
        part += raw[at + 7 : at + 7 + length]
        at += 7 + length
        if kind not in (1, 4):  # whole, or the last part
            continue
        record, part = Record.FromString(part), b""
        if record.HasField("run"):
            run |= {
                "name": record.run.display_name,
                "group": record.run.run_group,
                "project": record.run.project,
            }
        run["steps"] += [record.history.step.num] if record.HasField("history") else []
        run["summary"] |= {
            item.key or ".".join(item.nested_key): item.value_json for item in record.summary.update
        }
    return run
