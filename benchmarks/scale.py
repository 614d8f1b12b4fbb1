"""Measure many trials on the real scheduler: throughput, driver time and memory, MLflow writes.

The trials replay recorded learning curves, so everything but training is measured: Ray
Tune, the rungs, Optuna's journal, and the study's event log, which is delivered to a real `mlflow
server`. Three Ray nodes run on this machine (`ray.cluster_utils`), each with its own workers.

    python -m benchmarks.scale --trials 1000 --curves ../shared/data/lr_curves/deberta-base.npz
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console

from cryo_hpo.config import Asha, DataSpec, OptimSpec, Recipe, Resources, Search, Site, Study
from cryo_hpo.config.space import Float, SearchSpace
from cryo_hpo.execution import ray_driver as driver
from cryo_hpo.monitoring.recorder import Records
from cryo_hpo.monitoring.terminal import Progress
from cryo_hpo.search.listener import Kind
from cryo_hpo.study.trainings import search_source
from cryo_hpo.tracking import Tracker

from .driver_cost import COLUMNS, Clocks, growth_kib, rss_mib
from .replay import EPOCHS, STARTS, TABLE, replay
from .tracking_server import Traffic, server

# isort: split
from ray.cluster_utils import Cluster

NODES = 3
FRAMES = 12  # of the stack of an allocation
Train = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Row:
    """The state of the driver at one moment.

    Attributes:
        trials: Trials started so far.
        epochs: Epochs reported so far.
        wall_s: Time since the search started.
        cpu_s: Part of the driver -> its CPU seconds so far.
        rss_mib: Resident memory of the driver.
        pending: Records on disk that MLflow has not received.
    """

    trials: int
    epochs: int
    wall_s: float
    cpu_s: Mapping[str, float]
    rss_mib: float
    pending: int


@dataclass(frozen=True, slots=True)
class Found:
    """The measurements.

    Attributes:
        rows: Rows at the start, every so many trials, and at the end.
        states: Number of trials by final state.
        starts: Starts of trials, new and resumed, by node.
        traffic: Traffic to MLflow until the search ended.
        delivery_s: Time from the search's end until MLflow had received everything.
        wall_s: Part of the driver -> its wall seconds, waits for the disk included.
        growth_kib: Library -> Python objects present at the end but not after the first
            part of the trials; empty unless requested.
        load: Load average of the machine at the end, one minute.
    """

    rows: list[Row]
    states: dict[str, int]
    starts: list[int]
    traffic: Traffic
    delivery_s: float
    wall_s: Mapping[str, float]
    growth_kib: Mapping[str, float]
    load: float = field(default_factory=lambda: os.getloadavg()[0])


class Watched:
    """A listener that also records, every so many trials, the state of the driver."""

    def __init__(self, records: Records, tracker: Tracker, clocks: Clocks, *, every: int) -> None:
        self._records, self._tracker, self._clocks, self._every = records, tracker, clocks, every
        self._begun_s = time.perf_counter()
        self._begun: set[str] = set()
        self._epochs = 0
        self.rows: list[Row] = []
        self.first: tracemalloc.Snapshot | None = None
        self.look()

    def look(self) -> None:
        """Record the current state of the driver."""
        if tracemalloc.is_tracing() and self._begun and self.first is None:
            self.first = tracemalloc.take_snapshot()
        wall, cpu = time.perf_counter() - self._begun_s, self._clocks.read()
        pending = self._tracker.pending()
        self.rows.append(Row(len(self._begun), self._epochs, wall, cpu, rss_mib(), pending))

    def started(self, key: str, recipe: Recipe, *, kind: Kind) -> None:
        """Record the state if due, and forward the event."""
        if key not in self._begun:
            self._begun.add(key)
            if len(self._begun) % self._every == 0:
                self.look()
        self._records.started(key, recipe, kind=kind)

    def epoch(self, key: str, metrics: Mapping[str, float]) -> None:
        """Count the epoch, and forward the event."""
        self._epochs += 1
        self._records.epoch(key, metrics)

    def paused(self, key: str, epoch: int) -> None:
        """Forward the event."""
        self._records.paused(key, epoch)

    def ended(self, key: str, state: str, message: str) -> None:
        """Forward the event."""
        self._records.ended(key, state, message)

    def reconcile(
        self,
        key: str,
        recipe: Recipe,
        *,
        kind: Kind,
        epochs: int,
        state: str | None = None,
        message: str = "",
    ) -> None:
        """Forward the event."""
        self._records.reconcile(key, recipe, kind=kind, epochs=epochs, state=state, message=message)


@contextmanager
def ray_nodes(num: int) -> Iterator[None]:
    """Start Ray nodes of one slot each on this machine."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        for _ in range(num - 1):
            cluster.add_node(num_cpus=1)
        os.environ["RAY_ADDRESS"] = cluster.address
        with driver.cluster():
            yield
    finally:
        os.environ.pop("RAY_ADDRESS", None)
        cluster.shutdown()  # type: ignore[no-untyped-call]


