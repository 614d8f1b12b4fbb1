"""Two studies on one real cluster: each has its part of the slots, and the last one has all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cryo_hpo.execution.slots import LOOK_S
from cryo_hpo.study.folder import EVENTS

from ..support.clusters import Head, until

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]
SLOTS, PART = 5, 3  # the half of five, rounded up
EPOCH_S = 6.0  # Tune fills a cluster only with trainings that outlast the start of a worker
SOON = timedelta(seconds=LOOK_S + 1)  # a driver has looked at the cluster again by then


@pytest.fixture
def cluster(ray_head: Head) -> Mapping[str, str]:
    """Return what a driver needs in its environment to join the head of five slots."""
    return {**ray_head.env, **ray_head.joined}


@dataclass(frozen=True, slots=True)
class Driver:
    """A study that runs in a process of its own."""

    process: subprocess.Popen[bytes]
    folder: Path

    def told(self) -> list[dict[str, Any]]:
        """Return its events so far; a line that is being written is left out."""
        file = self.folder / EVENTS
        text = file.read_text() if file.exists() else ""
        lines = text[: text.rfind("\n") + 1].splitlines()
        return [{**e, "time": datetime.fromisoformat(e["time"])} for e in map(json.loads, lines)]

    def when(self, event: str) -> datetime:
        """Return when something happened first, and fail if the driver has failed."""

        def found() -> list[datetime]:
            assert self.process.poll() in (None, 0), self.folder.with_suffix(".log").read_text()
            return [e["time"] for e in self.told() if e["event"] == event]

        first: datetime = until(found, timeout_s=400)[0]
        return first

    def at_work(self) -> list[tuple[datetime, int]]:
        """Return how many trainings it had under way from each moment on."""
        now: set[str] = set()
        counts = []
        for event in self.told():
            if event["event"] == "started":
                now.add(event["key"])
            elif event["event"] in ("paused", "ended"):
                now.discard(event["key"])
            counts.append((event["time"], len(now)))
        return counts

    def workers(self, since: datetime, to: datetime | None = None) -> set[int]:
        """Return the processes that finished an epoch in a time."""
        epochs = [e for e in self.told() if e["event"] == "epoch" and e["time"] > since]
        return {e["pid"] for e in epochs if to is None or e["time"] < to}


@contextmanager
def driver(env: Mapping[str, str], folder: Path, name: str, **asked: Any) -> Iterator[Driver]:
    """Run a study of replayed curves on the cluster, and end it."""
    words = {"name": name, "storage": str(folder), "epoch_s": EPOCH_S, "parallel": None, **asked}
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.replaying", json.dumps(words)],
            env=dict(env),
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Driver(process, folder / name)
    finally:
        process.kill()
        process.wait(30)


def test_each_of_two_has_its_part_and_the_last_one_has_all(cluster, tmp_path):
    """The first one would never end: it is killed when it has had the whole cluster again."""
    with driver(cluster, tmp_path, "first", trials=2000) as first:
        begun = first.when("epoch")
        until(lambda: len(first.workers(begun)) >= SLOTS, timeout_s=400)
        assert max(count for _, count in first.at_work()) == SLOTS

        with driver(cluster, tmp_path, "second", trials=SLOTS + 1) as second:
            came, went = second.when("study started"), second.when("study ended")
            assert second.process.wait(60) == 0

        # What ran when the second came may finish; from then on neither begins beyond its part.
        until(lambda: len(first.workers(went + SOON)) >= SLOTS, timeout_s=400)
        begins = {e["time"] for e in first.told() if e["event"] == "started"}
        both = [n for at, n in first.at_work() if at in begins and came + SOON < at < went]
        assert both, "the first one stood still while the second was there"
        assert max(both) <= PART
        assert max(count for _, count in second.at_work()) == PART
        # Handed out is not yet trained: processes tell of trainings.
        assert len(second.workers(came, went)) >= SLOTS - PART
        assert max(n for at, n in first.at_work() if at > went) == SLOTS


def test_a_quota_holds_where_there_is_more_room(cluster, tmp_path):
    with driver(cluster, tmp_path, "modest", trials=SLOTS + 1, parallel=2, epoch_s=0.5) as modest:
        modest.when("study ended")
        assert modest.process.wait(60) == 0
        assert max(count for _, count in modest.at_work()) == 2
        ended = [e["key"] for e in modest.told() if e["event"] == "ended"]
        assert len(ended) == SLOTS + 1, "all of them trained, two at a time"
