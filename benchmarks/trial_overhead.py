"""Measure the CPU seconds of a pause, a resume and a new trial, against Ray Tune's default.

Trials only import what a training imports, report, pause at a rung and are resumed, so only
the overhead is measured: driver, raylet, workers, the whole tree of processes, from the moment
when every worker has had its first trials. A pause ends a trial for Tune, so each start (of a new
trial or a resumed one) includes one pause or end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest import mock

from cryo_hpo.config import Site
from cryo_hpo.execution import ray_driver as driver
from cryo_hpo.execution.executor import TrialResources
from cryo_hpo.search.jobs import Job, Outcome

TARGET = 0.3  # CPU seconds
WARM = 2  # starts of each worker before the measurement begins


@dataclass(frozen=True, slots=True)
class Cost:
    """The measurements.

    Attributes:
        reuse: Whether workers are reused; Ray's default is no.
        workers: Number of concurrent trials.
        starts: Starts of new and resumed trials.
        processes: Processes that ran them.
        cpu_seconds: CPU seconds of one start.
    """

    reuse: bool
    workers: int
    starts: int
    processes: int
    cpu_seconds: float


@dataclass
class Pausing:
    """A source whose trials all pause at epoch 1 and are resumed, one after another."""

    trials: int
    folder: Path
    begun: int = 0
    waiting: list[int] = field(default_factory=list)
    at_work: int = 0
    seconds: list[float] = field(default_factory=list)  # CPU seconds, whenever a trial has ended

    def next(self) -> Job | Literal["wait"] | None:
        """Resume a paused trial, else start a new one."""
        if self.waiting:
            return self._job(self.waiting.pop(0), cleared=1)
        if self.begun < self.trials:
            self.begun += 1
            return self._job(self.begun, cleared=0)
        return "wait" if self.at_work else None

    def epoch(self, job: Job, metrics: Mapping[str, float]) -> bool:
        """Pause at epoch 1."""
        return not (metrics["epoch"] == 1 and job.cleared == 0)

    def ended(self, job: Job, outcome: Outcome, message: str) -> None:
        """Record which trials are paused."""
        assert outcome == "done", message
        self.at_work -= 1
        self.seconds.append(cpu_seconds(os.getpid()))
        if job.cleared == 0:
            self.waiting.append(int(job.key))

    def _job(self, number: int, *, cleared: int) -> Job:
        self.at_work += 1
        folder = str(self.folder / str(number))
        return Job(str(number), recipe="", workdir=folder, keep_best=False, cleared=cleared)


def idle(config: dict[str, Any], *, site: Site, cpus: int, gpus: float) -> None:  # noqa: ARG001
    """Do what every training does except train: import, write the process id, report."""
    from ray import tune

    import cryo_hpo.execution.worker  # noqa: F401  torch and timm with it

    with (site.storage / "processes").open("a") as file:
        file.write(f"{os.getpid()}\n")
    for epoch in (1, 2):
        if epoch > config["cleared"]:
            tune.report({"epoch": epoch, "best_val_miou": 0.5})


@contextlib.contextmanager
def without_reuse() -> Iterator[None]:
    """Let Tune start a process for every trial, its default."""
    from ray import tune

    config = tune.TuneConfig

    def by_default(**kwargs: Any) -> Any:
        return config(**{**kwargs, "reuse_actors": False})

    with mock.patch.object(tune, "TuneConfig", by_default):
        yield


def measure(*, trials: int, workers: int, reuse: bool) -> Cost:
    """Measure one way of running trials on its own Ray."""
    with (
        tempfile.TemporaryDirectory() as folder,
        driver.cluster(),
        contextlib.nullcontext() if reuse else without_reuse(),
    ):
        site = Site.from_env({"CRYO_STORAGE": folder})
        source = Pausing(trials, site.storage)
        driver.run(source, site=site, slots=TrialResources(1, 0, workers), train=idle)
        processes = (site.storage / "processes").read_text().split()
    seconds = source.seconds[WARM * workers - 1 :]
    return Cost(
        reuse=reuse,
        workers=workers,
        starts=len(processes),
        processes=len(set(processes)),
        cpu_seconds=(seconds[-1] - seconds[0]) / (len(seconds) - 1),
    )


def cpu_seconds(root: int) -> float:
    """Return the CPU seconds of a process, its descendants, and those that have ended."""
    times, parents = {}, {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            number, rest = status.read_text().split(" (", 1)
            words = rest.rsplit(") ", 1)[1].split()
            parents[int(number)] = int(words[1])
            times[int(number)] = sum(int(word) for word in words[11:15])

    def ours(one: int) -> bool:
        while one in parents and one != root:
            one = parents[one]
        return one == root

    return sum(time for one, time in times.items() if ours(one)) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=20, help="each starts twice")
    parser.add_argument("--default-trials", type=int, default=5, help="likewise, Ray's default")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="trials at a time")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    args = parser.parse_args()
    print(f"{'':<20}{'workers':>8}{'starts':>8}{'processes':>11}{'CPU s a start':>15}", flush=True)
    found = []
    for workers in args.workers:
        for reuse in (True, False):
            trials = args.trials if reuse else args.default_trials
            cost = measure(trials=trials, workers=workers, reuse=reuse)
            name = "workers used again" if reuse else "Ray's default"
            numbers = f"{workers:>8}{cost.starts:>8}{cost.processes:>11}{cost.cpu_seconds:>15.2f}"
            print(f"{name:<20}{numbers}", flush=True)
            found.append(cost)
    print(f"target: below {TARGET} CPU seconds; load average {os.getloadavg()[0]:.1f}")
    if args.json:
        args.json.write_text(json.dumps([asdict(cost) for cost in found], indent=2) + "\n")


if __name__ == "__main__":
    main()
