"""A disk that is full at each place that writes: one message, and the same command gives the same result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cryo_hpo.config import dump_study

from ..support.disks import small_disk
from ..support.outcomes import check_same_outcome
from ..support.sandbox import LR, Sandbox

# What is about to be written when the disk is full, in the order of a study; below its folder.
PLACES = {
    "the log": r"/events\.jsonl$",
    "the search's journal": r"/journal\.log$",
    "a checkpoint": r"/trials/.*last\.pt",
    "the winner": r"/\.winner",
    "a checkpoint of the final comparison": r"/confirm/.*last\.pt",
    "the best model of the final comparison": r"/confirm/.*best\.pt",
    "the test scores": r"/\.?test-scores\.json",
    "a figure of the report": r"/report/.*\.png",
    "the report": r"/report/.*report\.html",
    "the result": r"/\.result\.json",
    "the winner's model": r"/mlflow-model/",
}
# Imports once, then forks a driver for each place. It fills the disk for real, just before a file
# is opened for writing there: whatever writes next, C++ and SQLite among it, has no room.
DRIVERS = """
import json, os, re, sys
from pathlib import Path
import mlflow, optuna, rasterio, torch
from cryo_hpo.cli.main import main
from cryo_hpo.execution import inline
from cryo_hpo.study import run
from tests.support.disks import fill

storage, words = Path(sys.argv[1]), sys.argv[3:]
filler = storage / "filler"
torch.set_num_threads(1)
FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def drive(place):
    def watch(event, args):
        if event == "open":
            writes = set(args[1] or "") & set("wax+") or (args[1] is None and args[2] & FLAGS)
        else:
            writes = event in ("os.mkdir", "os.rename")
        path = str(args[0]) if args else ""
        if writes and path.startswith(f"{storage}/") and not filler.exists():
            if place and re.search(place, path):
                fill(filler)

    sys.addaudithook(watch)
    try:
        main(words)
    except SystemExit as ended:
        sys.stdout.flush()
        os._exit(int(ended.code or 0))
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(99)


for place in [*json.loads(sys.argv[2]), ""]:
    pid = os.fork()
    if not pid:
        drive(place)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(f"##{json.dumps([place, code, filler.exists()])}", flush=True)
    filler.unlink(missing_ok=True)
"""


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_place_costs_nothing(sandbox: Sandbox) -> None:
    search = {
        "space": {"params": {"optim.lr": LR}},
        "trials": 1,
        "scheduler": {"kind": "none"},
    }
    study = sandbox.study("whole", log_model=True, search=search, seeds=(1,))
    spec = sandbox.root / "full.yaml"
    spec.write_text(dump_study(study))
    storage = sandbox.root / "full-anywhere"
    env = {**os.environ, **sandbox.places(storage.name), "OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), env.get("PYTHONPATH", "")])
    words = [str(storage), json.dumps(list(PLACES.values())), "run", "--inline", str(spec)]
    with small_disk(storage):
        done = subprocess.run(
            [sys.executable, "-c", DRIVERS, *words],
            env=env,
            cwd=sandbox.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=800,
            check=False,
        )
        assert "Traceback" not in done.stdout, done.stdout
        assert "refuses a record" not in done.stdout, done.stdout
        *attempts, (_, code, _) = [
            json.loads(line[2:]) for line in done.stdout.splitlines() if line.startswith("##")
        ]
        for name, (_, ended, was_full) in zip(PLACES, attempts, strict=True):
            assert was_full, (name, done.stdout)
            assert ended == 1, (name, done.stdout)
        assert done.stdout.lower().count("free space") >= len(PLACES), done.stdout
        assert "\nNo space left on device." not in done.stdout, "each message says where"
        assert code == 0, done.stdout
        assert not (storage / study.name / "events.jsonl.refused").exists(), (
            "MLflow has all records"
        )
        sandbox.run(study.model_copy(update={"log_model": False}), "undisturbed")
        check_same_outcome(storage / study.name, sandbox.root / "undisturbed" / study.name)
