"""A tiny study and `doctor` in environments that differ from a developer's: they work, or say why not."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from cryo_hpo.config import Study, dump_study
from cryo_hpo.results.study import load_result

from ..support.sandbox import Sandbox

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# A clock ten years back, for this process and those it starts.
SET_BACK = """
import time
now, now_ns = time.time, time.time_ns
time.time = lambda: now() - 10 * 365 * 86400.0
time.time_ns = lambda: now_ns() - 10 * 365 * 86400 * 10**9
"""


@pytest.fixture(scope="module")
def tiny(sandbox: Sandbox) -> Study:
    """A study of one epoch, whose classes have names beyond ASCII."""
    base = {**sandbox.study("x").base.model_dump(mode="json"), "epochs": 1}
    base["data"]["card"]["classes"] = ["moräne", "Gletscher-See ö"]
    return sandbox.study("tiny", search=None, seeds=(1,), base=base)


def _cryo(
    sandbox: Sandbox, storage: str, *words: str, env: Mapping[str, str | None], shell: str = ""
) -> tuple[int, str]:
    """Run the command line; return its exit code and output.

    Args:
        sandbox: Folders.
        storage: Name of the storage folder.
        words: Words of the command.
        env: Variables to set; None removes one.
        shell: What a shell does before the command.
    """
    every: dict[str, str | None] = {
        **os.environ,
        **sandbox.places(storage),
        "OMP_NUM_THREADS": "1",
        **env,
    }
    command = [sys.executable, "-m", "cryo_hpo", *words]
    done = subprocess.run(
        ["sh", "-c", f'{shell} exec "$@"', "sh", *command],
        env={name: value for name, value in every.items() if value is not None},
        cwd=sandbox.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=500,
        check=False,
    )
    return done.returncode, done.stdout.decode(errors="replace")


@contextlib.contextmanager
def _read_only(folder: Path) -> Iterator[Path]:
    """A folder that nobody can write to; root can only where nothing is mounted read-only."""
    folder.mkdir(exist_ok=True)
    if os.getuid():
        folder.chmod(0o555)
        yield folder
        return
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _environment(sandbox: Sandbox, name: str, home: Path) -> tuple[dict[str, str | None], str, str]:
    """Return an environment's variables, what a shell does first, and what `doctor` says of it."""
    match name:
        case "read-only home, POSIX locale, long TMPDIR":
            deep = sandbox.root / "scratch-of-the-batch-system" / "/".join(["job-0123456789"] * 6)
            deep.mkdir(parents=True, exist_ok=True)
            variables = {"HOME": str(home), "CRYO_CACHE": None, "TMPDIR": str(deep)}
            locale = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
            return {**variables, **locale}, "", "locale's encoding is"
        case "few open files":
            return {}, "ulimit -n 128;", "ulimit -Hn 4096"
        case _:
            site = sandbox.root / "clock"
            site.mkdir(exist_ok=True)
            (site / "sitecustomize.py").write_text(SET_BACK)
            paths = os.pathsep.join([str(site), str(ROOT), os.environ.get("PYTHONPATH", "")])
            return {"PYTHONPATH": paths}, "", "The clock is set back"


@pytest.mark.parametrize(
    "name", ["read-only home, POSIX locale, long TMPDIR", "few open files", "clock set back"]
)
def test_a_study_runs_and_doctor_names_the_environment(
    sandbox: Sandbox, tiny: Study, tmp_path: Path, name: str
) -> None:
    spec = sandbox.root / "tiny.yaml"
    spec.write_text(dump_study(tiny), encoding="utf-8")
    storage = f"environment-{len(name)}"
    with _read_only(tmp_path / "home") as home:
        env, shell, said = _environment(sandbox, name, home)
        code, output = _cryo(sandbox, storage, "run", "--inline", str(spec), env=env, shell=shell)
        assert code == 0, output
        assert "Traceback" not in output
        code, output = _cryo(sandbox, storage, "doctor", env=env, shell=shell)
    assert code == 1, output
    assert said in output
    assert "Traceback" not in output
    assert load_result(sandbox.root / storage / "tiny").classes == ("moräne", "Gletscher-See ö")


def test_a_storage_that_was_moved_takes_the_next_study(sandbox: Sandbox, tiny: Study) -> None:
    """MLflow keeps the absolute place of an experiment's artifacts."""
    sandbox.run(tiny, "before")
    before, after = sandbox.root / "before", sandbox.root / "after"
    before.rename(after)
    sandbox.run(tiny.model_copy(update={"name": "second"}), "after")
    sandbox.run(tiny, "after", "upload")
    assert not before.exists(), sorted(before.rglob("*"))
    assert load_result(after / "second").mlflow_pending == 0
    assert any((after / "mlartifacts").rglob("report.html"))
