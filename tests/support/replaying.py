"""Run a driver whose trials replay recorded curves: `python -m tests.support.replaying '{...}'`."""

from __future__ import annotations

import io
import json
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks.replay import replay
from cryo_hpo.config import DataSpec, NoStopping, Recipe, Resources, Search, Site, Study
from cryo_hpo.config.space import Float, SearchSpace
from cryo_hpo.execution import ray_driver as driver
from cryo_hpo.monitoring.recorder import Records
from cryo_hpo.monitoring.terminal import Progress
from cryo_hpo.storage.event_log import EventLog
from cryo_hpo.study.folder import EVENTS
from cryo_hpo.study.trainings import search_source

EPOCHS = 3


def study(name: str, *, trials: int, parallel: int | None) -> Study:
    """Return a study whose trials all train to full length, one core each."""
    space = SearchSpace(params={"optim.lr": Float(low=1e-6, high=1e-3, log=True)})
    return Study(
        name=name,
        base=Recipe(data=DataSpec(name="lakes-demo"), epochs=EPOCHS),
        search=Search(
            space=space, trials=trials, scheduler=NoStopping(kind="none"), parallel=parallel
        ),
        seeds=(1,),
        resources=Resources(cpus=1, gpus=0),
    )


def run(one: Study, storage: Path, *, epoch_s: float) -> None:
    """Run only the search, and log its events as `run_study` does."""
    path = storage / one.name
    path.mkdir(parents=True)
    assert one.search is not None, "made with one"
    progress = Progress(console=Console(file=io.StringIO()))
    site = Site.from_env({"CRYO_STORAGE": str(storage)})
    with closing(EventLog(path / EVENTS)) as log, driver.cluster():
        log.append("study started", study=one.name, name=one.name)
        progress.follow(log)
        records = Records(one, log)
        source = search_source(one, one.search, path, site=site, listener=records)
        slots = driver.slots_for(one.resources, one.search.parallel)
        driver.run(source, site=site, slots=slots, train=partial(replay, epoch_s=epoch_s))
        log.append("study ended", study=one.name, status="FINISHED")


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    made = study(asked["name"], trials=asked["trials"], parallel=asked["parallel"])
    run(made, Path(asked["storage"]), epoch_s=asked["epoch_s"])
