"""The sbatch file on a real Slurm: a study on two nodes, and one that is requeued in its middle."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cryo_hpo.results.study import load_result

from ..support.clusters import check_nothing_left, tiny_study, until
from ..support.recorded import recorded_epochs
from ..support.slurm import Slurm, slurm, why_not

SBATCH = Path(__file__).parents[2] / "cluster/slurm/ray.sbatch"
pytestmark = [pytest.mark.machines, pytest.mark.skipif(bool(why_not()), reason=why_not())]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    with slurm() as started:
        yield started


def submit(cluster: Slurm, folder: Path, study: Path, *options: str) -> str:
    """Send a study, and return the job's number."""
    places = [f"CRYO_{n.upper()}={folder / n}" for n in ("data", "weights", "storage", "cache")]
    words = ("--parsable", "--cpus-per-task=1", f"--output={folder / 'log.txt'}", *options)
    export = f"--export=ALL,CRYO_ENV={sys.prefix},{','.join(places)}"
    return cluster("sbatch", *words, export, SBATCH, study.name, cwd=study.parent).strip()


def test_a_requeued_job_goes_on_where_it_was(cluster: Slurm, tmp_path: Path) -> None:
    trials, epochs = 3, 40
    study = tiny_study(
        tmp_path / "sent",
        tmp_path / "data",
        name="requeued",
        base__epochs=epochs,
        search__trials=trials,
        search__parallel=None,
        seeds=[1],
    )
    folder = tmp_path / "storage/requeued"
    job = submit(cluster, tmp_path, study, "--nodes=2")
    try:
        until(lambda: len(recorded_epochs(folder)) > 3, timeout_s=180)
        cluster("scontrol", "requeue", job)
        until(lambda: cluster.state(job) == "PENDING", timeout_s=60)
        before = recorded_epochs(folder)
        assert len(before) < trials * epochs, "the study was too short to be cut in its middle"
        ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        until(lambda: cluster.state(job) in ended, timeout_s=400, every_s=1)
        log = (tmp_path / "log.txt").read_text()
        assert cluster.state(job) == "COMPLETED", log
        assert "Restarts=1" in cluster("scontrol", "show", "job", job)
    finally:
        cluster("scancel", job)
    after = recorded_epochs(folder)
    assert after[: len(before)] == before, "what was computed before stays"
    assert len(after) == len(set(after)), "an epoch is recorded twice"
    result = load_result(folder)
    assert [trial.number for trial in result.trials] == list(range(trials))
    assert result.costs.epochs_search == trials * epochs
    assert log.count("Ray runtime started") == 4, "head and worker, before and after"
    assert not list((tmp_path / "storage").glob(".ray-token*")), "the token goes with the job"
    check_nothing_left(f"CRYO_STORAGE={tmp_path / 'storage'}")
