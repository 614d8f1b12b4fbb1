"""Run small whole studies, in this process or in one that can be interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from cryo_hpo.cli.main import main
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
    """Hold a data root with sixteen small scenes, and one storage per test."""

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
            "reuse": False,  # studies of one storage are compared in whole
            "log_model": False,  # a third of a tiny study's time; tests of it turn it on
        }
        return Study.model_validate_json(json.dumps({**fields, **changes}))

    def places(self, storage: str) -> dict[str, str]:
        """Return the environment variables that set a study's data root and storage."""
        names = {"CRYO_DATA": "data", "CRYO_CACHE": "cache", "CRYO_STORAGE": storage}
        return {name: str(self.root / folder) for name, folder in names.items()}

    def run(self, study: Study, storage: str, command: str = "run") -> str:
        """Run the command line on a study to its end, inline, and return its output."""
        words = self._words(study, storage, command, inline=True)
        done = CliRunner().invoke(main, words, env=self.places(storage), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    def start(
        self,
        study: Study,
        storage: str,
        command: str = "run",
        *,
        inline: bool = True,
        env: Mapping[str, str] = {},
        before: Sequence[str] = (),
    ) -> subprocess.Popen[str]:
        """Start the command line on a study in a process of its own, which can be killed.

        Args:
            study: The study.
            storage: Name of the storage to use.
            command: run, or a command that takes a study's name.
            inline: Whether it trains in that process; otherwise on Ray.
            env: Further variables, such as the address of a cluster.
            before: Words before the command, of a program that becomes it.
        """
        process = subprocess.Popen(
            [
                *before,
                sys.executable,
                "-m",
                "cryo_hpo",
                *self._words(study, storage, command, inline=inline),
            ],
            cwd=self.root,
            env={**os.environ, **self.places(storage), "OMP_NUM_THREADS": "1", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def _words(self, study: Study, storage: str, command: str, *, inline: bool) -> list[str]:
        """Write the study's file, and return the words after `cryo-hpo`."""
        spec = self.root / f"{storage}-{study.name}.yaml"
        spec.write_text(dump_study(study))
        options = ["--inline"] if inline and command in ("run", "resume") else []
        return [command, *options, str(spec) if command == "run" else study.name]

    def close(self) -> None:
        """Kill processes that a failed test left running."""
        for process in self.started:
            if process.poll() is None:
                kill(process)


def finish(process: subprocess.Popen[str], *, code: int = 0) -> str:
    """Wait until a driver has ended with an exit code, and return its output."""
    output, _ = process.communicate(timeout=500)
    assert process.returncode == code, output
    return output


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    """Wait until a running study meets a condition; fail if it ends before."""
    end = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "the study did not get there"
        time.sleep(0.02)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a driver with SIGKILL; the Ray processes that it started end by themselves."""
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
