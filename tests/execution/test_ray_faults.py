"""Ray's own processes killed in whole studies: reported, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from cryo_hpo.config import Study, dump_study

from ..support.clusters import below, head, members
from ..support.disks import fill, small_disk
from ..support.outcomes import check_same_outcome
from ..support.recorded import has_begun
from ..support.sandbox import Sandbox, finish, wait_for

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
WITHIN_S = 60.0  # from the death of Ray to the end of the driver
PROGRAM = """
import sys
import cryo_hpo
try:
    cryo_hpo.run_study(sys.argv[1])
except cryo_hpo.CryoError as error:
    print(f"caught: {error}", flush=True)
    sys.exit(7)
"""


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


@pytest.mark.parametrize("by", ["command line", "program"])
def test_a_study_whose_raylet_is_killed_ends_within_a_minute_and_is_resumed(
    sandbox: Sandbox, inline: Path, by: str
) -> None:
    study, storage = sandbox.study("whole"), f"killed-raylet-{by.split()[0]}"
    folder = sandbox.root / storage / study.name
    start, code = (_start_program, 7) if by == "program" else (_start_command, 1)
    driver = start(sandbox, study, storage)
    wait_for(driver, partial(has_begun, folder, "trial-0001"))
    _check_end(driver, folder, partial(os.kill, _process(driver.pid, "raylet"), 9), code)
    sandbox.run(study, storage)
    check_same_outcome(folder, inline)


def test_a_study_whose_gcs_is_killed_ends_within_a_minute_and_is_resumed(
    sandbox: Sandbox, inline: Path
) -> None:
    """Tune waits for the GCS wherever it is, and nothing interrupts that: the watch ends the process."""
    study, storage = sandbox.study("whole"), "killed-gcs"
    folder = sandbox.root / storage / study.name
    driver = _start_command(sandbox, study, storage)
    wait_for(driver, partial(has_begun, folder, "trial-0001"))
    _check_end(driver, folder, partial(os.kill, _process(driver.pid, "gcs_server"), 9), 1)
    sandbox.run(study, storage)
    check_same_outcome(folder, inline)


def test_a_study_whose_joined_head_is_killed_ends_within_a_minute_and_is_resumed(
    sandbox: Sandbox, inline: Path, tmp_path: Path
) -> None:
    """The driver has joined by address: it sees the death only in that nobody answers any more."""
    study, storage = sandbox.study("whole"), "killed-head"
    folder = sandbox.root / storage / study.name
    with head(tmp_path) as running:
        driver = sandbox.start(study, storage, inline=False, env=running.joined)
        wait_for(driver, partial(has_begun, folder, "trial-0001"))
        programs = members(running.env["RAY_AUTH_TOKEN_PATH"])
        (gcs,) = [pid for pid, line in programs.items() if line.split()[0].endswith("/gcs_server")]
        _check_end(driver, folder, partial(os.kill, gcs, 9), 1)
    sandbox.run(study, storage)
    check_same_outcome(folder, inline)


def test_a_disk_that_fills_under_ray_is_one_message_and_the_study_is_resumed(
    sandbox: Sandbox, inline: Path
) -> None:
    """Driver, workers, MLflow's database: whichever writes first has no room."""
    study, storage = sandbox.study("whole"), "full"
    folder, filler = sandbox.root / storage / study.name, sandbox.root / storage / "filler"
    with small_disk(sandbox.root / storage):
        driver = _start_command(sandbox, study, storage)
        wait_for(driver, partial(has_begun, folder, "trial-0001"))
        fill(filler)
        output = finish(driver, code=1)
        assert "Traceback" not in output, output
        assert re.search("free space", output, re.IGNORECASE), output
        assert not (folder / "result.json").exists()
        filler.unlink()
        sandbox.run(study, storage)
        check_same_outcome(folder, inline)


def test_a_study_runs_on_ray_where_shared_memory_is_small(sandbox: Sandbox, inline: Path) -> None:
    """As in a container without --shm-size: 64 MB, of which Ray wants more."""
    study, storage = sandbox.study("whole"), "small-shm"
    mount = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'
    inside = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small /dev/shm")
    output = finish(sandbox.start(study, storage, inline=False, before=inside))
    assert "Traceback" not in output
    check_same_outcome(sandbox.root / storage / study.name, inline)


def _start_command(sandbox: Sandbox, study: Study, storage: str) -> subprocess.Popen[str]:
    return sandbox.start(study, storage, inline=False)


def _start_program(sandbox: Sandbox, study: Study, storage: str) -> subprocess.Popen[str]:
    """Start a study from a program of its own, which catches the error."""
    spec = sandbox.root / f"{storage}.yaml"
    spec.write_text(dump_study(study))
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(spec)],
        env={**os.environ, **sandbox.places(storage), "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    sandbox.started.append(process)
    return process


def _check_end(
    driver: subprocess.Popen[str], folder: Path, kill: Callable[[], None], code: int
) -> None:
    """Kill a part of Ray, and check how the driver ends."""
    kill()
    killed = time.monotonic()
    output = finish(driver, code=code)
    assert time.monotonic() - killed < WITHIN_S
    assert "Ray died: its " in output
    assert "run the same command again" in output
    assert "Traceback" not in output
    assert "RUNNING" not in _states(folder.parent)
    assert not (folder / "result.json").exists()


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
