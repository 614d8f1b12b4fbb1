"""Processes of the local cluster that die are found, reported in our words, and end a study that waits."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cryo_hpo.errors import ClusterDied
from cryo_hpo.execution.closing import closing_once
from cryo_hpo.execution.ray_watch import (
    ClusterWatch,
    Patience,
    Silence,
    ended,
    probes_of,
    raise_if_dead,
    watching,
)
from cryo_hpo.execution.signals import Stopped, raise_if_asked, stoppable


@pytest.fixture
def raylet() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def _wait(watch: ClusterWatch) -> None:
    until = time.monotonic() + 20
    while not watch.problem and time.monotonic() < until:
        time.sleep(0.02)


def _wait_until_dead() -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        raise_if_dead()
        time.sleep(0.02)


def test_a_killed_process_is_named_with_the_remedy(raylet: subprocess.Popen[bytes]) -> None:
    with watching(probes_of({"raylet": raylet.pid}, {})) as watch:
        raise_if_dead()
        raylet.kill()
        _wait(watch)
        with pytest.raises(
            ClusterDied, match=rf"its raylet \(process {raylet.pid}\) ended.*same command"
        ):
            raise_if_dead()
    raise_if_dead()


def test_a_zombie_has_ended_and_a_living_process_has_not(raylet: subprocess.Popen[bytes]) -> None:
    assert not ended(raylet.pid)
    raylet.kill()
    until = time.monotonic() + 20
    while not ended(raylet.pid) and time.monotonic() < until:  # nobody has waited for it
        time.sleep(0.02)
    assert ended(raylet.pid)


def test_a_study_that_waits_for_dead_ray_is_stopped(raylet: subprocess.Popen[bytes]) -> None:
    with stoppable():
        patience = Patience(stuck_s=0.1, end_s=600)
        watch = ClusterWatch(probes_of({"gcs_server": raylet.pid}, {}), patience=patience)
        raylet.kill()
        with pytest.raises(Stopped):
            time.sleep(20)  # as a call of Ray that never returns
        raise_if_asked_is_quiet = signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert raise_if_asked_is_quiet, "the clean-up must not be interrupted"
        watch.close()


STUCK = """
import ctypes, sys
from pathlib import Path
from cryo_hpo.execution.closing import closing_once
from cryo_hpo.execution.ray_watch import ClusterWatch, Patience
from cryo_hpo.execution.signals import stoppable

def fail(error):
    raise OSError("no room")

def close(error):
    Path(sys.argv[1]).write_text(str(error))

with stoppable(), closing_once(fail), closing_once(close):
    print("not flushed")
    watch = ClusterWatch({"gcs_server ended": lambda: True}, patience=Patience(0.1, 0.1))
    lock, libc = ctypes.create_string_buffer(256), ctypes.CDLL(None)
    libc.pthread_mutex_lock(lock)
    libc.pthread_mutex_lock(lock)  # as a call of Ray's library: no signal ends it
"""


def test_a_process_that_nothing_interrupts_is_ended_with_its_records_closed(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", STUCK, tmp_path / "closed"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert ended.stdout == "not flushed\n"
    assert "Ray died: its gcs_server ended. No trial is lost: run the same command" in ended.stderr
    assert "could not be closed: no room" in ended.stderr
    assert "Ray died" in (tmp_path / "closed").read_text()


def test_records_are_closed_once_and_again_only_if_that_was_interrupted() -> None:
    closed: list[str] = []

    def close(error: BaseException) -> None:
        closed.append(str(error))
        if len(closed) == 1:
            raise KeyboardInterrupt

    with closing_once(close) as closing:
        with pytest.raises(KeyboardInterrupt):
            closing(ValueError("interrupted"))
        closing(ValueError("again"))
        closing(ValueError("twice"))
    assert closed == ["interrupted", "again"]


def test_a_watch_that_is_closed_ends_nothing(raylet: subprocess.Popen[bytes]) -> None:
    """A study closes its watch before Ray's own shutdown, which ends what is watched."""
    closed: list[str] = []
    with (
        stoppable(),
        closing_once(lambda error: closed.append(str(error))),
        watching(probes_of({"raylet": raylet.pid}, {}), patience=Patience(0, 0)) as watch,
    ):
        watch.close()
        raylet.kill()
        raylet.wait()
        time.sleep(0.6)
        raise_if_asked()
    assert (watch.problem, closed) == ("", [])


def test_a_server_that_refuses_every_connection_for_a_while_is_named() -> None:
    now = [0.0]
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        silence = Silence(address, grace_s=30, clock=lambda: now[0])
        now[0] = 100.0
        assert not silence(), "it accepts connections, though nobody serves them"
    now[0] = 129.0
    assert not silence(), "a head may be started again"
    now[0] = 131.0
    assert silence()
    assert list(probes_of({}, {"gcs_server": address})) == [
        f"gcs_server ({address}) does not answer"
    ]


def test_nothing_is_asked_of_a_cluster_elsewhere() -> None:
    with watching({}) as watch:
        assert watch.problem == ""
        raise_if_dead()
        raise_if_asked()


def test_a_cluster_that_dies_is_ended_without_rays_own_shutdown(
    raylet: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = pytest.importorskip("cryo_hpo.execution.ray_driver")
    calls: list[str] = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(driver.ray, "init", lambda **_: calls.append("init"))
    monkeypatch.setattr(driver.ray, "shutdown", lambda: calls.append("shutdown"))
    monkeypatch.setattr(driver, "own_processes", lambda: {"raylet": raylet.pid})
    monkeypatch.setattr(driver, "end_dead_cluster", lambda: calls.append("end"))
    with driver.cluster():
        raise_if_dead()
    assert calls == ["init", "shutdown"]
    raylet.kill()
    with pytest.raises(ClusterDied, match="its raylet"), driver.cluster():
        _wait_until_dead()
    assert calls == ["init", "shutdown", "init", "end"]


def test_a_stop_that_the_watch_requested_is_raised_as_the_death_of_ray(
    raylet: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = pytest.importorskip("cryo_hpo.execution.ray_driver")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(driver.ray, "init", lambda **_: None)
    monkeypatch.setattr(driver.ray, "shutdown", lambda: None)
    monkeypatch.setattr(driver, "own_processes", lambda: {"raylet": raylet.pid})
    monkeypatch.setattr(driver, "end_dead_cluster", lambda: None)
    monkeypatch.setattr(driver, "LOCAL", Patience(stuck_s=0, end_s=600))
    raylet.kill()
    with pytest.raises(ClusterDied, match="its raylet"), driver.cluster(), stoppable():
        time.sleep(20)
    with pytest.raises(Stopped), driver.cluster():
        raise Stopped


def test_ray_that_does_not_start_is_reported_in_our_words(monkeypatch: pytest.MonkeyPatch) -> None:
    start = pytest.importorskip("cryo_hpo.execution.ray_start")

    def fail(**_: object) -> None:
        raise Exception("The current node timed out during startup. This could happen")

    monkeypatch.setattr(start.ray, "init", fail)
    with pytest.raises(ClusterDied, match=r"Ray did not start: The current node.*cryo-hpo doctor"):
        start.start_ray(joins=False)
    with pytest.raises(ClusterDied, match="Check RAY_ADDRESS"):
        start.start_ray(joins=True)
