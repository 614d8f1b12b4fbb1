"""A study that is killed at twenty random writes ends as one that nobody touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cryo_hpo.config import dump_study
from cryo_hpo.results.study import load_result

from ..support.outcomes import check_same_outcome
from ..support.sandbox import Sandbox

KILLS = 20
# Imports once, then forks a driver for each attempt: the driver kills itself at a random one of its
# next writes (files opened for writing or renamed, and syncs to the disk).
DRIVERS = """
import json, os, random, signal, sys
import mlflow, optuna, rasterio, torch
from cryo_hpo.cli.main import main
from cryo_hpo.execution import inline
from cryo_hpo.study import run

seed, kills, most, words = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
torch.set_num_threads(1)
rng = random.Random(seed)


def drive(limit):
    seen = 0

    def count(event="", args=()):
        nonlocal seen
        writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
        if event in ("", "os.rename") or writes:
            seen += 1
            if seen == limit:
                os.kill(os.getpid(), signal.SIGKILL)

    sync = os.fsync
    os.fsync = lambda file: (count(), sync(file))[1]
    sys.addaudithook(count)
    try:
        main(words)
    except SystemExit as ended:
        sys.stdout.flush()
        os._exit(int(ended.code or 0))


limits = [rng.randint(1, most) for _ in range(kills)] + [0]
died = 0
for limit in limits:
    pid = os.fork()
    if not pid:
        drive(limit)
    _, status = os.waitpid(pid, 0)
    died += os.WIFSIGNALED(status)
    if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status):
        sys.exit(f"exit {os.waitstatus_to_exitcode(status)} after {died} kills")
print(json.dumps({"died": died}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_study_killed_at_twenty_random_writes_has_the_same_result(
    sandbox: Sandbox, finished: Callable[[str], Path], seed: int
) -> None:
    whole = finished("promote")
    study = sandbox.study(whole.name)
    spec = sandbox.root / f"kills-{seed}.yaml"
    spec.write_text(dump_study(study))
    env = {**os.environ, **sandbox.places(f"kills-{seed}"), "OMP_NUM_THREADS": "1"}
    words = [str(seed), str(KILLS), "120", "run", "--inline", str(spec)]
    done = subprocess.run(
        [sys.executable, "-c", DRIVERS, *words],
        env=env,
        cwd=sandbox.root,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    died = json.loads(done.stdout.splitlines()[-1])["died"]
    folder = sandbox.root / f"kills-{seed}" / study.name
    assert died >= KILLS // 2, "the study was over before most of the kills"
    check_same_outcome(folder, whole)
    assert load_result(folder).improvement == load_result(whole).improvement
