"""Whole studies on a Ray cluster whose driver, worker or neighbor fails: the outcome of an inline run.

One trial runs at a time, so that the order of proposals is the same.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from cryo_hpo.results.study import load_result

from ..support.clusters import Head
from ..support.outcomes import check_same_outcome
from ..support.recorded import has_begun, recorded_epochs, recorded_events
from ..support.sandbox import Sandbox, finish, kill, wait_for

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"))
    yield sandbox
    sandbox.close()


@pytest.fixture(scope="module")
def inline(sandbox: Sandbox) -> Callable[[str], Path]:
    """Rule -> the folder of the study that ran through in one process; each runs once."""
    folders: dict[str, Path] = {}

    def of(rule: str) -> Path:
        if rule not in folders:
            study = sandbox.study(f"whole-{rule}", rule=rule)
            sandbox.run(study, "inline")
            folders[rule] = sandbox.root / "inline" / study.name
        return folders[rule]

    return of


@pytest.mark.parametrize(
    ("rule", "points"), [("promote", ["trial-0002", "baseline-seed2"]), ("stop", ["trial-0003"])]
)
def test_a_killed_driver_is_resumed_to_the_same_outcome(
    sandbox: Sandbox, inline: Callable[[str], Path], ray_head: Head, rule: str, points: list[str]
) -> None:
    study, storage = sandbox.study(f"whole-{rule}", rule=rule), f"killed-{rule}"
    folder = sandbox.root / storage / study.name
    for point in points:
        driver = sandbox.start(study, storage, inline=False, env=ray_head.joined)
        wait_for(driver, partial(has_begun, folder, point))
        kill(driver)
        assert not (folder / "result.json").exists()
    resumed = sandbox.start(study, storage, "resume", inline=False, env=ray_head.joined)
    assert "Traceback" not in finish(resumed)
    check_same_outcome(folder, inline(rule))


def test_a_second_driver_is_refused_and_a_lost_worker_is_replaced(
    sandbox: Sandbox, inline: Callable[[str], Path], ray_head: Head
) -> None:
    study, storage = sandbox.study("whole-promote"), "worker"
    folder = sandbox.root / storage / study.name
    first = sandbox.start(study, storage, inline=False, env=ray_head.joined)
    wait_for(first, lambda: len(recorded_epochs(folder)) >= 2)
    worker = recorded_events(folder, "epoch")[-1]["pid"]
    os.kill(worker, signal.SIGKILL)
    second = sandbox.start(study, storage, inline=False, env=ray_head.joined)
    refusal = finish(second, code=1)
    assert f"process {first.pid} on {os.uname().nodename}" in refusal
    finish(first)
    pids = {event["pid"] for event in recorded_events(folder, "epoch")}
    assert pids > {worker}, "another process continues"
    check_same_outcome(folder, inline("promote"))


def test_a_cluster_of_another_user_on_this_machine_is_left_alone(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray notes the address of a cluster that was started here, and would join it."""
    scratch = Path(tempfile.mkdtemp(prefix="r-", dir="/tmp"))  # sockets take short paths only
    (scratch / "ray").mkdir()
    (scratch / "ray" / "ray_current_cluster").write_text("127.0.0.1:9")
    monkeypatch.setenv("RAY_TMPDIR", str(scratch))
    base = sandbox.study("x").base.model_dump(mode="json")
    study = sandbox.study("alone", search=None, seeds=(1,), base={**base, "epochs": 1})
    try:
        finish(sandbox.start(study, "beside", inline=False))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    assert load_result(sandbox.root / "beside" / "alone").arms
