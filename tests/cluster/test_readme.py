"""Every command line of cluster/README.md is run by a test, or says there that it is not."""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..support.clusters import (
    Done,
    check_nothing_left,
    environment,
    free_ports,
    run,
    runs,
    tiny_study,
)

ROOT = Path(__file__).parents[2]
README = (ROOT / "cluster/README.md").read_text()


@dataclass(frozen=True, slots=True)
class Ran:
    """A test that runs the line with other sizes or places; the README says which."""

    test: str
    words: str  # what the test's file must hold
    difference: str = ""


@dataclass(frozen=True, slots=True)
class NotRun:
    """Why a line is not run here; the README says so beside it."""

    reason: str


HERE = "this file runs the line as it stands, with free ports and a folder of its own"
SLURM = "tests/cluster/test_slurm.py::test_a_requeued_job_goes_on_where_it_was"
KUBERNETES = NotRun("needs a Kubernetes cluster")
LINES: dict[str, str | Ran | NotRun] = {
    "export PATH=$PWD/.venv/bin:$PATH": HERE,
    "cluster/local.sh start": HERE,
    "cluster/local.sh submit STUDY.yaml": HERE,
    "cluster/local.sh stop": HERE,
    "export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=FILE": HERE,
    "cryo-hpo submit STUDY.yaml --address http://127.0.0.1:8265": HERE,
    "ray job submit --address http://127.0.0.1:8265 --working-dir . --runtime-env-json "
    """'{"env_vars": {"CRYO_STORAGE": "/shared/runs", "CRYO_DATA": "/shared/data", """
    """"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"}}' -- cryo-hpo run STUDY.yaml""": HERE,
    "ray job stop --address http://127.0.0.1:8265 SUBMISSION_ID": HERE,
    "export CRYO_STORAGE=/shared/runs CRYO_DATA=/shared/data CRYO_WEIGHTS=/shared/weights "
    "CRYO_ENV=$HOME/cryo_hpo/.venv": Ran(SLURM, "CRYO_ENV={sys.prefix}", "other folders"),
    "sbatch --nodes=4 --cpus-per-task=32 --gpus-per-node=4 --time=24:00:00 "
    "cluster/slurm/ray.sbatch STUDY.yaml": Ran(SLURM, 'cluster("sbatch"', "2 nodes, no GPU"),
    "sbatch --nodes=4 --gpus-per-node=4 cluster/slurm/ray.sbatch STUDY.yaml": Ran(
        SLURM, "cluster/slurm/ray.sbatch", "no GPU"
    ),
    "kubectl apply -f cluster/kuberay/mlflow.yaml -f cluster/kuberay/raycluster.yaml": KUBERNETES,
    "kubectl apply -f cluster/kuberay/mlflow.yaml -f cluster/kuberay/rayjob.yaml": KUBERNETES,
    "ray up cluster/ray-up-onprem.yaml": NotRun("needs machines with ssh"),
    "ray up cluster/ray-up.yaml": NotRun("needs a cloud account"),
}


def blocks() -> list[list[tuple[str, str]]]:
    """Return the commands of every fenced block, each as one line, with their comments."""
    found = []
    for block in re.findall(r"```(?:bash|sh)\n(.*?)```", README, flags=re.DOTALL):
        whole = re.sub(r"\s*\\\n\s*", " ", block)
        whole = re.sub(r"('\{[^']*\}')", lambda json: " ".join(json[0].split()), whole)
        lines = [re.split(r"\s{2,}# ?", line, maxsplit=1) for line in whole.splitlines()]
        found.append([(line[0].strip(), "".join(line[1:])) for line in lines if line[0].strip()])
    return found


def rows() -> list[tuple[str, str]]:
    """Return the commands of the table of ways, with what it says of each."""
    (table,) = re.findall(r"\| way \|.*?\n\n", README, flags=re.DOTALL)
    cells = [row.split("|")[2:4] for row in table.splitlines()[2:] if row]
    return [(line, seen) for commands, seen in cells for line in re.findall(r"`(.+?)`", commands)]


