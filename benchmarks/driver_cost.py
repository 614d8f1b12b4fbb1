"""Measure the cost of a driver: CPU time of its parts and threads, and memory by library."""

from __future__ import annotations

import os
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from cryo_hpo.monitoring.recorder import Records
from cryo_hpo.search import source as search
from cryo_hpo.search.journal import Journal
from cryo_hpo.search.source import SearchSource
from cryo_hpo.storage.event_log import EventLog

TICKS = os.sysconf("SC_CLK_TCK")
PARTS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "search rule": (SearchSource, ("next", "epoch", "ended")),
    "sampler": (search, ("propose",)),
    "journal": (Journal, ("begin", "report", "note", "end", "record")),
    "records": (Records, ("started", "epoch", "paused", "ended")),
    "event log": (EventLog, ("append",)),
}
TUNE, MLFLOW, OTHER = "Tune", "MLflow thread", "other threads"
COLUMNS = (*PARTS, TUNE, MLFLOW, OTHER)


class Clocks:
    """Measure seconds of parts of the driver, each without the parts that it calls.

    Time of the main thread outside of all parts is attributed to Tune.

    Attributes:
        wall_s: Part -> seconds spent only in it, waits for the disk included.
    """

    def __init__(self) -> None:
        self._cpu_s: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self.wall_s: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._inner = [(0.0, 0.0)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time every call of a part within the context."""
        with ExitStack() as stack:
            for part, (owner, names) in PARTS.items():
                for name in names:
                    call = self._timed(part, getattr(owner, name))
                    stack.enter_context(mock.patch.object(owner, name, call))
            yield

    def _timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            cpu, wall = time.thread_time(), time.perf_counter()
            self._inner.append((0.0, 0.0))
            try:
                return call(*args, **kwargs)
            finally:
                self._add(part, time.thread_time() - cpu, time.perf_counter() - wall)

        return timed

    def _add(self, part: str, cpu_s: float, wall_s: float) -> None:
        inner_cpu_s, inner_wall_s = self._inner.pop()
        self._cpu_s[part] += cpu_s - inner_cpu_s
        self.wall_s[part] += wall_s - inner_wall_s
        outer_cpu_s, outer_wall_s = self._inner[-1]
        self._inner[-1] = outer_cpu_s + cpu_s, outer_wall_s + wall_s

    def read(self) -> dict[str, float]:
        """Return the CPU seconds of each of `COLUMNS` so far; call it on the main thread."""
        main, mlflow = time.thread_time(), _thread_seconds("mlflow")
        # a part that is running now, such as the caller's, counts as Tune until it returns
        rest = {TUNE: main - sum(self._cpu_s.values()), MLFLOW: mlflow}
        return {**self._cpu_s, **rest, OTHER: time.process_time() - main - mlflow}


def _thread_seconds(name: str) -> float:
    """Return the CPU seconds of the threads of this name."""
    found = [t.native_id for t in threading.enumerate() if t.name == name]
    return sum(_seconds(Path(f"/proc/self/task/{number}/stat")) for number in found)


def _seconds(stat: Path, *, ended_children: bool = False) -> float:
    words = stat.read_text().rpartition(")")[2].split()
    return sum(map(int, words[11 : 15 if ended_children else 13])) / TICKS


def tree_seconds(root: int) -> float:
    """Return the CPU seconds of a process and its descendants."""
    found: set[int] = {root}
    new = {root}
    while new:
        lists = (Path(f"/proc/{one}/task").glob("*/children") for one in new)
        new = {int(word) for files in lists for file in files for word in file.read_text().split()}
        found |= new
    return sum(_seconds(Path(f"/proc/{one}/stat"), ended_children=True) for one in found)


def rss_mib() -> float:
    """Return the current resident memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def growth_kib(before: tracemalloc.Snapshot, after: tracemalloc.Snapshot) -> Mapping[str, float]:
    """Return the growth of the memory of each library's Python objects, largest first."""
    grown: dict[str, float] = {}
    for difference in after.compare_to(before, "traceback"):
        library = _library(difference.traceback)
        grown[library] = grown.get(library, 0.0) + difference.size_diff / 1024
    return dict(sorted(grown.items(), key=lambda one: -one[1])[:8])


def _library(stack: tracemalloc.Traceback) -> str:
    """Return the library that allocated memory: the innermost frame outside Python's own."""
    for frame in reversed(stack):
        for mark in ("/site-packages/", "/cryo_hpo/"):
            _, found, inside = frame.filename.rpartition(mark)
            if found:
                kept = inside.split("/") if mark == "/site-packages/" else ["cryo_hpo", inside]
                return "/".join(kept[:2])
    return "Python"
