from __future__ import annotations

import errno
import logging
import math
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from cryo_hpo.errors import StorageError
from cryo_hpo.training import checkpoints


def _two_epochs(folder: Path) -> None:
    for epoch in (1, 2):
        checkpoints.save_last(folder, {"epoch": epoch, "weights": torch.full((64, 64), epoch)})


def _epoch(folder: Path) -> int | None:
    state = checkpoints.load_last(folder)
    return None if state is None else int(state["epoch"])


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    """Change one byte of the weights, which torch.load alone does not notice."""
    content = bytearray(path.read_bytes())
    content[content.index(b"\x02\0\0\0\0\0\0\0" * 8)] ^= 0x40
    path.write_bytes(content)
    torch.load(path, weights_only=True)


def _fill(path: Path) -> None:
    path.write_bytes(b"not a checkpoint at all" * 99)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = [_cut, _flip, _fill, _empty]


def test_the_newest_state_is_read_and_the_one_before_is_kept(tmp_path):
    assert _epoch(tmp_path) is None
    _two_epochs(tmp_path)
    assert _epoch(tmp_path) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["before.pt", "last.pt"]
    (tmp_path / "last.pt").unlink()  # killed between the two renames
    assert _epoch(tmp_path) == 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_told_and_the_one_before_is_taken(tmp_path, damage, caplog):
    _two_epochs(tmp_path)
    damage(tmp_path / "last.pt")
    with caplog.at_level(logging.WARNING):
        assert _epoch(tmp_path) == 1
    assert "last.pt' is damaged" in caplog.text
    damage(tmp_path / "before.pt") if damage is not _flip else _cut(tmp_path / "before.pt")
    assert _epoch(tmp_path) is None, "a training starts afresh"


def _out_of_reach(number: int, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Let a file be what a root's test cannot make it: of another user, or of a lost mount."""
    opens = zipfile.ZipFile

    def refuse(file: Path) -> zipfile.ZipFile:
        if file == path:
            raise OSError(number, os.strerror(number), str(file))
        return opens(file)

    monkeypatch.setattr(zipfile, "ZipFile", refuse)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.EMFILE])
def test_a_state_that_cannot_be_read_now_is_not_taken_for_damaged(tmp_path, monkeypatch, number):
    """The training would go on from an older one, or from the beginning, and replace it."""
    _two_epochs(tmp_path)
    with monkeypatch.context() as patch:
        _out_of_reach(number, patch, tmp_path / "last.pt")
        with pytest.raises(StorageError, match=r"last\.pt': .*Make it readable, then run"):
            checkpoints.load_last(tmp_path)
    assert _epoch(tmp_path) == 2
    _out_of_reach(errno.EIO, monkeypatch, tmp_path / "last.pt")  # a sector of the disk is lost
    assert _epoch(tmp_path) == 1


def test_a_best_model_that_cannot_be_read_now_restarts_no_training(tmp_path, monkeypatch):
    _training(tmp_path)
    with monkeypatch.context() as patch:
        _out_of_reach(errno.ESTALE, patch, tmp_path / "best.pt")
        with pytest.raises(StorageError, match=r"Cannot read checkpoint '.*best\.pt'"):
            checkpoints.restart_without_best(tmp_path, "mine")
    assert _epoch(tmp_path) == 2


def _whole_archive(path: Path) -> None:
    """Write an archive whose checksums are right and whose content torch refuses."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("last/data.pkl", pickle.dumps(logging.getLogger))
        archive.writestr("last/version", "3\n")
        archive.writestr("last/byteorder", "little")


def _tensor(path: Path) -> None:
    torch.save(torch.ones(3), path)


@pytest.mark.parametrize("replace", [_whole_archive, _tensor])
def test_a_whole_file_that_is_no_checkpoint_counts_as_damaged(tmp_path, replace, caplog):
    _two_epochs(tmp_path)
    replace(tmp_path / "last.pt")
    assert _epoch(tmp_path) == 1
    assert "last.pt' is damaged" in caplog.text


def _training(folder: Path, *, recipe: str = "mine", best: str | None = "mine") -> None:
    for epoch in (1, 2):
        history = [{"epoch": e, "best_val_miou": 0.5} for e in range(1, epoch + 1)]
        checkpoints.save_last(folder, {"recipe": recipe, "history": history, "epoch": epoch})
    if best is not None:
        checkpoints.save(folder / "best.pt", {"recipe": best, "model": {}})


def test_a_checkpoint_of_another_recipe_is_set_aside_and_the_one_before_is_used(tmp_path, caplog):
    _training(tmp_path / "mine")
    _training(tmp_path / "other", recipe="other")
    shutil.copy(tmp_path / "other" / "last.pt", tmp_path / "mine")
    checkpoints.set_aside_foreign(tmp_path / "mine", "mine")
    assert _epoch(tmp_path / "mine") == 1
    assert (tmp_path / "mine" / "last.pt.other").exists()
    assert "belongs to recipe other, not to mine" in caplog.text
    shutil.copy(tmp_path / "other" / "last.pt", tmp_path / "mine" / "before.pt")
    checkpoints.set_aside_foreign(tmp_path / "mine", "mine")
    assert _epoch(tmp_path / "mine") is None


@pytest.mark.parametrize("lost", ["gone", "cut", "zeros", "swapped", "nothing"])
def test_a_training_that_lost_its_best_model_starts_again(tmp_path, lost, caplog):
    _training(tmp_path, best="other" if lost == "swapped" else "mine")
    path = tmp_path / "best.pt"
    if lost == "gone":
        path.unlink()
    elif lost == "cut":
        _cut(path)
    elif lost == "zeros":
        path.write_bytes(bytes(path.stat().st_size))
    assert (checkpoints.damage_of_best(path, "mine") == "") == (lost == "nothing")
    checkpoints.restart_without_best(tmp_path, "mine")
    assert _epoch(tmp_path) == (2 if lost == "nothing" else None)
    assert ("starts again" in caplog.text) == (lost != "nothing")


@pytest.mark.parametrize("history", [[], [{"epoch": 1, "best_val_miou": -math.inf}]])
def test_a_training_without_scores_has_no_best_model_to_lose(tmp_path, history):
    checkpoints.save_last(tmp_path, {"recipe": "mine", "history": history, "epoch": 1})
    checkpoints.restart_without_best(tmp_path, "mine")
    assert _epoch(tmp_path) == 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_best_model_is_refused_with_the_remedy(tmp_path, damage):
    path = tmp_path / "best.pt"
    checkpoints.save(path, {"weights": torch.full((64, 64), 2)})
    damage(path)
    with pytest.raises(StorageError, match=r"best\.pt' is damaged.*Remove the folder"):
        checkpoints.load(path)


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: out of memory"),
    ],
)
def test_an_error_of_the_gpu_is_not_reported_as_a_full_disk(tmp_path, error, monkeypatch):
    _two_epochs(tmp_path)

    def copy_from_gpu(*_: object) -> None:
        raise error

    monkeypatch.setattr(torch, "save", copy_from_gpu)
    with pytest.raises(type(error), match="CUDA"):
        checkpoints.save_last(tmp_path, {"epoch": 3})
    assert _epoch(tmp_path) == 2


def test_a_full_disk_is_reported_with_its_remedy(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:659] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StorageError, match=r"Cannot write checkpoint.*Free space"):
        checkpoints.save_last(tmp_path, {"epoch": 1})
