"""Many trials through the real scheduler: throughput, the driver's memory, MLflow's writes.

The trials replay recorded learning curves, so what is measured is everything but training: Ray
Tune, the rungs, Optuna's journal, the study's records and the MLflow spool. Three Ray nodes run on
this machine (`ray.cluster_utils`), each with its own workers.

    python benchmarks/scale.py --curves ../shared/data/lr_curves/deberta-base.npz --trials 1000
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cryo_hpo.progress import Progress
from cryo_hpo.records import Records
from cryo_hpo.space import Float, SearchSpace
from cryo_hpo.spec import Asha, DataSpec, OptimSpec, Recipe, Resources, Search, Site, Study
from cryo_hpo.study import search_source
from cryo_hpo.tracking import Tracker
from cryo_hpo.tune import driver
from cryo_hpo.tune.listen import Kind

# isort: split
import ray
from ray import tune
from ray.cluster_utils import Cluster

EVERY = 100  # trials between two looks at the driver


def replay(config: dict[str, Any], *, curves: Path, **_: Any) -> None:
    """Report a recorded curve instead of training; goes on where its folder says."""
    recipe = Recipe.model_validate_json(config["recipe"])
    table = np.load(curves)
    run = int(np.abs(np.log(table["lr"]) - np.log(recipe.optim.lr)).argmin())
    folder = Path(config["workdir"])
    folder.mkdir(parents=True, exist_ok=True)
    count = folder / "epochs"
    done = int(count.read_text()) if count.exists() else 0
    scores = np.fmax.accumulate(np.nan_to_num(table["val"][run]))
    for epoch in range(max(done, 1), recipe.epochs + 1):  # the last one is told again
        count.write_text(str(epoch))
        facts = {"seconds": 0.0, "data_seconds": 0.0, "peak_gib": 0.0, "collapsed": 0.0}
        numbers = {"train_loss": 0.0, "lr": recipe.optim.lr, "val_miou": float(scores[epoch - 1])}
        tune.report({"epoch": epoch, "best_val_miou": float(scores[epoch - 1]), **facts, **numbers})


class Watched:
    """A listener that also notes, every so many trials, what the driver has become."""

    def __init__(self, records: Records) -> None:
        self._records, self._started = records, time.perf_counter()
        self._ended: set[str] = set()
        self.epochs = 0
        self.rows: list[tuple[int, int, float, float]] = []

    def started(self, key: str, recipe: Recipe, *, kind: Kind) -> None:
        """Pass it on."""
        if key not in self._ended:
            self._ended.add(key)
            if len(self._ended) % EVERY == 0:
                wall = time.perf_counter() - self._started
                self.rows.append((len(self._ended), self.epochs, wall, rss_mib()))
        self._records.started(key, recipe, kind=kind)

    def epoch(self, key: str, metrics: Mapping[str, float]) -> None:
        """Count it, and pass it on."""
        self.epochs += 1
        self._records.epoch(key, metrics)

    def paused(self, key: str, epoch: int) -> None:
        """Pass it on."""
        self._records.paused(key, epoch)

    def ended(self, key: str, state: str, message: str) -> None:
        """Pass it on."""
        self._records.ended(key, state, message)


def rss_mib() -> float:
    """Return this process's memory now, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


@contextmanager
def three_nodes() -> Iterator[None]:
    """Three Ray nodes of one slot each on this machine."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        with driver.cluster():
            yield
    finally:
        del os.environ["RAY_ADDRESS"]
        cluster.shutdown()  # type: ignore[no-untyped-call]


def study(trials: int) -> Study:
    """Return the paper's question over the range of the recorded curves."""
    space = SearchSpace(params={"optim.lr": Float(low=1e-6, high=1e-3, log=True)})
    return Study(
        name="scale",
        base=Recipe(data=DataSpec(name="lakes-demo"), optim=OptimSpec(lr=1e-4), epochs=27),
        search=Search(space=space, trials=trials, scheduler=Asha(grace_epochs=1, reduction=3)),
        seeds=(1,),
        resources=Resources(cpus=1, gpus=0),
    )


def main() -> None:
    """Run, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=1000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, three_nodes():
        measure(study(asked.trials), Path(scratch), asked.curves.resolve())


def measure(one: Study, folder: Path, curves: Path) -> None:
    """Run the search of a study with replayed curves."""
    site = Site.from_env({"CRYO_STORAGE": str(folder)})
    path = folder / one.name
    path.mkdir()
    assert one.search is not None, "made with one"
    tracker = Tracker.connect(site.mlflow, experiment="scale", spool=path / "mlflow.jsonl")
    progress = Progress(console=Console(file=io.StringIO()), epochs_expected=0)
    watched = Watched(Records(one, path, tracker=tracker, progress=progress))
    begun, used = time.perf_counter(), time.process_time()
    with closing(tracker):
        tracker.start(one.name, name=one.name, tags={}, params={})
        source = search_source(one, one.search, path, site=site, listener=watched)
        slots = driver.slots_for(one.resources, None)
        driver.run(source, site=site, slots=slots, train=partial(replay, curves=curves))
        wall, cpu = time.perf_counter() - begun, time.process_time() - used
        waiting = tracker.pending()
    nodes = {node["NodeID"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]
    states: dict[str, int] = {}
    for record in source.records:
        states[record.state] = states.get(record.state, 0) + 1
    print(f"{len(source.records)} trials, {watched.epochs} epochs, {len(nodes)} nodes, {states}")
    print(
        f"{len(source.records) / wall:.1f} trials/s, {watched.epochs / wall:.1f} epochs/s; "
        f"driver {cpu / watched.epochs * 1000:.1f} CPU-ms an epoch"
    )
    print(f"records waiting for MLflow at the end of the search: {waiting}")
    for trials, epochs, seconds, memory in watched.rows:
        print(f"{trials:5d} trials {epochs:6d} epochs {seconds:7.1f} s  driver {memory:6.0f} MiB")
    print(json.dumps({"load": os.getloadavg()[0], "cpus": os.cpu_count()}))


if __name__ == "__main__":
    main()
