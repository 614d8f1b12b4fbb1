"""Run small whole studies in processes of their own, and interrupt them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryo_hpo.config import Study, dump_study

from .fakes import fake_folder

EPOCHS, TRIALS, SEEDS = 4, 5, (1, 2)
LR = {"kind": "float", "low": 1e-3, "high": 1e-1, "log": True}
RULES: dict[str, dict[str, Any]] = {
    "promote": {"kind": "asha", "rule": "promote", "grace_epochs": 1, "reduction": 2},
    "stop": {"kind": "asha", "rule": "stop", "grace_epochs": 1, "reduction": 2},
    "none": {"kind": "none"},
}


class Sandbox:
    """Hold a data root with sixteen small scenes, and as many storages as there are tests."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.started: list[subprocess.Popen[str]] = []
        self.card = fake_folder(root / "data", num=(12, 2, 2), size=(32, 32))

    def study(self, name: str, *, rule: str = "promote", **changes: Any) -> Study:
        """Return a study of five trials of four epochs and two seeds, with any field replaced."""
        fields = {
            "name": name,
            "base": {
                "data": {"card": self.card.model_dump(mode="json"), "crop": 32},
                "model": {"encoder": "unet", "decoder": "unet", "width": 4},
                "optim": {"lr": 3e-3, "schedule": "constant"},
                "batch_size": 2,
                "epochs": EPOCHS,
            },
            "search": {
                "space": {"params": {"optim.lr": LR}},
                "trials": TRIALS,
                "scheduler": RULES[rule],
                "parallel": 1,
            },
            "seeds": SEEDS,
        }
        return Study.model_validate_json(json.dumps({**fields, **changes}))

    def places(self, storage: str) -> dict[str, str]:
        """Return the variables that lead a study to the data and to one of the storages."""
        names = {"CRYO_DATA": "data", "CRYO_CACHE": "cache", "CRYO_STORAGE": storage}
        return {name: str(self.root / folder) for name, folder in names.items()}

    def start(self, study: Study, storage: str, *command: str) -> subprocess.Popen[str]:
        """Start the command line on a study, in a process group of its own."""
        spec = self.root / f"{storage}-{study.name}.yaml"
        spec.write_text(dump_study(study))
        process = subprocess.Popen(
            [sys.executable, "-m", "cryo_hpo", *(command or ("run", str(spec)))],
            cwd=self.root,
            env={**os.environ, **self.places(storage), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, study: Study, storage: str, *command: str, code: int = 0) -> str:
        """Run the command line to its end, and return what it printed."""
        process = self.start(study, storage, *command)
        output, _ = process.communicate(timeout=500)
        assert process.returncode == code, output
        return output

    def close(self) -> None:
        """Kill what a failed test left running."""
        for process in self.started:
            if process.poll() is None:
                kill(process)


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    """Wait until a running study has come to a point; fail if it ends before."""
    end = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "the study did not get there"
        time.sleep(0.02)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a driver with SIGKILL; Ray processes that it started notice by themselves."""
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
