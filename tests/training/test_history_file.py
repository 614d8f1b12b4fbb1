"""Metrics of epochs in a file of their own: a copy, and after a crash the checkpoint rules."""

from __future__ import annotations

import itertools
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from cryo_hpo.config import DataSpec, ModelSpec, OptimSpec, Recipe, Site
from cryo_hpo.errors import StorageError
from cryo_hpo.execution import worker
from cryo_hpo.training import checkpoints, keeping
from cryo_hpo.training.checkpoint_store import Store, stored_history
from cryo_hpo.training.history_file import read_copy, read_history, save_history
from cryo_hpo.training.loop import fit

from ..support.fakes import fake_folder

CPU = torch.device("cpu")


def _metrics(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "best_val_miou": -math.inf if epoch == 1 else 0.1 * epoch / 3}


def _save(folder: Path, epochs: int, *, copy: int | None = None) -> None:
    """Leave the checkpoint of some epochs, and a copy of the metrics of as many or fewer."""
    history = [_metrics(epoch) for epoch in range(1, epochs + 1)]
    checkpoints.save_last(folder, {"recipe": "mine", "history": history})
    save_history(folder, "mine", history[: epochs if copy is None else copy])


def _read(folder: Path, *, epochs: int = 0) -> list[float]:
    return [metrics["epoch"] for metrics in read_history(folder, "mine", epochs=epochs)]


def _no_load(*_: object, **__: object) -> None:
    pytest.fail("the checkpoint is read")


def test_the_copy_is_exact_and_spares_the_checkpoint(tmp_path, monkeypatch):
    _save(tmp_path, 3)
    monkeypatch.setattr(torch, "load", _no_load)
    assert read_history(tmp_path, "mine", epochs=3) == [_metrics(epoch) for epoch in (1, 2, 3)]


def test_a_copy_that_a_crash_left_behind_gives_way_to_the_checkpoint(tmp_path):
    """Killed after the checkpoint was written, before the copy was."""
    _save(tmp_path, 3, copy=2)
    assert _read(tmp_path, epochs=2) == [1, 2]
    assert _read(tmp_path, epochs=3) == [1, 2, 3]
    (tmp_path / "history.json").unlink()  # before its first copy, or made by version 0.1.0
    assert _read(tmp_path) == [1, 2, 3]


def test_metrics_outlive_a_checkpoint_that_is_damaged(tmp_path):
    """The training resumes from the state before; what it had reported is not lost."""
    _save(tmp_path, 2)
    _save(tmp_path, 3)
    (tmp_path / "last.pt").write_bytes(b"")
    assert _read(tmp_path, epochs=3) == [1, 2, 3]
    assert _read(tmp_path, epochs=9) == [1, 2, 3], "more than the state before"


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:0],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole.replace(b"0.1", b"0.7"),
        lambda whole: b"[" * 1000 * len(whole),
        lambda whole: whole[-2:-1] + b"[]",
        lambda whole: bytes(len(whole)),
    ],
)
def test_a_damaged_copy_is_reported_and_not_used(tmp_path, damage, caplog):
    _save(tmp_path, 3)
    path = tmp_path / "history.json"
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert path.read_bytes() != content
    with caplog.at_level(logging.WARNING):
        assert read_history(tmp_path, "mine", epochs=3) == [_metrics(e) for e in (1, 2, 3)]
    assert "history.json' is damaged" in caplog.text


def test_metrics_of_another_recipe_are_not_taken(tmp_path):
    _save(tmp_path, 3)
    assert read_copy(tmp_path, "other") == []
    assert read_history(tmp_path, "other", epochs=3) == []


def test_a_training_that_starts_again_takes_its_metrics_away(tmp_path):
    _save(tmp_path, 3)
    checkpoints.restart_without_best(tmp_path, "mine")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "store").mkdir()
    places = {f"CRYO_{n}": str(tmp_path / n.lower()) for n in ("DATA", "STORAGE", "CACHE")}
    return Site.from_env({**places, "CRYO_CHECKPOINTS": f"file://{tmp_path}/store"})


@pytest.fixture
def recipe(site: Site) -> Recipe:
    torch.set_num_threads(1)
    return Recipe(
        data=DataSpec(card=fake_folder(site.data, num=(4, 2, 2), size=(16, 20)), crop=16),
        model=ModelSpec(encoder="unet", decoder="unet", width=4),
        optim=OptimSpec(lr=0.01, schedule="constant"),
        batch_size=2,
        epochs=3,
    )


def _killed(*_: object) -> None:
    raise SystemExit(9)


def test_a_training_that_is_killed_between_both_resumes_from_the_checkpoint(
    recipe, site, monkeypatch
):
    through, cut = site.storage / "through", site.storage / "cut"
    whole = [e.metrics() for e in fit(recipe, site=site, workdir=through, device=CPU)]
    training = fit(recipe, site=site, workdir=cut, device=CPU, decisions=(1, 2))
    next(training)
    with monkeypatch.context() as patched:
        patched.setattr(keeping, "save_history", _killed)
        with pytest.raises(SystemExit):
            next(training)
    assert len(read_copy(cut, recipe.id)) == 1
    assert len(read_history(cut, recipe.id, epochs=2)) == 2
    again = fit(recipe, site=site, workdir=cut, device=CPU)
    assert [e["epoch"] for e in again.history] == [1, 2], "the checkpoint rules"
    assert [epoch.number for epoch in again] == [3]
    clock = {"seconds", "data_seconds"}
    found = [
        [{k: v for k, v in metrics.items() if k not in clock} for metrics in history]
        for history in (read_copy(cut, recipe.id), whole)
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 3


def test_a_full_disk_at_the_copy_ends_the_training_with_its_remedy(recipe, site, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cryo_hpo.training.history_file.write_text", full)
    workdir = site.storage / "run"
    training = fit(recipe, site=site, workdir=workdir, device=CPU, decisions=(1,))
    with pytest.raises(StorageError, match=r"history\.json.*Free space"):
        next(training)
    assert checkpoints.load_last(workdir) is not None, "the epoch is kept"


def test_the_driver_downloads_no_checkpoint_for_metrics(recipe, site, monkeypatch):
    where = site.storage / "study" / "trials" / "trial-0001"
    job = {"recipe": recipe.model_dump_json(), "workdir": str(where), "keep_best": True}
    list(itertools.islice(worker.train_job(job, site=site, cpus=1, gpus=0), 3))
    fetched: list[str] = []
    fetch = Store.fetch

    def fetching(self: Store, key: str, file: Path) -> bool:
        fetched.append(file.name)
        return fetch(self, key, file)

    monkeypatch.setattr(Store, "fetch", fetching)
    assert len(stored_history(site, where, recipe.id, epochs=3)) == 3
    assert fetched == ["history.json"]
    (Path(str(site.checkpoints)[7:]) / "study/trials/trial-0001/history.json").unlink()
    assert len(stored_history(site, where, recipe.id, epochs=3)) == 3
    assert fetched[1:] == ["history.json", "last.pt", "before.pt"]
