"""What lies in the place of a file and is none is refused in words, before it is opened."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from cryo_hpo.cli.main import main
from cryo_hpo.errors import StorageError
from cryo_hpo.storage import plain_files
from cryo_hpo.storage.lock import is_locked
from cryo_hpo.storage.plain_files import other_kind, parse_json, read_file, require_plain_folder

from ..support.finished import Finished, finished_study

PATIENCE_S = 60


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened, pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)  # the address of a socket has at most 107 bytes
        opened.bind(path.name)


KINDS: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a socket": _socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link in a circle": lambda path: path.symlink_to(path.name),
    "a link to 'away'": lambda path: path.symlink_to("away"),
}
FILES = (
    *("result.json", "study.yaml", "study.yaml.copy", "events.jsonl", ".driver"),
    *("confirm/baseline-seed1/best.pt", "confirm/baseline-seed1/ended"),
)
COMMANDS = {
    "status": ("status", "done"),
    "report": ("report", "done"),
    "compare": ("compare", "done", "done"),
    "upload": ("upload", "done"),
    "resume": ("resume", "--inline", "done"),
    "extend": ("extend", "done", "--seeds", "7", "--inline"),
    "export": ("export", "done", "--out", "model.pt"),
    "learn": ("learn", "done", "--out", "portfolio.json"),
}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished_study(tmp_path_factory.mktemp("ground"), epochs=1)


@pytest.fixture
def folder(tmp_path: Path, ground: Finished, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a copy of the finished study, which commands look for."""
    for name in ("DATA", "STORAGE", "CACHE", "WEIGHTS"):
        place = tmp_path if name == "STORAGE" else ground.folder.parents[1]
        monkeypatch.setenv(f"CRYO_{name}", str(place / name.lower()))
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(ground.folder, tmp_path / "storage" / "done"))


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """Fail where something waits for a pipe or never comes to the end of a device."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits for ever"))
    signal.alarm(PATIENCE_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "result.json"
    KINDS[kind](path)
    assert other_kind(path).startswith(kind)
    with pytest.raises(StorageError, match=rf"result\.json' must be a file, it is {kind}"):
        read_file(path)
    with pytest.raises(StorageError, match=rf"result\.json' must be a file, it is {kind}"):
        require_plain_folder(tmp_path)
    assert not is_locked(path)


def test_files_links_to_files_and_what_is_no_file_of_a_study_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kept.json").write_text("{}")
    (tmp_path / "result.json").symlink_to("kept.json")
    (tmp_path / "trials" / "trial-0000").mkdir(parents=True)
    (tmp_path / ".#study.yaml.lock").symlink_to("someone@host.1")  # an editor's lock
    os.mkfifo(tmp_path / "progress")
    require_plain_folder(tmp_path)
    require_plain_folder(tmp_path / "nowhere")
    assert read_file(tmp_path / "result.json") == b"{}"
    assert other_kind(tmp_path / "nothing") == ""


@pytest.mark.parametrize("name", plain_files.FOLDERS)
def test_a_file_in_the_place_of_trainings_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(StorageError, match=f"{name}' must be a folder of trainings"):
        require_plain_folder(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/scratch/away")
    with pytest.raises(StorageError, match=f"{name}' .*'/scratch/away', which is not there"):
        require_plain_folder(tmp_path)


def test_a_file_without_end_is_not_read_into_memory(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(plain_files, "LARGEST", 2**20)
    with (tmp_path / "result.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(StorageError, match="more than 1 MiB"):
        read_file(tmp_path / "result.json")


def test_lists_nested_without_end_are_no_json() -> None:
    assert parse_json(b'{"n": [1]}') == {"n": [1]}
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json("[" * 100_000)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_them_and_none_waits(folder: Path, command: str) -> None:
    for kind, make in KINDS.items():
        for name in FILES:
            path, kept = folder / name, folder.parent / "kept"
            path.touch()
            path.rename(kept)
            make(path)
            done = CliRunner().invoke(main, COMMANDS[command])
            assert (done.exit_code, str(path) in done.stderr) == (1, True), (
                kind,
                name,
                done.output,
            )
            assert f"must be a file, it is {kind}" in done.stderr, (kind, name, done.output)
            assert done.stderr.count("\n") == 1, done.output
            path.rmdir() if kind == "a folder" else path.unlink()
            kept.rename(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("words", [("check",), ("plan",), ("run", "--inline"), ("data", "check")])
def test_a_study_or_card_that_is_no_file_is_refused(tmp_path: Path, kind: str, words) -> None:
    path = tmp_path / "own.yaml"
    KINDS[kind](path)
    done = CliRunner().invoke(main, [*words, str(path)])
    assert done.exit_code == 2
    assert f"must be a file, it is {kind}" in done.stderr
