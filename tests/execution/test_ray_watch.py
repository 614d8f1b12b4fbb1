"""Processes of the local cluster that die are found, reported in our words, and end a study that waits."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from cryo_hpo.errors import ClusterDied
from cryo_hpo.execution.ray_watch import ProcessWatch, ended, raise_if_dead, watching
from cryo_hpo.execution.signals import Stopped, raise_if_asked, stoppable


@pytest.fixture
def raylet() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def _wait(watch: ProcessWatch) -> None:
    until = time.monotonic() + 20
    while not watch.problem and time.monotonic() < until:
        time.sleep(0.02)


def test_a_killed_process_is_named_with_the_remedy(raylet: subprocess.Popen[bytes]) -> None:
    with watching({"raylet": raylet.pid}) as watch:
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
        watch = ProcessWatch({"gcs_server": raylet.pid}, stuck_s=0.1)
        raylet.kill()
        with pytest.raises(Stopped):
            time.sleep(20)  # as a call of Ray that never returns
        raise_if_asked_is_quiet = signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert raise_if_asked_is_quiet, "the clean-up must not be interrupted"
        watch.close()


def test_nothing_is_asked_of_a_cluster_elsewhere() -> None:
    with watching({}) as watch:
        assert watch.problem == ""
        raise_if_dead()
        raise_if_asked()
