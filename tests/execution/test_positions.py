"""Workers tell the driver how far they are, through files in the trainings' folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cryo_hpo.data import progress_log
from cryo_hpo.data.progress_log import ProgressLog, opened, position
from cryo_hpo.execution.positions import POSITION, STALE_S, WorkerPositions, writing_position


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_log, "PAUSE_S", 0.0)


def test_the_driver_reads_what_a_worker_writes_as_long_as_it_works(tmp_path: Path) -> None:
    positions = WorkerPositions()
    positions.began("trial-0001", tmp_path)
    with writing_position(tmp_path), ProgressLog("step", 40, counted=True) as step:
        step.advance(3)
        assert positions.text == "trial-0001 step 3 of 40"
        assert not progress_log._open[1:]
    assert positions.text == ""
    assert not list(tmp_path.iterdir())


def test_a_few_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    positions = WorkerPositions()
    for number in range(6):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / POSITION).write_text(f"step {number}")
        positions.began(f"t{number}", folder)
    positions.ended("t0")
    with opened(positions):
        assert position() == "t1 step 1; t2 step 2; t3 step 3; and 2 more"


def test_the_position_of_a_worker_that_was_killed_grows_stale(tmp_path: Path) -> None:
    positions = WorkerPositions()
    positions.began("trial-0001", tmp_path)
    file = tmp_path / POSITION
    file.write_text("step 3 of 40")
    os.utime(file, (0, file.stat().st_mtime - STALE_S - 1))
    assert positions.text == ""
    file.write_text("")  # as it is for a moment while it is written
    assert positions.text == ""


def test_a_folder_that_is_not_there_stops_no_worker(tmp_path: Path) -> None:
    with writing_position(tmp_path / "elsewhere"), ProgressLog("step", 4) as step:
        step.advance()
    assert not (tmp_path / "elsewhere").exists()
