"""A journal that is damaged on disk: nothing is lost while its copy is whole, and never in silence."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from cryo_hpo.errors import StorageError
from cryo_hpo.search.journal import Journal

EPOCHS = 5


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Write a journal of three trials."""
    folder: Path = tmp_path_factory.mktemp("whole")
    journal = Journal(folder / "journal.log", study="s")
    for number in range(3):
        journal.begin({}, None)
        for epoch in range(1, EPOCHS + 1):
            journal.report(number, epoch, 0.1 * epoch)
    journal.end(0, "complete")
    return folder


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    """Copy that journal."""
    folder = tmp_path / "s"
    shutil.copytree(whole, folder)
    return folder / "journal.log"


def _records(path: Path):
    return Journal(path, study="s").records()


def _zero(path: Path, *numbers: int) -> None:
    """Overwrite lines by zeros."""
    lines = path.read_bytes().splitlines(keepends=True)
    for n in numbers:
        lines[n] = b"\0" * (len(lines[n]) - 1) + b"\n"
    path.write_bytes(b"".join(lines))


def _copy_of(path: Path) -> Path:
    return path.with_name("journal.log.copy")


@pytest.mark.parametrize("line", [0, 1, 7, 12, -1])
@pytest.mark.parametrize("name", ["journal.log", "journal.log.copy"])
def test_a_damaged_line_is_restored_from_the_copy(path, whole, line, name, caplog):
    _zero(path.with_name(name), line)
    assert _records(path) == _records(whole / "journal.log")
    assert path.read_bytes() == _copy_of(path).read_bytes() == (whole / path.name).read_bytes()
    if name == "journal.log":
        assert "is damaged. It is restored from the journal's copy: nothing is lost." in caplog.text


def _delete(path: Path) -> None:
    path.unlink()


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _drop_a_line(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3] + lines[4:]))


def _not_utf8(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] = 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_delete, _halve, _drop_a_line, _not_utf8])
def test_a_journal_that_lost_lines_is_restored_from_its_copy(path, whole, damage, caplog):
    damage(path)
    assert _records(path) == _records(whole / "journal.log")
    assert "restored from" in caplog.text


def test_a_line_lost_in_both_files_is_refused_with_file_line_cost_and_remedy(path):
    _zero(path, 5, 6)
    _zero(_copy_of(path), 4, 5)
    with pytest.raises(StorageError, match=r"journal\.log', line 6: damaged.*1 of .*Restore"):
        _records(path)


@pytest.mark.parametrize("damage", [_delete, _halve])
def test_without_a_copy_a_damaged_end_is_cut_off_and_reported(path, whole, damage, caplog):
    damage(_copy_of(path))
    _zero(path, -1)
    _zero(_copy_of(path), -1) if _copy_of(path).exists() else None
    records = _records(path)
    assert records[1:] == _records(whole / "journal.log")[1:]
    assert records[0].state == "running", "its end is recorded again"
    assert "The end is cut off" in caplog.text
    assert _records(path) == records


def test_a_torn_line_is_cut_off_and_reported(path, whole, caplog):
    for file in (path, _copy_of(path)):
        with file.open("ab") as opened:
            opened.write(b'{"op_code":7,"worker_id":"3')
    assert _records(path) == _records(whole / "journal.log")
    assert "the last line was torn" in caplog.text


def test_a_file_that_is_no_journal_is_refused(tmp_path):
    (tmp_path / "journal.log").write_bytes(b"\xff\xfe not a journal\n" * 3)
    with pytest.raises(StorageError, match="none of its 3 lines is sound"):
        _records(tmp_path / "journal.log")


def test_a_line_that_lost_its_checksum_and_a_part_is_refused(tmp_path):
    file = tmp_path / "journal.log"
    file.write_text('{"n": 0, "op_code": 0, "worker_id": "e550"}\n')
    with pytest.raises(StorageError, match="cannot be replayed: KeyError: 'study_name'"):
        Journal(file, study="s")


def test_optuna_reads_the_file_and_a_file_of_optuna_is_read(path, whole, tmp_path):
    storage = JournalStorage(JournalFileBackend(str(path)))
    assert len(storage.get_all_trials(0)) == 3
    old = tmp_path / "journal.log"
    plain = [json.loads(line) for line in path.read_bytes().splitlines()]
    for each in plain:
        del each["n"], each["crc"]
    old.write_text("".join(json.dumps(each, separators=(",", ":")) + "\n" for each in plain))
    assert _records(old) == _records(whole / "journal.log")
    journal = Journal(old, study="s")
    journal.report(2, EPOCHS + 1, 0.7)
    assert _records(old)[2].curve[EPOCHS + 1] == 0.7


def test_a_search_without_its_journal_is_reported(path, caplog):
    path.unlink()
    _copy_of(path).unlink()
    (path.parent / "trials" / "trial-0000").mkdir(parents=True)
    assert _records(path) == []
    assert "and its copy are gone" in caplog.text


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"database": "x"}'])
def test_a_damaged_marker_of_a_database_is_named(tmp_path, content):
    (tmp_path / "database.json").write_bytes(content)
    with pytest.raises(StorageError, match=r"database\.json' is damaged.*Restore"):
        _records(tmp_path / "journal.log")
