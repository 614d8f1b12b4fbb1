from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cryo_hpo.errors import StorageError
from cryo_hpo.monitoring.recorder import Records
from cryo_hpo.results import epochs as records
from cryo_hpo.storage.event_log import EventLog, Mark, read_events
from cryo_hpo.tracking.calls import calls_of

from ..support.pool import a_study

STUDY = a_study()
LOG = "events.jsonl"


def _metrics(epoch: int) -> dict[str, float]:
    return {"epoch": epoch, "best_val_miou": 0.1 * epoch, "seconds": 1.5}


@contextlib.contextmanager
def _begun(folder: Path, **given: Any) -> Iterator[tuple[Records, list[dict[str, Any]]]]:
    """Open a study's records; what they append meanwhile."""
    with contextlib.closing(EventLog(folder / LOG)) as log:
        appended: list[dict[str, Any]] = []
        log.subscribe(appended.append)
        yield Records(STUDY, log, **given), appended


def _epochs(folder: Path, key: str) -> list[int]:
    return [line["epoch"] for line in records.by_key(folder).get(key, [])]


def test_an_epoch_is_recorded_once_however_often_the_study_is_resumed(tmp_path):
    for done in (0, 2):
        with _begun(tmp_path) as (found, appended):
            assert found.epochs == done
            for epoch in (1, 2, 2):
                found.epoch("trial-0001", _metrics(epoch))
    assert appended == []
    with _begun(tmp_path) as (found, appended):
        found.epoch("trial-0000", _metrics(1))
        assert [(e["event"], e["key"], e["epoch"]) for e in appended] == [
            ("epoch", "trial-0000", 1)
        ]
        assert found.has("trial-0000", 1)
        assert not found.has("trial-0000", 2)
    assert [(r["key"], r["epoch"]) for r in records.read(tmp_path)] == [
        ("trial-0001", 1),
        ("trial-0001", 2),
        ("trial-0000", 1),
    ]
    assert [r["best_val_miou"] for r in records.by_key(tmp_path)["trial-0001"]] == [0.1, 0.2]


@pytest.mark.parametrize("torn", ['{"n": 2, "key": "trial-00', "{"])
def test_a_torn_line_is_left_out_and_swallows_nothing(tmp_path, torn, caplog):
    with _begun(tmp_path) as (found, _):
        found.epoch("trial-0001", _metrics(1))
    with (tmp_path / LOG).open("a") as file:
        file.write(torn)
    with caplog.at_level(logging.WARNING), _begun(tmp_path) as (found, _):
        found.epoch("trial-0001", _metrics(2))
        found.epoch("trial-0001", _metrics(3))
    assert _epochs(tmp_path, "trial-0001") == [1, 2, 3]
    assert "torn" in caplog.text


def test_an_epoch_on_a_damaged_line_is_recorded_again(tmp_path):
    with _begun(tmp_path) as (found, _):
        for epoch in (1, 2, 3):
            found.epoch("trial-0001", _metrics(epoch))
    content = (tmp_path / LOG).read_bytes()
    (tmp_path / LOG).write_bytes(content.replace(b'"epoch": 2', b'"epoch": \xff'))
    with _begun(tmp_path) as (found, appended):
        for epoch in (1, 2, 3):
            found.epoch("trial-0001", _metrics(epoch))
    assert [e["epoch"] for e in appended] == [2]
    assert _epochs(tmp_path, "trial-0001") == [1, 2, 3]


