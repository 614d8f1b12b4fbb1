"""Checkpoints are written while the training continues, and are safe where a study relies on them."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cryo_hpo.config import DataSpec, ModelSpec, OptimSpec, Recipe, Site
from cryo_hpo.errors import SpecError, StorageError
from cryo_hpo.execution import worker
from cryo_hpo.training import checkpoints
from cryo_hpo.training.checkpoint_store import SharedFolder, Workdir, workdir_on
from cryo_hpo.training.checkpoint_writer import CheckpointWriter, copy_to_host
from cryo_hpo.training.loop import fit

from ..support.fakes import fake_folder

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    places = {"CRYO_DATA": "data", "CRYO_STORAGE": "runs", "CRYO_CACHE": "cache"}
    (tmp_path / "runs").mkdir()
    return Site.from_env({key: str(tmp_path / place) for key, place in places.items()})


@pytest.fixture
def recipe(site: Site) -> Recipe:
    return Recipe(
        data=DataSpec(card=fake_folder(site.data, num=(4, 2, 2), size=(16, 20)), crop=16),
        model=ModelSpec(encoder="unet", decoder="unet", width=4),
        optim=OptimSpec(lr=0.01, schedule="constant"),
        batch_size=2,
        epochs=4,
    )


class _Gate:
    """Hold every write of a training's state until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.threads: list[str] = []
        self._save_last = checkpoints.save_last

    def __call__(self, workdir: Path, state: dict[str, Any]) -> None:
        assert self.opened.wait(10)
        self.threads.append(threading.current_thread().name)
        self._save_last(workdir, state)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Gate]:
    gate = _Gate()
    monkeypatch.setattr(checkpoints, "save_last", gate)
    yield gate
    gate.opened.set()


def _epochs(workdir: Path) -> int:
    state = checkpoints.load_last(workdir)
    return 0 if state is None else len(state["history"])


def test_an_epoch_is_yielded_while_its_checkpoint_is_written(recipe, site, gate):
    training = fit(recipe, site=site, workdir=site.storage / "run", device=CPU)
    assert next(training).number == 1
    assert _epochs(site.storage / "run") == 0
    gate.opened.set()
    assert next(training).number == 2
    assert _epochs(site.storage / "run") >= 1, "one write at a time: the one before has ended"
    training.close()
    assert _epochs(site.storage / "run") == 2, "a training that is left keeps what it trained"
    assert all(name.startswith("checkpoint") for name in gate.threads)


@pytest.mark.parametrize("decision", [1, 2])
def test_an_epoch_at_which_a_study_decides_is_on_the_disk_before_it_is_yielded(
    decision, recipe, site, monkeypatch
):
    slow = checkpoints.save_last

    def save_last(workdir: Path, state: dict[str, Any]) -> None:
        time.sleep(0.05)
        slow(workdir, state)

    monkeypatch.setattr(checkpoints, "save_last", save_last)
    workdir = site.storage / "run"
    training = fit(recipe, site=site, workdir=workdir, device=CPU, decisions=(decision,))
    for epoch in training:
        if epoch.number in (decision, recipe.epochs):
            assert _epochs(workdir) == epoch.number


def test_what_is_written_is_the_state_of_its_epoch(recipe, site, gate):
    """The next epoch trains before the write begins; the file holds nothing of it."""
    training = fit(recipe, site=site, workdir=site.storage / "late", device=CPU)
    next(training)
    ahead = threading.Timer(0.3, gate.opened.set)  # the second epoch takes less
    ahead.start()
    next(training)
    training.close()
    alone = fit(recipe, site=site, workdir=site.storage / "alone", device=CPU, decisions=(1, 2))
    list(itertools.islice(alone, 2))
    for name in ("last.pt", "before.pt"):
        late, direct = (
            torch.load(site.storage / folder / name, weights_only=True)
            for folder in ("late", "alone")
        )
        assert late["model"].keys() == direct["model"].keys()
        assert all(torch.equal(late["model"][key], x) for key, x in direct["model"].items())
        moments = [state["optimizer"]["state"][0]["exp_avg"] for state in (late, direct)]
        assert torch.equal(*moments)


def _refuse(*_: object) -> None:
    raise StorageError("the disk is full")