WRITTEN = [*rows(), *(line for block in blocks() for line in block)]


def test_every_line_of_the_readme_is_accounted_for():
    assert len(WRITTEN) > 12
    assert {line for line, _ in WRITTEN} == set(LINES)


@pytest.mark.parametrize(("line", "beside"), WRITTEN, ids=lambda text: text[:40].strip())
def test_the_readme_says_which_lines_are_not_run_as_they_stand(line, beside):
    match LINES[line]:
        case NotRun(reason):
            assert f"not run: {reason}" in beside
        case Ran(test, words, difference):
            file, name = test.split("::")
            text = (ROOT / file).read_text()
            (tested,) = (f for f in ast.parse(text).body if getattr(f, "name", "") == name)
            assert isinstance(tested, ast.FunctionDef)
            assert words in text
            assert difference in beside, "a reader must see what the test does differently"
        case _:
            assert "not run" not in beside


def script(changes: dict[str, str], *, between: str) -> str:
    """Return both blocks as one script: the second while the cluster of the first is there."""
    first, second = ([line for line, _ in block if LINES[line] == HERE] for block in blocks()[:2])
    whole = [*first[:-1], *second[:-1], between, second[-1], first[-1]]
    assert {line for line, told in LINES.items() if told == HERE} == set(whole) - {between}
    text = "\n".join(["set -ex", "trap 'cluster/local.sh stop' ERR", *whole])
    for old, new in changes.items():
        assert old in text, f"the README no longer says '{old}'"
        text = text.replace(old, new)
    return text


@pytest.mark.machines
def test_the_lines_run_as_they_stand(tmp_path: Path) -> None:
    """As a user types them, in the project's folder: ports, folders and names are the only changes."""
    gcs, dashboard, client, mlflow = map(str, free_ports(4))
    here, shared = tmp_path / "project", tmp_path / "shared"
    small = {"base__epochs": 2, "search__trials": 2, "seeds": [1]}
    tiny_study(here, here / "data", name="long", base__epochs=500).rename(here / "LONG.yaml")
    tiny_study(here, shared / "data", name="tiny", **small).rename(here / "STUDY.yaml")
    (here / ".venv").symlink_to(sys.prefix)
    (here / "cluster").symlink_to(ROOT / "cluster")
    ports = {"RAY_PORT": gcs, "DASHBOARD_PORT": dashboard, "RAY_CLIENT_PORT": client}
    env = environment(**ports, MLFLOW_PORT=mlflow, NUM_CPUS="1", MARK=str(tmp_path))
    changes = {":8265": f":{dashboard}", ":5000": f":{mlflow}", "/shared": str(shared)}
    changes |= {"PATH=FILE": f"PATH={here}/runs/.ray-token", "SUBMISSION_ID": "stop-me"}
    long = f"cryo-hpo submit LONG.yaml --address http://127.0.0.1:{dashboard} --no-wait --submission-id stop-me"
    begun = f"{long}\nuntil grep -sq best_val_miou runs/long/events.jsonl; do sleep 1; done"
    try:
        done = run("bash", "-c", script(changes, between=begun), env=env, cwd=here, timeout_s=500)
    finally:
        run("cluster/local.sh", "stop", env=env, cwd=here)
        check_nothing_left(f"MARK={tmp_path}")
    check_that_all_happened(done, here, shared)


def check_that_all_happened(done: Done, here: Path, shared: Path) -> None:
    """See the results of both submissions, and the runs of the job that was stopped."""
    assert done.code == 0, done.output
    assert (here / "runs/tiny/result.json").exists()
    assert (shared / "runs/tiny/result.json").exists()
    assert "Job 'stop-me' was stopped" in done.output
    told = runs(f"sqlite:///{here}/runs/mlflow.db", "long")
    assert {one.info.status for one in told.values()} <= {"KILLED", "FINISHED"}
    assert told[""].info.status == "KILLED"
    assert not (here / "runs/.local-cluster").exists()