def study(trials: int, epochs: int) -> Study:
    """Return a study of the learning rate over the range of the recorded curves."""
    space = SearchSpace(params={"optim.lr": Float(low=1e-6, high=1e-3, log=True)})
    return Study(
        name="scale",
        base=Recipe(data=DataSpec(name="lakes-demo"), optim=OptimSpec(lr=1e-4), epochs=epochs),
        search=Search(space=space, trials=trials, scheduler=Asha(grace_epochs=1, reduction=3)),
        seeds=(1,),
        resources=Resources(cpus=1, gpus=0),
    )


def measure(one: Study, site: Site, traffic: Traffic, *, train: Train, every: int) -> Found:
    """Run the search of a study with replayed curves."""
    assert one.search is not None, "made with one"
    path = site.storage / one.name
    path.mkdir(parents=True)
    tracker = Tracker.connect(site.mlflow, experiment="scale", log=path / "events.jsonl")
    progress = Progress(console=Console(file=io.StringIO()))
    clocks = Clocks()
    with closing(tracker), clocks.running():
        tracker.start(one.name, name=one.name)
        progress.follow(tracker.events)
        records = Records(one, tracker.events)
        watched = Watched(records, tracker, clocks, every=every)
        source = search_source(one, one.search, path, site=site, listener=watched)
        slots = driver.slots_for(one.resources, None)
        driver.run(source, site=site, slots=slots, train=train)
        watched.look()
        sent, ended = traffic.copy(), time.perf_counter()
        grown = growth_kib(watched.first, tracemalloc.take_snapshot()) if watched.first else {}
        assert tracker.close(timeout_s=600) == 0, "MLflow did not take everything"
    return Found(
        rows=watched.rows,
        states=dict(Counter(record.state for record in source.records)),
        starts=_starts(path),
        traffic=sent,
        delivery_s=time.perf_counter() - ended,
        wall_s=clocks.wall_s,
        growth_kib=grown,
    )


def _starts(path: Path) -> list[int]:
    files = path.glob(f"trials/*/{STARTS}")
    nodes = Counter(node for file in files for node in file.read_text().split())
    return sorted(nodes.values(), reverse=True)


def show(found: Found) -> None:
    """Print the measurements."""
    print(f"\ndriver CPU-ms an epoch, since the line before\n{'trials':>7}{'epochs':>8}", end="")
    print("".join(f"{name:>15}" for name in (*COLUMNS, "all", "RSS MiB", "pending")))
    for before, now in zip(found.rows, found.rows[1:], strict=False):
        epochs = max(now.epochs - before.epochs, 1)
        spent = [1000 * (now.cpu_s[c] - before.cpu_s[c]) / epochs for c in COLUMNS]
        numbers = "".join(f"{ms:>15.2f}" for ms in (*spent, sum(spent)))
        print(f"{now.trials:>7}{now.epochs:>8}{numbers}{now.rss_mib:>15.0f}{now.pending:>15}")
    begun, end, sent = found.rows[0], found.rows[-1], found.traffic
    cpu_s = sum(end.cpu_s.values()) - sum(begun.cpu_s.values())
    print(f"\n{sum(found.states.values())} trials {found.states}, starts by node {found.starts}")
    print(
        f"{end.trials / end.wall_s:.1f} trials/s, {end.epochs / end.wall_s:.1f} epochs/s, "
        f"driver {1000 * cpu_s / end.epochs:.1f} CPU-ms an epoch"
    )
    waits = ", ".join(f"{p} {1000 * s / end.epochs:.1f}" for p, s in found.wall_s.items())
    print(f"wall ms an epoch, waits for the disk included: {waits}")
    print(
        f"MLflow: {sent.requests / end.epochs:.2f} requests an epoch, {sent.events} records in "
        f"{sent.calls} calls (at most {sent.largest} in one), {end.pending} pending at the end, "
        f"delivered {found.delivery_s:.0f} s later; "
        f"server {1000 * sent.server_cpu_s / max(sent.requests, 1):.1f} CPU-ms a request"
    )
    if found.growth_kib:
        trials = max(end.trials - found.rows[1].trials, 1)
        for library, kib in found.growth_kib.items():
            print(f"{kib / trials:>9.2f} KiB a trial: {library}")
    print(f"load average {found.load:.1f} on {os.cpu_count()} cores")


def main() -> None:
    """Run the benchmark, and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--curves", type=Path, default=TABLE, help="a table of learning curves")
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="full length, at most 27")
    parser.add_argument("--every", type=int, default=100, help="trials between two lines")
    parser.add_argument("--epoch-s", type=float, default=0.1, help="an epoch sleeps so long")
    parser.add_argument("--store", help="where `mlflow server` keeps its runs; default: SQLite")
    parser.add_argument("--memory", action="store_true", help="what grows; slower by a few times")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as scratch,
        ray_nodes(NODES),
        server(Path(scratch), store=asked.store) as (url, traffic),
    ):
        if asked.memory:
            tracemalloc.start(FRAMES)
        env = {"CRYO_STORAGE": f"{scratch}/runs", "MLFLOW_TRACKING_URI": url}
        train = partial(replay, path=asked.curves.resolve(), epoch_s=asked.epoch_s)
        one, site = study(asked.trials, asked.epochs), Site.from_env(env)
        found = measure(one, site, traffic, train=train, every=asked.every)
    show(found)
    if asked.json:
        asked.json.write_text(json.dumps(asdict(found), indent=2) + "\n")


if __name__ == "__main__":
    main()
