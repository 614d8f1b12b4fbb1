"""Files of a study that are lost or damaged after they were written: reported, never another result.

Each test damages a copy of one finished study, gives the same command, and compares the results.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from cryo_hpo.results.study import load_result

from ..support.outcomes import check_same_outcome
from ..support.sandbox import Sandbox

pytestmark = pytest.mark.slow


@pytest.fixture
def copied(sandbox: Sandbox, finished: Callable[[str], Path]) -> Callable[[str], Path]:
    """Copy the finished study to a storage of this name, without its test scores and result."""

    def copy(storage: str) -> Path:
        whole = finished("promote")
        shutil.copytree(whole.parent, sandbox.root / storage)
        folder = sandbox.root / storage / whole.name
        for name in ("result.json", "test-scores.json"):
            (folder / name).unlink()
        return folder

    return copy


def _again(sandbox: Sandbox, folder: Path) -> str:
    return sandbox.run(sandbox.study("whole-promote"), folder.parent.name)


@pytest.mark.parametrize("lost", ["gone", "swapped"])
def test_a_lost_best_model_is_trained_again_and_never_scores_0(sandbox, finished, copied, lost):
    folder = copied(f"best-{lost}")
    path = folder / "confirm" / "tuned-seed2" / "best.pt"
    path.unlink()
    if lost == "swapped":
        shutil.copy(folder / "confirm" / "baseline-seed2" / "best.pt", path)
    output = _again(sandbox, folder)
    assert "Training 'tuned-seed2' runs again" in output
    assert output.count("runs again") == 1
    check_same_outcome(folder, finished("promote"))
    assert load_result(folder).improvement == load_result(finished("promote")).improvement


def test_damaged_records_change_nothing_and_are_reported(sandbox, finished, copied):
    """The journal has a line of zeros; the log lost a line, and its second half."""
    folder = copied("records")
    journal, log = folder / "journal.log", folder / "events.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[len(lines) // 2] = b"\0" * 40 + b"\n"
    journal.write_bytes(b"".join(lines))
    events = log.read_bytes().splitlines(keepends=True)
    events[6] = b"\xff" + events[6][1:]
    log.write_bytes(b"".join(events[: len(events) // 2]))
    output = _again(sandbox, folder)
    assert "restored from the journal's copy" in output
    assert f"'{log}': line 7 is damaged" in output
    assert "has lost its end" in output
    check_same_outcome(folder, finished("promote"))
    database = sqlite3.connect(f"file:{folder.parent}/mlflow.db?mode=ro", uri=True)
    with contextlib.closing(database) as opened:
        states = [status for (status,) in opened.execute("select status from runs")]
        points = opened.execute(
            "select count(*) from metrics group by run_uuid, key, step order by 1 desc limit 1"
        ).fetchone()
    assert set(states) == {"FINISHED"}
    assert points == (1,), "a point stands twice"


def test_a_damaged_spec_of_the_folder_is_named_with_the_remedy(sandbox, copied):
    folder = copied("spec")
    content = (folder / "study.yaml").read_bytes()
    for part in (content[: len(content) // 2], b""):
        (folder / "study.yaml").write_bytes(part)
        with pytest.raises(AssertionError, match=r"is damaged.*Remove this file"):
            _again(sandbox, folder)