@pytest.mark.parametrize("lost", ["a line", "the end", "the last epoch", "the file", "nothing"])
def test_what_the_log_lost_is_recorded_again_from_checkpoints(tmp_path, lost):
    with _begun(tmp_path) as (found, _):
        for key in ("trial-0001", "tuned-seed2"):
            for epoch in (1, 2):
                found.epoch(key, _metrics(epoch))
            found.ended(key, "complete", "")
        Mark(found._log, "mlflow").write(found._log.end)
    lines = (tmp_path / LOG).read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"0.2", b"0.7") if lost == "a line" else lines[2]
    kept = {"the end": lines[:-1], "the last epoch": lines[:-2], "the file": []}.get(lost, lines)
    (tmp_path / LOG).write_bytes(b"".join(kept))
    read = []

    def history(workdir: str, recipe: str, epochs: int) -> list[dict[str, float]]:
        assert (recipe, epochs) == (STUDY.base.id, 2)
        read.append(workdir)
        return [_metrics(1), _metrics(2)]

    with _begun(tmp_path, history=history) as (found, appended):
        for key, kind in {"trial-0001": "search", "tuned-seed2": "confirm"}.items():
            found.reconcile(key, STUDY.base, kind=kind, epochs=2, state="complete")
            found.reconcile(key, STUDY.base, kind=kind, epochs=2, state="complete")
    ends = [e["key"] for e in appended if e["event"] == "ended"]
    assert (
        ends
        == {
            "a line": ["trial-0001"],
            "the end": ["tuned-seed2"],
            "the last epoch": ["tuned-seed2"],
            "the file": ["trial-0001", "tuned-seed2"],
            "nothing": [],
        }[lost]
    )
    missing = {"a line": 1, "the last epoch": 1, "the file": 4}.get(lost, 0)
    assert len([e for e in appended if e["event"] == "epoch"]) == missing
    assert (read == []) == (missing == 0), "checkpoints are large: they are read at need only"
    assert set(read) <= {"trials/trial-0001", "confirm/tuned-seed2"}
    expected = {"trial-0001": [0.1, 0.2], "tuned-seed2": [0.1, 0.2]}
    by_key = records.by_key(tmp_path)
    assert {k: [e["best_val_miou"] for e in v] for k, v in by_key.items()} == expected


def test_a_paused_trial_gets_its_lost_epochs_and_stays_open(tmp_path):
    with _begun(tmp_path, history=lambda *_: [_metrics(1), _metrics(2)]) as (found, appended):
        found.reconcile("trial-0001", STUDY.base, kind="search", epochs=1)
    assert [e["event"] for e in appended] == ["started", "epoch", "paused"]


def test_a_study_without_epochs_has_none(tmp_path):
    assert list(records.read(tmp_path)) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_a_disk_that_takes_nothing_is_reported_plainly(tmp_path):
    with _begun(tmp_path) as (found, appended), Path("/dev/full").open("ab", buffering=0) as full:
        found._log._file.close()
        found._log._file = full
        with pytest.raises(StorageError, match=r"Cannot write .*events\.jsonl.*Free space"):
            found.epoch("trial-0001", _metrics(1))
        assert not found.has("trial-0001", 1)
    assert appended == []


def test_a_training_has_a_run_of_its_own_below_the_study(tmp_path):
    with _begun(tmp_path) as (found, appended):
        found.started("trial-0000", STUDY.base, kind="baseline")
    (start,) = calls_of(appended[0])
    assert (start["do"], start["key"], start["parent"]) == ("start", "s/trial-0000", "s")
    assert start["params"]["optim.lr"] == start["params"]["lr"] == "0.0001"
    assert start["name"] == "trial-0000 lr 1e-4"
    assert start["tags"]["cryo.kind"] == "baseline"
    assert "None" not in start["params"].values()


def test_an_end_sums_up_without_reading_every_epoch_again(tmp_path, monkeypatch):
    """A thousand trials end in a search: each reading of the file would cost all their epochs."""
    with _begun(tmp_path) as (found, _):
        found.epoch("trial-0000", _metrics(1))
    with _begun(tmp_path) as (found, appended):
        found.epoch("trial-0000", _metrics(1))
        found.epoch("trial-0000", _metrics(2))
        found.epoch("trial-0001", _metrics(1))
        monkeypatch.setattr(EventLog, "read", None)
        found.ended("trial-0000", "complete", "why")
    expected = {"state": "complete", "message": "why", "epochs": 2, "seconds": 3.0}
    assert expected.items() <= appended[-1].items()


@pytest.mark.parametrize("status", ["KILLED", "FAILED"])
def test_whoever_still_runs_when_a_study_stops_is_closed(tmp_path, status):
    with _begun(tmp_path) as (found, appended):
        for number in range(3):
            found.started(f"trial-{number:04d}", STUDY.base, kind="search")
        found.ended("trial-0001", "complete", "")
        found.paused("trial-0002", 1)
        found.stopped(status)
    calls = [call for event in appended for call in calls_of(event)]
    assert {call["key"]: call["status"] for call in calls if call["do"] == "end"} == {
        "s/trial-0001": "FINISHED",
        "s/trial-0000": "KILLED",
        "s/trial-0002": "KILLED",
        "s": status,
    }
    on_disk = [{k: v for k, v in e.items() if k != "crc"} for e in read_events(tmp_path / LOG)]
    assert on_disk == appended
