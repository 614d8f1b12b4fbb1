from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cryo_hpo.errors import CryoError, StorageError
from cryo_hpo.search.confirm import Arm, ConfirmSource
from cryo_hpo.search.jobs import Job

from ..support.pool import NAN, Crash, Disk, Heard, Refused, a_study, peak, simulate

BASE = a_study(epochs=4).base
ARMS = [
    Arm("baseline", BASE, (1, 2, 3)),
    Arm("huge", BASE.replace({"optim.lr": 10.0}), (1, 2, 3)),
    Arm("tuned", BASE.replace({"optim.lr": 1e-3}), (1, 2, 3)),
]
CURVES = peak(diverges=1.0, epochs=4)  # the arm "huge" diverges
each_pool = pytest.mark.parametrize("workers", [1, 2, 5])


def _drive(folder: Path, disk: Disk, heard: Heard, *, curves: Any = CURVES, **pool: Any) -> None:
    source = ConfirmSource(ARMS, folder=folder, listener=heard)
    simulate(source, curves, disk=disk, **pool)
    source.raise_if_lost()


@each_pool
@pytest.mark.parametrize("retries", [0.0, 0.4])
def test_every_arm_trains_on_every_seed_in_pairs(tmp_path, workers, retries):
    disk, heard = Disk(), Heard()
    _drive(tmp_path, disk, heard, workers=workers, retries=retries)
    assert heard.ends == {
        f"{arm.name}-seed{seed}": ["diverged" if arm.name == "huge" else "complete"]
        for arm in ARMS
        for seed in arm.seeds
    }
    assert set(heard.kinds.values()) == {"confirm"}
    assert [e for k, e in heard.epochs if k == "tuned-seed2"] == [1, 2, 3, 4]
    assert len(disk.trained) == len(set(disk.trained)) == len(heard.epochs)
    if workers == 1 and not retries:
        seeds = [int(key[-1]) for key, _ in disk.trained]
        assert seeds == sorted(seeds), "a study cut short holds whole pairs"


@each_pool
def test_a_crash_at_any_point_leaves_nothing_out_and_trains_nothing_twice(tmp_path, workers):
    whole, through = Disk(), Heard()
    _drive(tmp_path / "through", whole, through, workers=workers)
    for crash_after in range(0, 60, 2):
        folder, disk, heard = tmp_path / str(crash_after), Disk(), Heard()
        try:
            _drive(folder, disk, heard, workers=workers, crash_after=crash_after)
        except Crash:
            _drive(folder, disk, heard, workers=workers)
        assert heard.epochs == through.epochs, crash_after
        assert {k: ends[-1] for k, ends in heard.ends.items()} == {
            k: ends[-1] for k, ends in through.ends.items()
        }
        assert len(disk.trained) == len(set(disk.trained))


@each_pool
def test_a_full_disk_stops_the_comparison_and_loses_nothing(tmp_path, workers):
    disk, heard, full = Disk(), Heard(), [True]

    def curves(recipe: Any) -> list[float]:
        if full[0] and recipe.seed == 2:
            message = "A checkpoint must be writable: no space left"
            raise StorageError(message)
        return CURVES(recipe)

    with pytest.raises(StorageError, match="no space left"):
        _drive(tmp_path, disk, heard, curves=curves, workers=workers)
    full[0] = False
    _drive(tmp_path, disk, heard, curves=curves, workers=workers)
    assert len(disk.trained) == len(set(disk.trained)) == len(heard.epochs)
    assert "failed" not in {state for ends in heard.ends.values() for state in ends}
    assert len(heard.ends) == len(ARMS) * 3


def test_what_has_ended_is_not_begun_again(tmp_path):
    disk = Disk()
    _drive(tmp_path, disk, Heard())
    tried: list[str] = []

    def curves(recipe: Any) -> list[float]:
        tried.append(recipe.id)
        return [NAN]

    heard = Heard()
    _drive(tmp_path, disk, heard, curves=curves)
    assert (tried, heard.kinds) == ([], {}), "not even the one that diverged"


def test_a_missing_training_is_named_and_made_up_for(tmp_path):
    def curves(recipe: Any) -> list[float]:
        if recipe.seed == 2:
            message = "fake/train/images/7.tif: no such file"
            raise Refused(message)
        return CURVES(recipe)

    disk = Disk()
    with pytest.raises(CryoError, match=r"3 trainings are missing .first: baseline-seed2.*7\.tif"):
        _drive(tmp_path, disk, Heard(), curves=curves)
    trained = len(disk.trained)
    _drive(tmp_path, disk, heard := Heard())
    assert set(heard.kinds) == {"baseline-seed2", "huge-seed2", "tuned-seed2"}
    assert len(disk.trained) > trained


def test_a_lost_job_counts_as_missing(tmp_path):
    source = ConfirmSource(ARMS[:1], folder=tmp_path, listener=Heard())
    while (job := source.next()) and job != "wait":
        source.ended(job, "crashed", "the node is gone")
    with pytest.raises(CryoError, match="the node is gone"):
        source.raise_if_lost()


@pytest.mark.parametrize("lost", ["model", "outcome", "nothing"])
def test_a_finished_training_that_lost_its_model_runs_again(tmp_path, lost, caplog):
    disk, heard = Disk(), Heard()
    _drive(tmp_path, disk, heard)
    ended = tmp_path / "tuned-seed2" / "ended"
    if lost == "outcome":
        ended.write_bytes(b"\xff\xfe")
    broken = {"model": "'best.pt' is missing"}.get(lost, "")
    source = ConfirmSource(
        ARMS,
        folder=tmp_path,
        listener=heard,
        damage=lambda job: broken if job.key == "tuned-seed2" else "",
    )
    job = source.next()
    assert (job.key if isinstance(job, Job) else job) == (
        None if lost == "nothing" else "tuned-seed2"
    )
    assert ("Training 'tuned-seed2' runs again" in caplog.text) == (lost != "nothing")
    assert ended.exists() == (lost == "nothing")
    others = {f"{arm.name}-seed{n}" for arm in ARMS for n in (1, 2, 3)} - {"tuned-seed2"}
    assert others <= heard.reconciled.keys()
    assert heard.reconciled["baseline-seed1"] == (4, "complete")
    assert heard.reconciled["huge-seed1"] == (0, "diverged")
