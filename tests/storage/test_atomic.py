from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryo_hpo.storage.atomic import replacing, restoring, write_text


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "state.json"
    path.write_text("old")
    return path


@pytest.mark.parametrize("durable", [True, False])
def test_the_new_content_stands_where_the_old_one_did(target: Path, durable: bool) -> None:
    with replacing(target, durable=durable) as draft:
        draft.write_text("new")
        assert target.read_text() == "old"
        assert draft.parent == target.parent
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_content_and_no_draft(target: Path, error: BaseException) -> None:
    def write() -> None:
        with replacing(target) as draft:
            draft.write_text("half of")
            raise error

    with pytest.raises(type(error)):
        write()
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


def test_a_killed_writer_leaves_the_old_content(target: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from cryo_hpo.storage.atomic import replacing\n"
        "with replacing(Path(sys.argv[1])) as draft:\n"
        "    draft.write_text('half of'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert done.returncode == -9
    assert target.read_text() == "old"


def test_two_writers_of_one_file_keep_apart(target: Path) -> None:
    with replacing(target) as one, replacing(target) as other:
        one.write_text("one")
        other.write_text("other")
    assert target.read_text() == "one"


def test_a_file_that_no_one_drafted_is_an_error_and_keeps_the_old(target: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(target):
        pass
    assert target.read_text() == "old"


@pytest.mark.parametrize("durable", [True, False])
def test_content_reaches_the_disk_before_its_name(
    target: Path, durable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync, replace = os.fsync, Path.replace

    def fsync(fd: int) -> None:
        steps.append("folder" if Path(f"/proc/self/fd/{fd}").resolve().is_dir() else "file")
        sync(fd)

    def renamed(path: Path, to: Path) -> Path:
        steps.append("rename")
        return replace(path, to)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", renamed)
    write_text(target, "new", durable=durable)
    assert steps == (["file", "rename", "folder"] if durable else ["rename"])


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")))
def test_any_text_is_read_as_it_was_written(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "text"
    write_text(path, text, durable=False)
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_error_restores_old_files_and_removes_new_ones(
    target: Path, error: BaseException
) -> None:
    new = target.with_name("new.json")

    def write() -> None:
        with restoring([target, new]):
            write_text(target, "half of")
            write_text(new, "a pair")
            raise error

    with pytest.raises(type(error)):
        write()
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


def test_without_an_error_all_files_stay_as_written(target: Path) -> None:
    new = target.with_name("new.json")
    with restoring([target, new]):
        write_text(target, "both")
        write_text(new, "files")
    assert (target.read_text(), new.read_text()) == ("both", "files")
