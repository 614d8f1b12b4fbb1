"""What W&B shows of a run follows from the calls of its log."""

from __future__ import annotations

import pytest

from cryo_hpo.storage.event_log import Event
from cryo_hpo.tracking.calls import calls_of
from cryo_hpo.tracking.run_record import RunRecord, legal_metric

TIME = "2026-01-01T00:00:00.000+00:00"


def _record(*events: Event) -> tuple[RunRecord, list[bool]]:
    record, rests = RunRecord("s/trial-0001"), []
    for event in events:
        whole = {"time": TIME, "study": "s", "key": "trial-0001", **event}
        rests += [record.add(call) for call in calls_of(whole)]
    return record, rests


STARTED = {
    "event": "started",
    "name": "trial-0001 lr 1e-4",
    "parent": "s",
    "tags": {"cryo.state": "running", "cryo.kind": "search"},
    "params": {"lr": "0.0001", "optim.lr": "0.0001"},
}
EPOCH = {"event": "epoch", "epoch": 1, "val_miou": 0.5, "train_loss": None}
PAUSED = {"event": "paused", "epoch": 1}
ENDED = {"event": "ended", "state": "complete", "message": "", "epochs": 2, "seconds": 3.5}


def test_a_training_that_ended():
    record, rests = _record(STARTED, EPOCH, {**EPOCH, "epoch": 2, "val_miou": 0.75}, ENDED)
    assert rests[-1] is True
    assert not any(rests[:-1])
    assert (record.study, record.is_study, record.status) == ("s", False, "FINISHED")
    assert record.config == STARTED["params"]
    assert record.points[1] == {"val_miou": 0.5}
    assert record.points[2] == {"val_miou": 0.75, "epochs": 2.0, "seconds_total": 3.5}
    assert record.summary() == {
        "val_miou": 0.75,
        "epochs": 2.0,
        "seconds_total": 3.5,
        "state": "complete",
        "kind": "search",
    }


def test_a_training_rests_while_it_is_paused_and_runs_when_it_resumes():
    record, rests = _record(STARTED, EPOCH, PAUSED)
    assert (rests[-1], record.summary()["state"], record.status) == (True, "paused", "")
    record, rests = _record(STARTED, EPOCH, PAUSED, {"event": "interrupted"}, STARTED)
    assert (rests[-1], record.summary()["state"], record.status) == (False, "running", "")


def test_ids_are_those_of_the_log():
    one, other = RunRecord("s/a"), RunRecord("s/b")
    assert one.id("log") == RunRecord("s/a").id("log")
    assert len({one.id("log"), one.id("another"), other.id("log")}) == 3


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("val_miou", "val_miou"),
        ("test.iou/glacial lake", "test_iou_glacial_lake"),
        ("2nd", "_2nd"),
        ("Größe", "Gr__e"),
    ],
)
def test_metrics_have_names_that_sort(name: str, legal: str):
    assert legal_metric(name) == legal
