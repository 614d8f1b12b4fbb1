"""A disk that is full from any write on: one message, and the same command gives the same result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cryo_hpo.config import dump_study

from ..support.outcomes import check_same_outcome
from ..support.sandbox import Sandbox

FULL = 12
# Imports once, then forks a driver for each attempt, whose disk takes nothing from a random write on.
# What C++ writes is covered where it is synchronized: a draft is opened for that.
DRIVERS = """
import errno, json, os, random, sys
import mlflow, optuna, rasterio, torch
from cryo_hpo.cli.main import main
from cryo_hpo.execution import inline
from cryo_hpo.study import run

times, most, storage, words = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
torch.set_num_threads(1)
rng = random.Random(0)
FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def drive(limit):
    seen = 0

    def count(event="", args=()):
        nonlocal seen
        writes = event == "open" and (
            set(args[1] or "") & set("wax+") or (args[1] is None and args[2] & FLAGS)
        )
        if event in ("os.rename", "os.mkdir") or writes:
            if not str(args[0]).startswith(storage):
                return
            seen += 1
            if limit and seen >= limit:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(args[0]))

    sys.addaudithook(count)
    try:
        main(words)
    except SystemExit as ended:
        sys.stdout.flush()
        os._exit(int(ended.code or 0))
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(99)


codes = []
for limit in [rng.randint(1, most) for _ in range(times)] + [0]:
    pid = os.fork()
    if not pid:
        drive(limit)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(json.dumps(codes))
"""


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_write_costs_nothing(
    sandbox: Sandbox, finished: Callable[[str], Path]
) -> None:
    whole = finished("promote")
    study = sandbox.study(whole.name)
    spec = sandbox.root / "full.yaml"
    spec.write_text(dump_study(study))
    storage = sandbox.root / "full-anywhere"
    env = {**os.environ, **sandbox.places(storage.name), "OMP_NUM_THREADS": "1"}
    words = [str(FULL), "120", str(storage), "run", "--inline", str(spec)]
    done = subprocess.run(
        [sys.executable, "-c", DRIVERS, *words],
        env=env,
        cwd=sandbox.root,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "Traceback" not in output, output
    codes = json.loads(done.stdout.splitlines()[-1])
    assert set(codes[:-1]) <= {0, 1}, output  # 0: nothing but the report's figures had no room
    assert codes.count(1) >= FULL // 2, codes
    assert codes[-1] == 0, output
    check_same_outcome(storage / study.name, whole)
