"""A worker that stops, and Ray's own processes killed, in whole studies: reported, and nothing is lost."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from cryo_hpo.study.status import read_trainings

from ..support.clusters import Head, below
from ..support.outcomes import check_same_outcome
from ..support.recorded import has_begun, recorded_epochs, recorded_events
from ..support.sandbox import Sandbox, finish, wait_for

pytestmark = pytest.mark.ray

HANG_S = 30.0  # longer than a worker takes to start on a busy machine


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"))
    yield sandbox
    sandbox.close()


@pytest.fixture(scope="module")
def inline(sandbox: Sandbox) -> Path:
    """The folder of the study that ran through in one process."""
    study = sandbox.study("whole")
    sandbox.run(study, "inline")
    return sandbox.root / "inline" / study.name


def test_a_stopped_worker_is_reported_shown_ended_and_its_training_restarted(
    sandbox: Sandbox, inline: Path, ray_head: Head
) -> None:
    resources = {"cpus": 1, "gpus": 0, "hang_minutes": HANG_S / 60, "hanging": "restart"}
    study = sandbox.study("whole", resources=resources)
    folder = sandbox.root / "hanging" / study.name
    driver = sandbox.start(study, "hanging", inline=False, env=ray_head.joined)
    wait_for(driver, lambda: len(recorded_epochs(folder)) >= 2)
    worker = recorded_events(folder, "epoch")[-1]["pid"]
    os.kill(worker, signal.SIGSTOP)
    output = finish(driver)
    assert "has reported no epoch for" in output
    assert f"process {worker} on" in output
    assert "It is ended, and the training starts again" in output
    assert not Path(f"/proc/{worker}").exists()
    assert _shown_as_hanging(folder)
    check_same_outcome(folder, inline)


def _shown_as_hanging(folder: Path) -> bool:
    """Return whether `status` showed a hanging training, just before the log's next event."""
    events = recorded_events(folder)
    times = [datetime.fromisoformat(event["time"]) for event in events]
    silent_s = [(b - a).total_seconds() for a, b in itertools.pairwise(times)]
    at = silent_s.index(max(silent_s)) + 1
    shown = read_trainings(events[:at], is_driven=True, given_s=HANG_S, now=times[at])
    return any(training.silent_s for training in shown)


def test_a_study_whose_ray_is_killed_ends_within_a_minute_and_is_resumed(
    sandbox: Sandbox, inline: Path
) -> None:
    """First the GCS of its local cluster, then the raylet of the next one."""
    study = sandbox.study("whole")
    folder = sandbox.root / "killed" / study.name
    for victim, training in (("gcs_server", "trial-0001"), ("raylet", "trial-0003")):
        driver = sandbox.start(study, "killed", inline=False)
        wait_for(driver, partial(has_begun, folder, training))
        os.kill(_process(driver.pid, victim), signal.SIGKILL)
        killed = time.monotonic()
        output = finish(driver, code=1)
        assert time.monotonic() - killed < 60
        assert f"its {victim} (process" in output
        assert "run the same command again" in output
        assert "Traceback" not in output
        assert "RUNNING" not in _states(folder.parent)
    sandbox.run(study, "killed")
    check_same_outcome(folder, inline)


def _process(driver: int, name: str) -> int:
    """Return the process of a driver's local cluster whose program has a name."""
    programs = {pid: line.partition("\0")[0] for pid, line in below(driver).items()}
    (process,) = [pid for pid, program in programs.items() if program.endswith(f"/{name}")]
    return process


def _states(storage: Path) -> set[str]:
    """Return the states of all runs in a storage's MLflow database."""
    database = sqlite3.connect(f"file:{storage}/mlflow.db?mode=ro", uri=True)
    with contextlib.closing(database) as opened:
        return {state for (state,) in opened.execute("select status from runs")}
