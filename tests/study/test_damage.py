"""Files of a study that are lost or damaged after they were written: reported, never another result.

Each test damages a copy of one finished study, gives the same command, and compares the results.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cryo_hpo.cli.main import main
from cryo_hpo.config import dump_study
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
def test_a_lost_best_model_is_trained_again_and_never_scores_0(
    sandbox, finished, copied, lost, caplog
):
    folder = copied(f"best-{lost}")
    path = folder / "confirm" / "tuned-seed2" / "best.pt"
    path.unlink()
    if lost == "swapped":
        shutil.copy(folder / "confirm" / "baseline-seed2" / "best.pt", path)
    _again(sandbox, folder)
    assert "Training 'tuned-seed2' runs again" in caplog.text
    assert caplog.text.count("runs again") == 1
    check_same_outcome(folder, finished("promote"))
    assert load_result(folder).improvement == load_result(finished("promote")).improvement


def test_damaged_records_change_nothing_and_are_reported(sandbox, finished, copied, caplog):
    """The journal has a line of zeros; the log lost a line, and its second half."""
    folder = copied("records")
    journal, log = folder / "journal.log", folder / "events.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[len(lines) // 2] = b"\0" * 40 + b"\n"
    journal.write_bytes(b"".join(lines))
    events = log.read_bytes().splitlines(keepends=True)
    events[6] = b"\xff" + events[6][1:]
    log.write_bytes(b"".join(events[: len(events) // 2]))
    _again(sandbox, folder)
    assert "restored from the journal's copy" in caplog.text
    assert f"'{log}': line 7 is damaged" in caplog.text
    assert "has lost its end" in caplog.text
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


# Content that a disk, a copy or an editor leaves in a file's place.
LEFT = {
    "empty": lambda _: b"",
    "half": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
    "another": lambda _: json.dumps({"version": 7, "": [None]}).encode() + b"\n",
    "no object": lambda _: b"[1, 2]\n",
}
# Written for people and other programs, and never read by a study.
UNREAD = ("report", "environment.json")


@pytest.mark.parametrize("left", LEFT)
def test_any_damaged_file_of_a_folder_changes_nothing_or_is_named(
    sandbox: Sandbox, finished: Callable[[str], Path], left: str
) -> None:
    """Each file in turn, while all others are whole, and the result is still to be written."""
    whole = finished("promote")
    names = sorted(
        str(path.relative_to(whole))
        for path in whole.rglob("*")
        if path.is_file() and path.name != ".driver"
    )
    assert {"study.yaml", "journal.log", "events.jsonl", "data-files.json"} <= set(names)
    ways = list(LEFT)
    for number, name in enumerate(n for n in names if n.split("/")[0] not in UNREAD):
        if (number + ways.index(left)) % len(ways):  # each file is damaged in one way
            continue
        storage = f"any-{left.replace(' ', '-')}-{number}"
        shutil.copytree(whole.parent, sandbox.root / storage)
        folder = sandbox.root / storage / whole.name
        if name != "result.json":
            (folder / "result.json").unlink()
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(LEFT[left](content))
        done = _invoke(sandbox, storage)
        if done.exit_code:
            assert done.exit_code in (1, 2), (name, done.output)
            assert Path(name).name in done.output, (name, done.output)
            (folder / name).write_bytes(content)
            done = _invoke(sandbox, storage)
        assert done.exit_code == 0, (name, done.output)
        check_same_outcome(folder, whole)


def _invoke(sandbox: Sandbox, storage: str) -> Result:
    spec = sandbox.root / f"{storage}.yaml"
    spec.write_text(dump_study(sandbox.study("whole-promote")))
    words = ["run", "--inline", str(spec)]
    return CliRunner().invoke(main, words, env=sandbox.places(storage), catch_exceptions=False)
