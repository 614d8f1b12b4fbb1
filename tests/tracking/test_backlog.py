"""What a log has for MLflow leaves in order when it is delivered, and waits for the next process."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cryo_hpo.storage.event_log import EventLog
from cryo_hpo.tracking.backlog import Backlog


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


@pytest.fixture
def backlog(path: Path) -> Iterator[Backlog]:
    with contextlib.closing(EventLog(path)) as log:
        yield Backlog(log)


def fill(backlog: Backlog, count: int) -> None:
    for n in range(count):
        backlog.opened.append("epoch", study="s", key="t", epoch=n, loss=0.5)


def steps(backlog: Backlog, limit: int = 1000) -> list[int]:
    return [call["step"] for call in backlog.waiting(limit=limit)]


def test_events_leave_in_order_when_they_are_delivered(backlog: Backlog) -> None:
    fill(backlog, 5)
    assert steps(backlog, limit=3) == [0, 1, 2]
    assert backlog.pending == 5  # looking at them is not delivering them
    backlog.delivered()
    assert (backlog.pending, steps(backlog)) == (2, [3, 4])
    fill(backlog, 1)
    assert (backlog.pending, steps(backlog)) == (3, [3, 4, 0])


def test_delivering_twice_what_was_taken_once_counts_once(backlog: Backlog) -> None:
    fill(backlog, 2)
    backlog.waiting(limit=1)
    backlog.delivered()
    backlog.delivered()
    assert (backlog.pending, steps(backlog)) == (1, [1])


def test_another_process_continues_where_the_first_one_stopped(path: Path) -> None:
    with contextlib.closing(EventLog(path)) as log:
        first = Backlog(log)
        fill(first, 4)
        first.waiting(limit=1)
        first.delivered()
    with contextlib.closing(EventLog(path)) as log:
        again = Backlog(log)
        assert (again.pending, steps(again)) == (3, [1, 2, 3])
        assert not again.refilled


def test_what_mlflow_does_not_show_does_not_wait(backlog: Backlog) -> None:
    backlog.opened.append("something", study="s")
    backlog.opened.append("epoch", key="of no study", epoch=1)
    assert (backlog.pending, backlog.waiting(limit=9)) == (0, [])
    fill(backlog, 1)
    assert (backlog.pending, steps(backlog)) == (1, [0])


def test_a_log_that_lost_its_end_is_delivered_from_the_start(path: Path) -> None:
    with contextlib.closing(EventLog(path)) as log:
        fill(Backlog(log), 4)
        backlog = Backlog(log)
        backlog.waiting(limit=9)
        backlog.delivered()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))
    with contextlib.closing(EventLog(path)) as log:
        again = Backlog(log)
        assert (again.refilled, steps(again)) == (True, [0, 1])


def test_refused_calls_are_kept_with_their_reason(backlog: Backlog, path: Path) -> None:
    backlog.refuse({"do": "tag"}, "too odd")
    kept = path.with_name("events.jsonl.refused").read_text()
    assert json.loads(kept) == {"do": "tag", "refused": "too odd"}
