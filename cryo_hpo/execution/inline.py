"""Run a study's jobs in this process, one after another: no Ray, and a debugger works.

A job behaves as on Ray: it restarts from its last checkpoint after a crash, and a request to stop
takes effect after the epoch in which it comes.
"""

from __future__ import annotations

import bdb
import contextlib
import logging
import os
import random
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..search.jobs import MESSAGE, OUTCOME, fields_of
from .attempts import Attempts
from .executor import TrialResources, fit_resources
from .signals import Stopped, raise_if_asked
from .worker import Report, map_test, score_ensemble, score_test, train_job

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from ..config import Resources, Site
    from ..evaluation.metrics import Scores
    from ..search.jobs import Job, Outcome, Source
    from ..storage.event_log import EventLog

LOOPBACK = "127.0.0.1"

log = logging.getLogger(__name__)


class InlineExecutor:
    """Run jobs in this process; see `Executor`."""

    def __init__(self, train: Callable[..., Generator[Report, None, None]] = train_job) -> None:
        """Set the function that trains.

        Args:
            train: Yields a job's reports; a simulation replays curves instead.
        """
        self._train = train

    @contextlib.contextmanager
    def cluster(self) -> Iterator[None]:
        """Restore the threads and random states of this process afterwards."""
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
        threads, omp = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
            torch.set_rng_state(states[2])
            torch.set_num_threads(threads)
            os.environ.pop("OMP_NUM_THREADS", None)
            os.environ |= {} if omp is None else {"OMP_NUM_THREADS": omp}

    def metered(self, study: str, log: EventLog) -> contextlib.nullcontext[None]:  # noqa: ARG002
        """Export nothing: Prometheus reads the metrics from Ray's exporter."""
        return contextlib.nullcontext()

    def slots(self, resources: Resources, parallel: int | None) -> TrialResources:
        """Return the resources of each trial on this machine; see `Executor`."""
        machine = {"CPU": os.cpu_count() or 1, "GPU": torch.cuda.device_count()}
        return fit_resources(resources, parallel, [machine], where="this machine has")

    def run(self, source: Source, *, site: Site, slots: TrialResources) -> None:
        """Run the jobs of a source until it has no more; see `Executor`."""
        site, source = site.model_copy(update={"optuna": None}), Attempts(source)
        while True:
            raise_if_asked()
            job = source.next()
            if job is None:
                return
            assert job != "wait", "no job is running, so there is none to wait for"
            outcome, message = self._run_job(source, job, site, slots)
            source.ended(job, outcome, message)

    def score(
        self, jobs: Sequence[Job], *, site: Site, slots: TrialResources
    ) -> list[dict[str, Scores]]:
        """Score finished trainings on the test split; see `Executor`."""
        return list(_each(score_test, jobs, site=site, cpus=slots.cpus, gpus=slots.gpus))

    def score_ensembles(
        self, ensembles: Sequence[Sequence[Job]], *, site: Site, slots: TrialResources
    ) -> list[dict[str, Scores]]:
        """Score mean probabilities on the test split; see `Executor`."""
        given = {"site": site, "cpus": slots.cpus, "gpus": slots.gpus}
        return list(_each(score_ensemble, ensembles, **given))

    def map(
        self, jobs: Sequence[Job], ids: Sequence[str], *, site: Site, slots: TrialResources
    ) -> list[dict[str, NDArray[np.uint8]]]:
        """Map some test scenes with finished trainings; see `Executor`."""
        given = {"site": site, "cpus": slots.cpus, "gpus": slots.gpus, "ids": list(ids)}
        return list(_each(map_test, jobs, **given))

    def _run_job(
        self, source: Source, job: Job, site: Site, slots: TrialResources
    ) -> tuple[Outcome, str]:
        with contextlib.closing(self._reports(job, site, slots)) as reports:
            for report in reports:
                if OUTCOME in report:
                    return report[OUTCOME], report[MESSAGE]
                place: Report = {"node": LOOPBACK, "pid": os.getpid()}
                continues = source.epoch(job, {**report, **place})
                raise_if_asked()
                if not continues:
                    break
        return "done", ""

    def _reports(
        self, job: Job, site: Site, slots: TrialResources
    ) -> Generator[Report, None, None]:
        """Yield a job's reports; a crash is the last one."""
        try:
            yield from self._train(asdict(job), site=site, cpus=slots.cpus, gpus=slots.gpus)
        except bdb.BdbQuit as error:
            message = "stopped in the debugger"
            raise Stopped(message) from error
        except Exception as error:
            log.debug("%s crashed", job.key, exc_info=True)
            why = traceback.format_exception_only(error)[-1].strip()
            yield {OUTCOME: "crashed", MESSAGE: why}


def _each(
    task: Callable[..., Any], jobs: Sequence[Job] | Sequence[Sequence[Job]], **given: Any
) -> Iterator[Any]:
    for job in jobs:
        raise_if_asked()
        yield task(fields_of(job), **given)