def test_a_failed_write_ends_the_training_at_the_next_epoch(recipe, site, monkeypatch):
    training = fit(recipe, site=site, workdir=site.storage / "run", device=CPU)
    monkeypatch.setattr(checkpoints, "save_last", _refuse)
    assert next(training).number == 1
    with pytest.raises(StorageError, match="the disk is full"):
        next(training)


def test_a_failed_write_ends_the_training_before_a_decision(recipe, site, monkeypatch):
    training = fit(recipe, site=site, workdir=site.storage / "run", device=CPU, decisions=(1,))
    monkeypatch.setattr(checkpoints, "save_last", _refuse)
    with pytest.raises(StorageError, match="the disk is full"):
        next(training)


def test_a_failed_write_does_not_hide_the_error_that_ends_a_training(caplog):
    def train() -> None:
        with CheckpointWriter() as writer:
            writer.start(_refuse)
            raise ValueError("of the training")

    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match="of the training"):
        train()
    assert "The newest checkpoint was not written: the disk is full" in caplog.text


def test_an_error_of_the_gpu_reaches_the_training(recipe, site, monkeypatch):
    def copy_from_gpu(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    training = fit(recipe, site=site, workdir=site.storage / "run", device=CPU, decisions=(1,))
    monkeypatch.setattr(checkpoints, "save_last", copy_from_gpu)
    with pytest.raises(torch.AcceleratorError, match="device-side assert"):
        next(training)


def test_a_copy_shares_nothing_with_the_state():
    layer = torch.nn.Linear(2, 2)
    weights: Any = layer.state_dict()
    state: dict[str, Any] = {"model": weights, "history": [{"epoch": 1}], "step": torch.tensor(1)}
    copied = copy_to_host(state)
    with torch.no_grad():
        layer.weight.zero_()
    state["step"].add_(1)
    assert copied["model"]["weight"].any()
    assert copied["step"] == 1
    assert copied["history"] == [{"epoch": 1}]
    assert copied["model"]._metadata == weights._metadata


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the files that are copied to the shared storage, in order."""
    keys: list[str] = []
    send = SharedFolder.send

    def sending(self: SharedFolder, file: Path, key: str) -> None:
        keys.append(Path(key).name)
        send(self, file, key)

    monkeypatch.setattr(SharedFolder, "send", sending)
    return keys


def _job(recipe: Recipe, site: Site, **fields: Any) -> dict[str, Any]:
    where = str(site.storage / "study" / "trial-0001")
    return {"recipe": recipe.model_dump_json(), "workdir": where, "keep_best": True, **fields}


@pytest.mark.parametrize(("minutes", "epochs"), [(60, [2, 4]), (1e-9, [1, 2, 3, 4])])
def test_checkpoints_are_copied_where_a_study_decides_and_when_the_time_has_come(
    minutes, epochs, recipe, site, copies
):
    site = site.model_copy(update={"checkpoint_minutes": minutes})
    shared = site.storage / "study" / "trial-0001"
    job = _job(recipe, site, decisions=(2,))
    reports = worker.train_job(job, site=site, cpus=1, gpus=0)
    for number, report in enumerate(reports, start=1):
        assert report["epoch"] == number
        if number in (2, 4):
            assert _epochs(shared) == number, "safe before it is reported"
    assert copies.count("last.pt") == len(epochs)
    assert {path.name for path in shared.iterdir()} == {
        "last.pt",
        "before.pt",
        "best.pt",
        "history.json",
    }
    assert not list((site.cache / "checkpoints").rglob("*.pt")), "the node keeps nothing"


def test_a_training_that_is_stopped_between_copies_loses_nothing(recipe, site, copies):
    site = site.model_copy(update={"checkpoint_minutes": 60})
    shared = site.storage / "study" / "trial-0001"
    reports = worker.train_job(_job(recipe, site), site=site, cpus=1, gpus=0)
    next(reports)
    next(reports)
    assert not copies
    reports.close()
    assert _epochs(shared) == 2
    again = worker.train_job(_job(recipe, site, recorded=2), site=site, cpus=1, gpus=0)
    assert [report["epoch"] for report in again] == [2, 3, 4]


def test_a_node_that_is_lost_costs_what_was_not_copied(recipe, site, monkeypatch):
    """It resumes elsewhere from the last copy, and ends with the same scores."""
    through = list(worker.train_job(_job(recipe, site), site=site, cpus=1, gpus=0))
    site = site.model_copy(update={"checkpoint_minutes": 60, "storage": site.storage / "other"})
    site.storage.mkdir()
    job = _job(recipe, site, decisions=(1,))
    lost = worker.train_job(job, site=site, cpus=1, gpus=0)
    assert [next(lost)["epoch"] for _ in range(3)] == [1, 2, 3]
    with monkeypatch.context() as dead:
        dead.setattr(Workdir, "push", lambda *_: None)
        lost.close()
    elsewhere = site.model_copy(update={"cache": site.cache / "elsewhere"})
    again = list(worker.train_job({**job, "recorded": 3}, site=elsewhere, cpus=1, gpus=0))
    assert [report["epoch"] for report in again] == [1, 2, 3, 4]
    assert [r["val_miou"] for r in again] == [r["val_miou"] for r in through]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def _no_training(path: Path) -> None:
    torch.save([1, 2], path)  # whole, and of nothing that resumes


@pytest.mark.parametrize(
    ("damage", "fetched", "resumed"),
    [
        (None, ["last.pt"], 3),
        (_cut, ["last.pt", "before.pt"], 2),
        (_no_training, ["last.pt", "before.pt"], 2),
        (Path.unlink, ["before.pt"], 2),
    ],
)
def test_the_state_before_is_copied_only_where_the_newest_cannot_be_used(
    damage, fetched, resumed, recipe, site, monkeypatch
):
    """It is as large as the newest, and a promoted trial waits for it."""
    site = site.model_copy(update={"checkpoint_minutes": 1e-9})
    job, shared = _job(recipe, site), site.storage / "study" / "trial-0001"
    reports = worker.train_job(job, site=site, cpus=1, gpus=0)
    assert [next(reports)["epoch"] for _ in range(3)] == [1, 2, 3]
    reports.close()
    assert [_epochs_in(shared / name) for name in ("last.pt", "before.pt")] == [3, 2]
    if damage is not None:
        damage(shared / "last.pt")
    elsewhere = site.model_copy(update={"cache": site.cache / "elsewhere"})
    stale = workdir_on(elsewhere, shared).folder / "before.pt"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of an earlier life")
    found: list[str] = []
    fetch = SharedFolder.fetch

    def fetching(self: SharedFolder, key: str, file: Path) -> bool:
        here = fetch(self, key, file)
        found.extend([file.name] * here * file.name.endswith(("last.pt", "before.pt")))
        return here

    monkeypatch.setattr(SharedFolder, "fetch", fetching)
    again = worker.train_job({**job, "recorded": resumed}, site=elsewhere, cpus=1, gpus=0)
    assert next(again)["epoch"] == resumed
    assert found == fetched
    assert stale.exists() == ("before.pt" in fetched)
    assert [report["epoch"] for report in again] == list(range(resumed + 1, recipe.epochs + 1))


def _epochs_in(path: Path) -> int:
    state = checkpoints.load(path)
    assert state is not None
    return len(state["history"])


def test_a_storage_that_is_not_mounted_is_not_taken_for_an_empty_one(recipe, site):
    site = site.model_copy(update={"checkpoint_minutes": 5, "storage": site.storage / "absent"})
    place = workdir_on(site, site.storage / "study" / "trial-0001")
    with pytest.raises(StorageError, match=r"Cannot read and write CRYO_STORAGE .*absent"):
        place.pull("last.pt")
    place.folder.mkdir(parents=True)
    (place.folder / "last.pt").write_bytes(b"x")
    with pytest.raises(StorageError, match="Cannot read and write CRYO_STORAGE"):
        place.push("last.pt")
    assert not site.storage.exists()


@pytest.mark.parametrize("text", ["often", "-1", "nan", "1e9"])
def test_minutes_that_are_none_are_refused(text):
    with pytest.raises(SpecError, match=f"CRYO_CHECKPOINT_MINUTES must be a number.*'{text}'"):
        Site.from_env({"CRYO_CHECKPOINT_MINUTES": text})
    assert Site.from_env({"CRYO_CHECKPOINT_MINUTES": "2.5"}).checkpoint_minutes == 2.5
    assert Site.from_env({}).checkpoint_minutes == 0
