"""Run a study's jobs in this process, one pack after another: no Ray, and a debugger works.

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
from .packs import Attempt, Pack, Packs, keyed
from .signals import Stopped, raise_if_asked
from .worker import Report, map_test, score_ensemble, score_test, train_job, train_pack

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from ..config import Resources, Site
    from ..evaluation.metrics import Scores
    from ..search.jobs import Job, Source
    from ..storage.event_log import EventLog

LOOPBACK = "127.0.0.1"
ALL = ""  # in place of a training's key: the report is of all trainings of a pack
Trains = Callable[..., "Generator[Report, None, None]"]
TrainsPacks = Callable[..., "Generator[tuple[str, Report], None, None]"]

log = logging.getLogger(__name__)


class InlineExecutor:
    """Run jobs in this process; see `Executor`."""

    def __init__(self, train: Trains = train_job, train_pack: TrainsPacks = train_pack) -> None:
        """Set the functions that train.

        Args:
            train: Yields a job's reports; a simulation replays curves instead.
            train_pack: Yields the reports of several jobs, each with the job's key.
        """
        self._train, self._train_pack = train, train_pack

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
        site = site.model_copy(update={"optuna": None})
        packs = Packs(Attempts(source), most=slots.pack)
        while True:
            raise_if_asked()
            pack = packs.next()
            if pack is None:
                return
            assert pack != "wait", "no job is running, so there is none to wait for"
            outcome, message = self._run_pack(packs, pack, site, slots)
            packs.ended(pack, outcome, message)

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

    def _run_pack(
        self, packs: Packs, pack: Pack, site: Site, slots: TrialResources
    ) -> tuple[Attempt, str]:
        place: Report = {"node": LOOPBACK, "pid": os.getpid()}
        with contextlib.closing(self._reports(pack, site, slots)) as reports:
            for key, report in reports:
                if key == ALL:
                    return report[OUTCOME], report[MESSAGE]
                continues = packs.report(pack, key, {**report, **place})
                if OUTCOME not in report:
                    raise_if_asked()
                if not continues:
                    break
        return "done", ""

    def _reports(
        self, pack: Pack, site: Site, slots: TrialResources
    ) -> Generator[tuple[str, Report], None, None]:
        """Yield the reports of a pack's trainings; a crash of all is the last one."""
        given = {"site": site, "cpus": slots.cpus, "gpus": slots.gpus}
        first = pack.jobs[0]
        try:
            if pack.is_single:
                yield from keyed(first.key, self._train(asdict(first), **given))
            else:
                yield from self._train_pack(fields_of(pack.jobs), **given)
        except bdb.BdbQuit as error:
            message = "stopped in the debugger"
            raise Stopped(message) from error
        except Exception as error:
            log.debug("%s crashed", pack.name, exc_info=True)
            why = traceback.format_exception_only(error)[-1].strip()
            yield ALL, {OUTCOME: "crashed", MESSAGE: why}


def _each(
    task: Callable[..., Any], jobs: Sequence[Job] | Sequence[Sequence[Job]], **given: Any
) -> Iterator[Any]:
    for job in jobs:
        raise_if_asked()
        yield task(fields_of(job), **given)
