from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cryo_hpo.storage.lock import lock, locked

HOLD = (
    "import sys, time; from pathlib import Path; from cryo_hpo.storage.lock import locked\n"
    "with locked(Path(sys.argv[1])):\n"
    "    print('held', flush=True); sys.stdin.read()"
)


@pytest.fixture
def holder(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "a.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_held_lock_refuses_who_does_not_wait(tmp_path: Path, holder) -> None:
    with pytest.raises(BlockingIOError), locked(tmp_path / "a.lock", wait=False):
        pass
    with locked(tmp_path / "another.lock", wait=False):
        pass


def test_who_waits_gets_a_lock_when_its_holder_is_killed(tmp_path: Path, holder) -> None:
    taken = threading.Event()

    def take() -> None:
        with locked(tmp_path / "a.lock"):
            taken.set()

    thread = threading.Thread(target=take)
    thread.start()
    assert not taken.wait(0.3)
    holder.kill()
    assert taken.wait(10)
    thread.join()


def test_a_lock_keeps_what_its_file_holds_and_ends_with_the_block(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.lock"
    for word in (b"one", b"two"):
        with locked(path, wait=False) as file:
            file.write(word)
    assert path.read_bytes() == b"onetwo"


def test_an_open_file_is_locked_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with path.open("ab") as one:
        lock(one, wait=False)
        with path.open("ab") as other, pytest.raises(BlockingIOError):
            lock(other, wait=False)
    with path.open("ab") as other:
        lock(other, wait=False)


def test_a_lock_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.lock").mkdir()
    with pytest.raises(IsADirectoryError), locked(tmp_path / "a.lock"):
        pass
