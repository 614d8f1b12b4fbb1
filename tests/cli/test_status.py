"""`cryo-hpo status` and `cryo-hpo stop` beside a study that runs, has stopped or has ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cryo_hpo.cli.main import main
from cryo_hpo.cli.status import describe_training
from cryo_hpo.config import DataSpec, Recipe, Study, load_study
from cryo_hpo.monitoring.recorder import Records
from cryo_hpo.results.study import write
from cryo_hpo.storage.event_log import EventLog
from cryo_hpo.study import folder as folders
from cryo_hpo.study import status
from cryo_hpo.study.status import age, read_trainings

from ..support.results import a_result

# A driver: holds the folder until it gets a stop request.
DRIVER = """
import sys, time
from pathlib import Path
from cryo_hpo.execution.signals import Stopped, raise_if_asked, stoppable
from cryo_hpo.study.folder import driving
with driving(Path(sys.argv[1])), stoppable():
    print("drives", flush=True)
    try:
        while True:
            raise_if_asked()
            time.sleep(0.02)
    except Stopped:
        pass
"""


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CRYO_STORAGE", str(tmp_path))
    return tmp_path


@pytest.fixture
def study() -> Study:
    return Study(name="lakes", base=Recipe(data=DataSpec(name="lakes-demo"), epochs=9), seeds=(1,))


@pytest.fixture
def folder(storage: Path, study: Study) -> Path:
    """The folder of a study with a trial of each state."""
    path = folders.make(storage / study.name)
    folders.keep_spec(study, path)
    with closing(EventLog(path / folders.EVENTS)) as log:
        records = Records(study, log)
        for key, epochs in (("trial-0000", 9), ("trial-0001", 3), ("trial-0002", 2)):
            records.started(key, study.base, kind="search")
            for epoch in range(1, epochs + 1):
                records.epoch(key, {"epoch": epoch, "best_val_miou": epoch / 10, "seconds": 1.0})
        records.ended("trial-0000", "complete", "")
        records.paused("trial-0001", 3)
    return path


@pytest.fixture
def driver(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "drives\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def _run(*words: str) -> Result:
    return CliRunner().invoke(main, words, catch_exceptions=False)


def _states(name: str) -> dict[str, str]:
    (study,) = json.loads(_run("status", name, "--json").output)
    return {training["key"]: training["state"] for training in study["trainings"]}


def test_an_interrupted_study_shows_each_training(folder: Path) -> None:
    shown = _run("status", "lakes").output
    assert shown.startswith("study 'lakes': interrupted, 14 epochs, last event ")
    assert "trial-0000" in shown
    assert "90.00" in shown
    assert _states("lakes") == {
        "trial-0000": "complete",
        "trial-0001": "paused",
        "trial-0002": "interrupted",
    }


def test_a_running_study_names_its_process_and_is_not_disturbed(
    folder: Path, driver: subprocess.Popen[str]
) -> None:
    assert f"running (process {driver.pid} on " in _run("status").output
    assert _states("lakes")["trial-0002"] == "running"
    assert driver.poll() is None


def test_stop_ends_the_process_and_names_the_way_back(
    folder: Path, driver: subprocess.Popen[str]
) -> None:
    done = _run("stop", "lakes")
    assert done.exit_code == 0
    assert "Resume it with: cryo-hpo resume lakes" in done.output
    assert driver.wait(timeout=10) == 0
    again = _run("stop", "lakes")
    assert again.exit_code == 2
    assert "is not running" in again.output


def test_a_process_that_does_not_stop_in_time_is_reported(
    folder: Path, driver: subprocess.Popen[str]
) -> None:
    done = _run("stop", "lakes", "--wait", "0")
    assert done.exit_code == 1
    assert "has not stopped within 0 s" in done.output


def test_a_study_of_another_machine_is_not_signaled(
    folder: Path, driver: subprocess.Popen[str]
) -> None:
    (folder / folders.LOCK).write_text('{"pid": 1, "host": "elsewhere"}')
    done = _run("stop", "lakes")
    assert done.exit_code == 1
    assert "is run by process 1 on elsewhere" in done.output
    assert driver.poll() is None


def _decide(folder: Path) -> None:
    spec = load_study(folder / "study.yaml").model_dump(mode="json")
    write(a_result().model_copy(update={"study": "lakes", "spec": spec}), folder)


def _take_a_later_one(folder: Path) -> None:
    _decide(folder)
    raw = json.loads((folder / "result.json").read_bytes())
    (folder / "result.json").write_text(json.dumps({**raw, "version": 3}))


def _copy_another(folder: Path) -> None:
    write(a_result(), folder)


def _cut(folder: Path) -> None:
    (folder / "result.json").write_text('{"verdict": "improved", ')


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "result.json")


def _forget(folder: Path) -> None:
    (folder / folders.EVENTS).unlink()


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (_decide, "finished, improved"),
        (_forget, "not begun"),
        (None, "interrupted"),
    ],
)
def test_the_list_has_the_state_of_every_study(
    folder: Path, change: Callable[[Path], None] | None, state: str
) -> None:
    if change is not None:
        change(folder)
    (line,) = _run("status").output.splitlines()[1:]
    assert line.split()[:2] == ["lakes", "study"]
    assert state in line


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_take_a_later_one, "it says 3"),
        (_copy_another, "is the result of another study than 'lakes'"),
        (_cut, "it is no whole JSON"),
    ],
)
def test_a_result_that_cannot_be_read_is_no_end_of_the_study(
    folder: Path, change: Callable[[Path], None], reason: str
) -> None:
    change(folder)
    for words in (("status",), ("status", "lakes"), ("status", "--json")):
        done = _run(*words)
        assert done.exit_code == 1
        assert "unreadable" in done.stdout
        assert "improved" not in done.stdout
        assert reason in done.stderr


def test_a_study_that_cannot_be_read_does_not_hide_the_others(
    storage: Path, folder: Path, study: Study
) -> None:
    other = folders.make(storage / "other")
    folders.keep_spec(study, other)
    _pipe(other)
    done = _run("status")
    assert done.exit_code == 1
    assert "lakes" in done.stdout
    assert "result.json' must be a file, it is a pipe" in done.stderr


def test_an_unknown_name_and_an_empty_storage_are_told(storage: Path) -> None:
    assert _run("status").output == f"No study in '{storage}' yet.\n"
    for command in ("status", "stop"):
        done = _run(command, "nothing")
        assert done.exit_code == 2
        assert "nothing" in done.output


def test_ages_are_in_units_that_people_use() -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    seconds = (1, 119, 121, 7199, 7201, 86400 * 3)
    ages = [age(now - timedelta(seconds=s), now=now) for s in seconds]
    assert ages == ["1 s ago", "119 s ago", "2 min ago", "120 min ago", "2 h ago", "3 d ago"]


def test_a_training_without_an_epoch_for_ten_of_its_own_is_shown_as_hanging() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    before = [(3600, "started"), (3500, "epoch"), (1201, "epoch")]
    events: list[dict[str, Any]] = [
        {
            "event": event,
            "key": "trial-0000",
            "time": (now - timedelta(seconds=ago)).isoformat(),
            "epoch": 1,
            "epochs": 9,
            "lr": 1e-4,
            "best_val_miou": 0.5,
            "seconds": 120.0,
        }
        for ago, event in before
    ]
    (hanging,) = read_trainings(events, is_driven=True, now=now)
    assert hanging.silent_s == 1201
    assert "no epoch for 20 min: hangs?" in describe_training(hanging)[-1]
    for more in ({"now": now - timedelta(seconds=2)}, {"now": now, "given_s": 1800.0}):
        assert read_trainings(events, is_driven=True, **more)[0].silent_s is None
    (idle,) = read_trainings(events, is_driven=False, now=now)
    assert (idle.state, idle.silent_s) == ("interrupted", None)
    packed = [{**event, "seconds": 30.0, "together": 4} for event in events]
    (hanging,) = read_trainings(packed, is_driven=True, now=now)
    assert hanging.silent_s == 1201, "its seconds are its share of those of four trainings"
    for event in packed:
        event["together"] = 5
    assert read_trainings(packed, is_driven=True, now=now)[0].silent_s is None


@pytest.mark.parametrize(("pack", "may_wait"), [(1, False), ("auto", True)])
def test_trainings_of_a_study_with_packs_may_wait(
    storage: Path, study: Study, monkeypatch: pytest.MonkeyPatch, pack: Any, may_wait: bool
) -> None:
    resources = study.resources.model_copy(update={"pack": pack, "hang_minutes": 7.0})
    path = folders.make(storage / study.name)
    folders.keep_spec(study.model_copy(update={"resources": resources}), path)
    given: dict[str, Any] = {}

    def note(_: Any, **more: Any) -> tuple[()]:
        given.update(more)
        return ()

    monkeypatch.setattr(status, "read_trainings", note)
    status.read_status(path)
    assert (given["may_wait"], given["given_s"]) == (may_wait, 420.0)


def test_a_training_that_waits_for_its_pack_does_not_hang() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    start = {"event": "started", "epochs": 9, "lr": 1e-4}
    epoch = {"event": "epoch", "epoch": 1, "best_val_miou": 0.5, "seconds": 10.0}
    every: list[tuple[int, str, dict[str, Any]]] = [
        (3600, "baseline-seed1", start),
        (3600, "baseline-seed2", start),  # waits until the first one is over
        (20, "baseline-seed1", epoch),
    ]
    events: list[dict[str, Any]] = [
        {**event, "key": key, "time": (now - timedelta(seconds=ago)).isoformat()}
        for ago, key, event in every
    ]
    alone = read_trainings(events, is_driven=True, now=now)
    assert [training.silent_s for training in alone] == [None, 3600]
    packed = read_trainings(events, is_driven=True, may_wait=True, now=now)
    assert [training.silent_s for training in packed] == [None, None]
    later = read_trainings(events, is_driven=True, may_wait=True, now=now + timedelta(hours=1))
    assert [training.silent_s for training in later] == [3620, 3620], "none of them goes on"
