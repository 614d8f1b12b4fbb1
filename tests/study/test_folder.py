from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from cryo_hpo.config import Site, dump_study, load_study
from cryo_hpo.errors import SpecError, StorageError
from cryo_hpo.study import folder

from ..support.disks import small_disk
from ..support.pool import a_study


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.from_env({"CRYO_STORAGE": str(tmp_path / "runs")})


def test_a_folder_keeps_the_spec_it_was_made_for(site):
    study = a_study()
    path = folder.claim(study, site)
    folder.keep_spec(study, path)
    assert path == site.storage / "s"
    assert load_study(path / folder.SPEC) == study
    assert folder.claim(study, site) == path


def test_another_spec_of_the_same_name_is_refused_and_says_what_differs(site):
    path = folder.claim(a_study(), site)
    folder.keep_spec(a_study(), path)
    with pytest.raises(SpecError, match=r"search\.trials: 12 -> 13.*new name"):
        folder.claim(a_study(trials=13), site)
    assert load_study(path / folder.SPEC) == a_study()


def test_another_spec_does_not_take_over_a_folder_whose_spec_was_removed(site):
    """As the message about a damaged one advises; trials of both would be one result."""
    study = a_study()
    path = folder.claim(study, site)
    folder.keep_spec(study, path)
    (path / folder.SPEC).unlink()
    longer = study.model_copy(update={"base": study.base.replace({"epochs": 27})})
    with pytest.raises(SpecError, match=r"study\.yaml\.copy: .*base\.epochs: 9 -> 27"):
        folder.claim(longer, site)
    assert folder.claim(study, site) == path
    folder.keep_spec(study, path)
    assert load_study(path / folder.SPEC) == study


def test_the_copy_of_a_spec_follows_an_extension_and_is_made_for_older_folders(site):
    study = a_study()
    path = folder.claim(study, site)
    folder.keep_spec(study, path)
    longer = study.model_copy(update={"base": study.base.replace({"epochs": 27})})
    (path / folder.SPEC).unlink()
    folder.keep(path / folder.SPEC, dump_study(longer))  # as an extension replaces it
    folder.keep_spec(longer, folder.claim(longer, site))
    (path / folder.SPEC).unlink()
    with pytest.raises(SpecError, match=r"base\.epochs: 27 -> 9"):
        folder.claim(study, site)


def test_a_storage_that_is_a_file_is_refused(site):
    site.storage.write_text("")
    with pytest.raises(StorageError, match="CRYO_STORAGE"):
        folder.claim(a_study(), site)


def _hold(path: Path, held: multiprocessing.synchronize.Event) -> None:
    with folder.driving(path):
        held.set()
        signal.pause()


def test_one_driver_at_a_time_and_a_killed_one_lets_go(site):
    path = folder.claim(a_study(), site)
    fork = multiprocessing.get_context("spawn")
    held = fork.Event()
    other = fork.Process(target=_hold, args=(path, held))
    other.start()
    assert held.wait(60)
    with (
        pytest.raises(StorageError, match=f"process {other.pid} on {socket.gethostname()}"),
        folder.driving(path),
    ):
        pass
    other.kill()
    other.join()
    with folder.driving(path):
        assert f'"pid": {os.getpid()}' in (path / folder.LOCK).read_text()


def test_a_lock_that_names_nobody_is_still_a_lock(site):
    path = folder.claim(a_study(), site)
    with folder.driving(path):
        (path / folder.LOCK).write_text('{"pid": 1')
        with pytest.raises(StorageError, match="One driver at a time"), folder.driving(path):
            pass


def test_a_storage_that_cannot_be_written_to_is_seen_before_anything_is_written(tmp_path):
    assert folder.unusable(tmp_path / "new" / "runs") == ""
    (tmp_path / "file").write_text("")
    assert "file' is no folder: `run` will be refused" in folder.unusable(
        tmp_path / "file" / "runs"
    )
    with small_disk(tmp_path / "disk"):
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "disk"], check=True)
        assert "disk' cannot be written to" in folder.unusable(tmp_path / "disk" / "runs")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "file"]
