"""A study in one process: no Ray, a debugger works, and what goes wrong ends as it does on Ray."""

from __future__ import annotations

import bdb
import io
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from rich.console import Console

from cryo_hpo.config import Resources, Site, load_study
from cryo_hpo.errors import SpecError, StorageError
from cryo_hpo.execution.attempts import CRASHES
from cryo_hpo.execution.executor import TrialResources
from cryo_hpo.execution.inline import InlineExecutor
from cryo_hpo.execution.signals import Stopped, stoppable
from cryo_hpo.results.study import load_result
from cryo_hpo.search.jobs import MESSAGE, OUTCOME, Job, Outcome
from cryo_hpo.study.run import run_study

from ..support.clusters import tiny_study
from ..support.recorded import recorded_epochs

ONE = TrialResources(cpus=1, gpus=0, parallel=1)
SITE = Site.from_env({})


class Jobs:
    """A source of jobs "0", "1", ... that keeps what it is told, and continues while told to."""

    def __init__(self, num: int, *, until: int = 9) -> None:
        self._left = [Job(str(n), "{}", f"/nowhere/{n}", keep_best=False) for n in range(num)]
        self._until = until
        self.epochs: list[tuple[str, int]] = []
        self.ends: list[tuple[str, Outcome, str]] = []

    def next(self) -> Job | Literal["wait"] | None:
        return self._left.pop(0) if self._left else None

    def epoch(self, job: Job, metrics: Mapping[str, float]) -> bool:
        self.epochs.append((job.key, int(metrics["epoch"])))
        return metrics["epoch"] < self._until

    def ended(self, job: Job, outcome: Outcome, message: str) -> None:
        self.ends.append((job.key, outcome, message))
        if outcome == "unwritable":
            raise StorageError(message)


class Training:
    """Trains three epochs; what happens in the second is given."""

    def __init__(self, second: Any = None) -> None:
        self.second, self.attempts, self.open = second, 0, 0
        self.errors: list[Exception] = []  # one for each attempt

    def __call__(self, _: Mapping[str, Any], **__: Any) -> Iterator[dict[str, Any]]:
        self.attempts += 1
        self.open += 1
        try:
            yield {"epoch": 1, "best_val_miou": 0.5}
            if self.errors:
                raise self.errors.pop(0)
            if isinstance(self.second, dict):
                yield self.second
                return
            if self.second is not None:
                raise self.second
            yield {"epoch": 2, "best_val_miou": 0.6}
            yield {"epoch": 3, "best_val_miou": 0.7}
        finally:
            self.open -= 1


def _run(source: Jobs, training: Training) -> None:
    InlineExecutor(training).run(source, site=SITE, slots=ONE)  # type: ignore[arg-type]


def test_jobs_run_one_after_another_and_end_where_the_source_says() -> None:
    source, training = Jobs(2, until=2), Training()
    _run(source, training)
    assert source.epochs == [("0", 1), ("0", 2), ("1", 1), ("1", 2)]
    assert source.ends == [("0", "done", ""), ("1", "done", "")]
    assert training.open == 0, "a job that is stopped is closed"


@pytest.mark.parametrize("outcome", ["diverged", "refused"])
def test_what_a_retry_cannot_fix_ends_the_job_at_once(outcome: Outcome) -> None:
    source, training = Jobs(1), Training({OUTCOME: outcome, MESSAGE: "why"})
    _run(source, training)
    assert (source.ends, training.attempts) == ([("0", outcome, "why")], 1)


def test_a_job_that_crashed_three_times_ends_with_its_last_line(caplog) -> None:
    source, training = Jobs(2), Training(RuntimeError("CUDA error: an illegal address"))
    _run(source, training)
    assert training.attempts == 2 * CRASHES == 6
    why = "RuntimeError: CUDA error: an illegal address"
    assert source.ends == [("0", "crashed", why), ("1", "crashed", why)]
    assert f"0 crashed, attempt 1 of {CRASHES}: {why}" in caplog.text


def test_a_job_whose_crashes_differ_ends_with_the_last() -> None:
    source, training = Jobs(1), Training()
    training.errors = [RuntimeError(f"race {n}") for n in range(9)]
    _run(source, training)
    assert training.attempts == CRASHES
    assert source.ends == [("0", "crashed", f"RuntimeError: race {CRASHES - 1}")]


def test_an_error_of_the_source_ends_the_run_and_is_not_retried() -> None:
    source, training = Jobs(2), Training({OUTCOME: "unwritable", MESSAGE: "the disk is full"})
    with pytest.raises(StorageError, match="the disk is full"):
        _run(source, training)
    assert (training.attempts, training.open) == (1, 0)


