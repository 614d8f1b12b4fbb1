from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from cryo_hpo.errors import StorageError
from cryo_hpo.monitoring.recorder import Records
from cryo_hpo.results import epochs as records

from ..support.pool import a_study

STUDY = a_study()


class Calls:
    """Stands for tracker and progress: keeps what it was told."""

    def __init__(self) -> None:
        self.made: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: self.made.append((name, *args, kwargs))

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.made if call[0] == name]


def _metrics(epoch: int) -> dict[str, float]:
    return {"epoch": epoch, "best_val_miou": 0.1 * epoch, "seconds": 1.5}


def _records(folder: Path) -> tuple[Records, Calls, Calls]:
    tracker, progress = Calls(), Calls()
    found = Records(STUDY, folder, tracker=tracker, progress=progress)  # type: ignore[arg-type]
    return found, tracker, progress


def test_an_epoch_is_told_once_however_often_the_study_is_begun_again(tmp_path):
    for _ in range(2):
        found, tracker, progress = _records(tmp_path)
        for epoch in (1, 2, 2):
            found.epoch("trial-0001", _metrics(epoch))
    assert tracker.named("log") == progress.named("epoch") == []
    assert progress.named("leave_out") == [(2, {})]
    found.epoch("trial-0000", _metrics(1))
    assert tracker.named("log") == [("s/trial-0000", _metrics(1), {"step": 1})]
    assert [(r["key"], r["epoch"]) for r in records.read(tmp_path)] == [
        ("trial-0001", 1),
        ("trial-0001", 2),
        ("trial-0000", 1),
    ]
    assert [r["best_val_miou"] for r in records.of(tmp_path, "trial-0001")] == [0.1, 0.2]


@pytest.mark.parametrize("torn", ['{"key": "trial-00', '{"key": "trial-0001", "epoch": 2}', "{"])
def test_a_torn_line_is_left_out_and_swallows_nothing(tmp_path, torn, caplog):
    found, _, _ = _records(tmp_path)
    found.epoch("trial-0001", _metrics(1))
    with (tmp_path / records.EPOCHS).open("a") as file:
        file.write(torn)
    found, _, _ = _records(tmp_path)
    found.epoch("trial-0001", _metrics(2))
    found.epoch("trial-0001", _metrics(3))
    with caplog.at_level(logging.WARNING):
        assert [r["epoch"] for r in records.of(tmp_path, "trial-0001")] == [1, 2, 3]
    assert ("torn line" in caplog.text) == (torn[-1] != "}")


def test_a_study_without_epochs_has_none(tmp_path):
    assert list(records.read(tmp_path)) == []


def test_a_disk_that_takes_nothing_is_said_plainly(tmp_path):
    found, _, _ = _records(tmp_path / "gone")
    with pytest.raises(StorageError, match=r"record must be writable.*epochs\.jsonl.*Free space"):
        found.epoch("trial-0001", _metrics(1))


def test_a_training_has_a_run_of_its_own_below_the_study(tmp_path):
    found, tracker, _ = _records(tmp_path)
    found.started("trial-0000", STUDY.base, kind="baseline")
    key, facts = tracker.named("start")[0]
    assert (key, facts["parent"]) == ("s/trial-0000", "s")
    assert facts["params"]["optim.lr"] == facts["params"]["lr"] == 1e-4
    assert facts["name"] == "trial-0000 lr 1e-4"
    assert facts["tags"]["cryo.kind"] == "baseline"
    assert None not in facts["params"].values()
    json.dumps(facts)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("complete", "FINISHED"),
        ("pruned", "FINISHED"),
        ("diverged", "FAILED"),
        ("failed", "FAILED"),
    ],
)
def test_the_end_of_a_training_is_the_end_of_its_run(tmp_path, state, status):
    found, tracker, _ = _records(tmp_path)
    found.started("trial-0000", STUDY.base, kind="search")
    found.ended("trial-0000", state, "why")
    assert tracker.named("end") == [("s/trial-0000", status, {})]
    assert tracker.named("tag")[-1][1] == {"cryo.state": state, "cryo.message": "why"}


def test_an_end_sums_up_without_reading_every_epoch_again(tmp_path, monkeypatch):
    """A thousand trials end in a search: each reading of the file would cost all their epochs."""
    found, _, _ = _records(tmp_path)
    found.epoch("trial-0000", _metrics(1))
    found, tracker, _ = _records(tmp_path)
    found.epoch("trial-0000", _metrics(1))
    found.epoch("trial-0000", _metrics(2))
    found.epoch("trial-0001", _metrics(1))
    monkeypatch.setattr(records, "read", None)
    found.ended("trial-0000", "complete", "")
    spent = {"epochs": 2.0, "seconds_total": 3.0}
    assert tracker.named("log")[-1] == ("s/trial-0000", spent, {"step": 2})


@pytest.mark.parametrize("status", ["KILLED", "FAILED"])
def test_whoever_still_runs_when_a_study_stops_is_closed(tmp_path, status):
    found, tracker, _ = _records(tmp_path)
    for number in range(3):
        found.started(f"trial-{number:04d}", STUDY.base, kind="search")
    found.ended("trial-0001", "complete", "")
    found.paused("trial-0002", 1)
    found.stopped(status)
    ends = {key: status for key, status, _ in tracker.named("end")}
    assert ends == {
        "s/trial-0001": "FINISHED",
        "s/trial-0000": "KILLED",
        "s/trial-0002": "KILLED",
        "s": status,
    }
