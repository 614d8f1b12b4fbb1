"""Several sources in one line: the first first, nobody idle, everybody told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cryo_hpo.errors import CryoError, StorageError
from cryo_hpo.search.jobs import Job
from cryo_hpo.search.queue import Phases, Queue


class Line:
    """A source of numbered jobs, of which so many may run at a time."""

    def __init__(self, number: int, *, width: int = 1, prefix: str = "trial") -> None:
        self.todo = [f"{prefix}-{n:04d}" for n in range(number)]
        self.width = width
        self.at_work: list[str] = []
        self.heard: list[tuple[str, float]] = []
        self.done: list[str] = []

    def next(self):
        if not self.todo:
            return "wait" if self.at_work else None
        if len(self.at_work) >= self.width:
            return "wait"
        key = self.todo.pop(0)
        self.at_work.append(key)
        return Job(key=key, recipe="", workdir="", keep_best=False)

    def epoch(self, job, metrics):
        self.heard.append((job.key, metrics["epoch"]))
        return metrics["epoch"] < 2

    def ended(self, job, outcome, message):  # noqa: ARG002  a source's own signature
        self.at_work.remove(job.key)
        self.done.append(job.key)


def _drain(source, *, slots: int) -> list[list[str]]:
    """Run a source's jobs on so many slots, all of one length; return who ran together."""
    rounds: list[list[str]] = []
    while True:
        jobs: list[Job] = []
        while len(jobs) < slots:
            job = source.next()
            if not isinstance(job, Job):
                break
            jobs.append(job)
        if not jobs:
            assert job is None
            return rounds
        rounds.append([job.key for job in jobs])
        for job in jobs:
            assert source.epoch(job, {"epoch": 1})
            assert not source.epoch(job, {"epoch": 2})
            source.ended(job, "done", "")


def test_a_later_source_fills_what_the_earlier_one_leaves():
    a, b = Line(3), Line(2)
    rounds = _drain(Queue({"a": a, "b": b}), slots=2)
    assert rounds == [
        ["a.trial-0000", "b.trial-0000"],
        ["a.trial-0001", "b.trial-0001"],
        ["a.trial-0002"],
    ]


def test_each_source_hears_its_own_jobs_under_their_own_names():
    a, b = Line(2), Line(2)
    _drain(Queue({"a": a, "b": b}), slots=4)
    for line in (a, b):
        assert line.done == ["trial-0000", "trial-0001"]
        assert line.heard[:2] == [("trial-0000", 1), ("trial-0000", 2)]


def test_it_is_told_who_is_through_in_time_for_those_that_begin_later():
    told: list[str] = []
    seen: list[list[str]] = []

    def later() -> Iterator[Line]:
        seen.append(list(told))
        yield Line(1)

    _drain(Queue({"a": Line(1), "b": Phases(later())}, finished=told.append), slots=1)
    assert told == ["a", "b"]
    assert seen == [["a"]]


def test_a_phase_begins_when_the_one_before_is_over():
    first, second = Line(2, width=2), Line(1, prefix="seed")
    begun: list[str] = []

    def phases() -> Iterator[Line]:
        begun.append("first")
        yield first
        begun.append("second")
        assert not first.at_work
        yield second

    source = Phases(phases())
    assert begun == [], "nothing happens before the first job is asked for"
    assert _drain(source, slots=3) == [["trial-0000", "trial-0001"], ["seed-0000"]]
    assert (source.over, source.error) == (True, None)


def test_a_phase_that_was_in_vain_ends_its_cell_alone():
    def phases() -> Iterator[Line]:
        yield Line(1)
        raise CryoError("all trials were refused")

    bad, good = Phases(phases()), Line(2)
    rounds = _drain(Queue({"bad": bad, "good": good}), slots=2)
    assert [key for one in rounds for key in one].count("good.trial-0001") == 1
    assert bad.over
    assert "refused" in str(bad.error)


def test_a_full_disk_ends_everything():
    def phases() -> Iterator[Line]:
        yield from ()
        raise StorageError("no room")

    with pytest.raises(StorageError):
        Queue({"a": Phases(phases())}).next()
