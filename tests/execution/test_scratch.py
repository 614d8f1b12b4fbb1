from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest

from cryo_hpo.execution.environment import MAX_SOCKET, SOCKET
from cryo_hpo.execution.scratch import LOCK, YOUNG_S, private_folder
from cryo_hpo.execution.signals import raise_if_asked, stoppable


def test_a_scratch_folder_is_private_and_removed(tmp_path: Path) -> None:
    with private_folder(tmp_path, ".tune-") as folder:
        assert folder.parent == tmp_path
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "sub").mkdir()
        with private_folder(tmp_path, ".tune-") as other:
            assert folder.exists(), "it is in use"
            assert other != folder
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    left, new, old, foreign = (
        tmp_path / name for name in (".tune-left", ".tune-new", ".tune-old", "data")
    )
    for folder in (left, new, old, foreign):
        folder.mkdir()
    (left / LOCK).touch()
    past = old.stat().st_mtime - 2 * YOUNG_S
    os.utime(old, (past, past))
    (tmp_path / ".tune-link").symlink_to(foreign)
    with private_folder(tmp_path, ".tune-"):
        assert new.exists(), "it may be in the making"
        assert not left.exists()
        assert not old.exists()
        assert foreign.exists()
    assert (tmp_path / ".tune-link").exists()


def test_an_ignored_hangup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            signal.raise_signal(signal.SIGHUP)
            raise_if_asked()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("length", [4, 20, 40, 90])
def test_the_sockets_of_a_local_cluster_have_short_paths(length: int) -> None:
    driver = pytest.importorskip("cryo_hpo.execution.ray_driver")
    parent = driver.session_parent(Path("/" + "t" * (length - 1)))
    assert len(str(parent)) + len(driver.SESSION) + SOCKET <= MAX_SOCKET
