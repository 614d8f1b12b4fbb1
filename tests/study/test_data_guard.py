"""A study keeps the data it began with: changes are named, and data that are away are waited for."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cryo_hpo.config import Recipe, Site, Study
from cryo_hpo.errors import DataError, StorageError
from cryo_hpo.study import data_guard, run
from cryo_hpo.study.data_guard import DataGuard, GuardedSource
from cryo_hpo.training.build import scenes_of

from ..execution.test_inline import Jobs
from ..support.fakes import fake_folder
from ..support.pool import a_study


class Data(tuple[Recipe, Site, Path]):
    """A recipe, its site, and the folder of its study."""

    @property
    def guard(self) -> DataGuard:
        return DataGuard(*self)

    @property
    def train(self) -> list[Path]:
        """Images and masks of the training split."""
        return sorted(p for p in (self[1].data / "fake" / "train").rglob("*") if p.is_file())


@pytest.fixture
def data(tmp_path: Path) -> Data:
    card = fake_folder(tmp_path / "data", num=(3, 1, 1), size=(16, 16))
    fields = a_study().base.model_dump(mode="json")
    fields["data"] = {"card": card.model_dump(mode="json"), "crop": 16}
    site = Site.from_env({f"CRYO_{n}": str(tmp_path / n.lower()) for n in ("DATA", "CACHE")})
    (tmp_path / "study").mkdir()
    return Data((Recipe.model_validate_json(json.dumps(fields)), site, tmp_path / "study"))


def test_data_that_stay_are_accepted(data: Data) -> None:
    data.guard.check()
    data.guard.check_now_and_then()
    assert (data[2] / "data-files.json").exists()


def test_data_that_were_moved_are_the_same_data(data: Data, tmp_path: Path, monkeypatch) -> None:
    data.guard.check()
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = Data((data[0], data[1].model_copy(update={"data": tmp_path / "moved"}), data[2]))
    assert not moved.guard.is_away()
    assert str(tmp_path / "moved") in (data[2] / "data-files.json").read_text()
    image = moved.train[0]
    image.write_bytes(image.read_bytes() + b"\0")
    with pytest.raises(DataError, match=rf"train: {image.stem} changed\."):
        moved.guard.check()


def test_a_replaced_file_is_named(data: Data) -> None:
    guard = data.guard
    image = data.train[0]
    image.write_bytes(image.read_bytes() + b"\0")
    for look in (guard.check, lambda: data.guard):
        with pytest.raises(DataError, match=rf"train: {image.stem} changed\..*Restore the files"):
            look()


def test_a_finished_study_warns_if_its_data_have_changed(
    data: Data, monkeypatch: Any, caplog: Any
) -> None:
    recipe, site, path = data
    study = Study(name="fake", base=recipe, seeds=(1,))
    assert data.guard is not None
    (path / "result.json").write_text("{}")
    monkeypatch.setattr(run, "complete", lambda *_, **__: None)

    def again() -> str:
        caplog.clear()
        console = Console(file=io.StringIO())
        run.drive(study, site, path, console=console, inline=True)
        return "".join(record.getMessage() for record in caplog.records)

    assert again() == ""
    image = data.train[0]
    image.write_bytes(image.read_bytes() + b"\0")
    assert f"changed since this study ran: train: {image.stem} changed." in again()
    assert "give the study a new name" in again()
    (site.data / "fake").rename(site.data / "away")
    assert again() == "", "data that are elsewhere say nothing"


def test_added_and_removed_scenes_are_named(data: Data) -> None:
    guard, files = data.guard, data.train
    first = [p for p in files if p.stem == files[0].stem]
    new = f"{files[0].stem.rpartition('_')[0]}_99"
    for path in first:
        shutil.copy(path, path.with_name(f"{new}{path.suffix}"))
    with pytest.raises(DataError, match=f"train: {new} added"):
        guard.check()
    for path in first:
        path.with_name(f"{new}{path.suffix}").unlink()
    guard.check()
    first[0].unlink()
    with pytest.raises(DataError, match=rf"train: {files[0].stem} removed"):
        guard.check()


def test_data_that_are_away_are_waited_for(data: Data, monkeypatch: Any, caplog: Any) -> None:
    guard = data.guard
    place = data.train[0].parent
    place.rename(place.with_name("hidden"))
    naps = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            place.with_name("hidden").rename(place)

    monkeypatch.setattr(data_guard, "_sleep", nap)
    assert guard.is_away()
    guard.check()
    assert len(naps) == 2
    assert caplog.text.count("data are away") == 1
    assert "data are back" in caplog.text


def test_a_job_that_found_no_data_runs_again(data: Data, monkeypatch: Any) -> None:
    guard, source = data.guard, Jobs(1)
    guarded = GuardedSource(source, guard)
    job = guarded.next()
    assert job is not None
    assert job != "wait"
    place = data.train[0].parent
    place.rename(place.with_name("hidden"))
    monkeypatch.setattr(data_guard, "_sleep", lambda _: place.with_name("hidden").rename(place))
    guarded.ended(job, "refused", "no images")
    assert source.ends == []
    assert guarded.next() == job
    guarded.ended(job, "refused", "has 4 bands")
    assert source.ends == [("0", "refused", "has 4 bands")]


def test_no_job_begins_in_a_folder_that_was_moved_away(data: Data, tmp_path: Path) -> None:
    """A training would make the folder anew, and go on there without search and log."""
    source, folder = GuardedSource(Jobs(2), data.guard), data[2]
    assert source.next() not in (None, "wait")
    folder.rename(tmp_path / "moved")
    (folder / "confirm").mkdir(parents=True)  # as a training that had begun leaves it
    with pytest.raises(
        StorageError, match=r"is gone while the study runs.*set CRYO_STORAGE to its"
    ):
        source.next()
    shutil.rmtree(folder)
    (tmp_path / "moved").rename(folder)
    assert source.next() not in (None, "wait")


@pytest.mark.parametrize("damage", [b"\xff{", b"[" * 100_000, b"null"])
def test_a_damaged_record_is_reported_and_written_again(
    data: Data, caplog: Any, damage: bytes
) -> None:
    _ = data.guard
    file = data[2] / "data-files.json"
    file.write_bytes(damage)
    data.guard.check()
    assert "is damaged" in caplog.text


@pytest.mark.parametrize("lost", ["removed", "damaged"])
def test_data_that_changed_are_refused_though_the_list_of_files_is_lost(
    data: Data, lost: str
) -> None:
    recipe, site, folder = data
    prints = {s: scenes_of(recipe, s, site).fingerprint for s in data_guard.SPLITS}
    (folder / "data.json").write_text(json.dumps(prints))
    _ = data.guard
    file = folder / "data-files.json"
    file.write_bytes(b"\xff{")
    if lost == "removed":
        file.unlink()
    data.guard.check()  # the same data
    file.unlink()
    data.train[0].write_bytes(data.train[1].read_bytes())
    with pytest.raises(DataError, match=r"have changed since the study began: train, by the"):
        _ = data.guard
    assert not file.exists()