def test_leaving_the_debugger_stops_the_study() -> None:
    source, training = Jobs(1), Training(bdb.BdbQuit())
    with pytest.raises(Stopped, match="debugger"):
        _run(source, training)
    assert (training.attempts, source.ends) == (1, [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_after_the_epoch_in_which_it_comes(number: signal.Signals) -> None:
    class Signaled(Jobs):
        def epoch(self, job: Job, metrics: Mapping[str, float]) -> bool:
            signal.raise_signal(number)
            return super().epoch(job, metrics)

    source, training = Signaled(2), Training()
    with stoppable(), pytest.raises(Stopped, match=number.name):
        _run(source, training)
    assert (source.epochs, source.ends, training.open) == ([("0", 1)], [], 0)


def test_the_process_gets_its_threads_and_random_states_back(monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]  # noqa: NPY002
    threads = torch.get_num_threads()
    with InlineExecutor().cluster():
        torch.set_num_threads(threads + 1)
        os.environ["OMP_NUM_THREADS"] = "1"
        random.random()
        np.random.random()  # noqa: NPY002
        torch.rand(1)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]  # noqa: NPY002
    assert after == before
    assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (threads, "7")


def test_more_cores_than_the_machine_has_are_refused() -> None:
    wanted = Resources(cpus=(os.cpu_count() or 1) + 1, gpus=0)
    with pytest.raises(SpecError, match=r"resources\.cpus asks for .* this machine has up to"):
        InlineExecutor().slots(wanted, None)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("inline")
    halving = {"kind": "asha", "grace_epochs": 1, "reduction": 2}
    tiny_study(root, root / "data", name="tiny", search__scheduler=halving)
    return root


def _env(place: Path, storage: str) -> dict[str, str]:
    folders = {"DATA": place / "data", "CACHE": place / "cache", "STORAGE": place / storage}
    return {f"CRYO_{name}": str(folder) for name, folder in folders.items()}


def _python(
    place: Path, storage: str, code: str, **options: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **_env(place, storage), "RAY_ADDRESS": "nowhere:6379"},
        cwd=place,
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """The folder of a study that ran to its end in a process of its own."""
    code = """if True:
        import sys
        from cryo_hpo import run_study
        run_study("study.yaml", inline=True)
        print([name for name in sys.modules if name.partition(".")[0] == "ray"])
    """
    done = _python(place, "whole", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]", "Ray was imported"
    return place / "whole" / "tiny"


def _trace(folder: Path) -> list[tuple[Any, ...]]:
    return [(t.number, t.params, t.state, t.curve, t.steps) for t in load_result(folder).trials]


@pytest.mark.slow
def test_an_inline_study_reaches_its_verdict_without_ray(whole: Path) -> None:
    result = load_result(whole)
    assert result.improvement is not None
    assert [arm.name for arm in result.arms] == ["baseline", "tuned"]
    assert all(0 < seed.test_miou <= 1 for arm in result.arms for seed in arm.seeds)
    assert (result.mlflow_pending, bool(result.mlflow_run_id)) == (0, True)
    events = [json.loads(line) for line in (whole / "events.jsonl").read_text().splitlines()]
    epochs = {(e["key"], e["epoch"]) for e in events if e["event"] == "epoch"}
    assert len(epochs) == result.costs.epochs_search + result.costs.epochs_confirm


@pytest.mark.slow
def test_a_breakpoint_in_the_training_loop_works(place: Path) -> None:
    code = """if True:
        from cryo_hpo.training import loop
        from cryo_hpo import run_study
        step = loop.take_step
        def stop_once(run, *batch, **position):
            loop.take_step = step
            breakpoint()
            return step(run, *batch, **position)
        loop.take_step = stop_once
        run_study("study.yaml", inline=True)
    """
    done = _python(place, "debug", code, input="p run.recipe.epochs\nq\n")
    assert "(Pdb) 4" in done.stdout
    assert "Stopped. The same command" in done.stdout
    assert not (place / "debug" / "tiny" / "result.json").exists()


@pytest.mark.slow
def test_a_stopped_study_resumes_to_the_same_result(place: Path, whole: Path) -> None:
    class Interrupting(io.StringIO):
        def write(self, text: str) -> int:
            if "trial-0001" in text and "epoch 1/4" in text:
                signal.raise_signal(signal.SIGTERM)
            return super().write(text)

    study, site = load_study(place / "study.yaml"), Site.from_env(_env(place, "stopped"))
    console = Console(file=Interrupting(), width=200)
    with pytest.raises(Stopped, match="SIGTERM"):
        run_study(study, site, console=console, inline=True)
    folder = place / "stopped" / "tiny"
    assert not (folder / "result.json").exists()
    command = [sys.executable, "-m", "cryo_hpo", "resume", "--inline", "tiny"]
    done = subprocess.run(
        command,
        env={**os.environ, **_env(place, "stopped")},
        cwd=place,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert _trace(folder) == _trace(whole)
    assert [a.mean_test_miou for a in load_result(folder).arms] == [
        a.mean_test_miou for a in load_result(whole).arms
    ]
    epochs = recorded_epochs(folder)
    assert len(set(epochs)) == len(epochs)
