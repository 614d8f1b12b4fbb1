"""Hold what a running study and a running campaign share: MLflow, cluster, signals, and the end of both."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from ..execution.closing import closing_once
from ..execution.signals import stoppable
from ..monitoring.heartbeat import Heartbeat
from ..tracking import Tracker
from . import folder as folders

if TYPE_CHECKING:
    from ..config import Site
    from ..execution.executor import Executor
    from ..monitoring.recorder import Records

STOP_WAIT_S = 3.0  # between Ray's stop signal to a job and its kill

log = logging.getLogger(__name__)


def begin(
    spec: folders.Spec, site: Site, path: Path, *, experiment: str, disk_gib: float
) -> Tracker:
    """Connect to MLflow and write the spec, which takes the name; nothing is trained yet.

    Args:
        spec: The study or campaign, checked.
        site: Locations of storage and MLflow.
        path: The folder of the spec.
        experiment: Name of the MLflow experiment.
        disk_gib: Size of all checkpoints at most, GiB.

    Raises:
        StorageError: The disk has too little room, or cannot be written.
        TrackingError: MLflow cannot be reached, or W&B cannot be used here.
    """
    folders.require_room(spec, path, gib=0.0 if site.checkpoints else disk_gib)
    tracker = Tracker.connect(
        site.mlflow, experiment=experiment, log=path / folders.EVENTS, wandb=site.wandb
    )
    folders.keep_spec(spec, path)
    return tracker


def heartbeat(console: Console) -> Heartbeat:
    """Return what prints a line on the console whenever it was silent for ten seconds."""
    return Heartbeat(partial(console.print, markup=False, highlight=False, soft_wrap=True))


@contextlib.contextmanager
def running(
    tracker: Tracker,
    executor: Executor,
    console: Console,
    *,
    unfinished: Callable[[], Sequence[Records]],
    own_run: str | None = None,
) -> Iterator[None]:
    """Hold cluster and signal handlers; on an error end the MLflow runs before Ray ends.

    Args:
        tracker: Tracker of the log; closed at the end.
        executor: What runs the trainings.
        console: Console for the last words.
        unfinished: Returns the records of the studies that have begun and have no result.
        own_run: Key of a run that none of these records ends.
    """

    def close(error: BaseException) -> None:
        if own_run and not tracker.closed:
            tracker.end(own_run, _status(error))
        _close_runs(unfinished(), tracker, error, console)

    with (
        contextlib.closing(tracker),
        executor.cluster(),
        stoppable(),
        closing_once(close) as closing,
    ):
        try:
            yield
        except BaseException as error:  # recorded before Ray ends, which takes seconds
            closing(error)
            raise


def _close_runs(
    records: Sequence[Records], tracker: Tracker, error: BaseException, console: Console
) -> None:
    """End the MLflow runs of unfinished trainings, and print how to resume."""
    if tracker.closed:  # the study's end is recorded, and the error came after it
        return
    for study in records:
        study.stopped(_status(error))
    print_pending(tracker.close(timeout_s=_stop_wait_s() - 1, ends_first=True), console)
    if isinstance(error, KeyboardInterrupt):
        console.print("Stopped. The same command resumes.")


def _stop_wait_s() -> float:
    """Return the time after which Ray kills a stopped job; a second of it is for all but MLflow."""
    with contextlib.suppress(ValueError):  # Ray itself refuses what is no number
        return float(os.environ.get("RAY_JOB_STOP_WAIT_TIME_S") or STOP_WAIT_S)
    return STOP_WAIT_S


def _status(error: BaseException) -> Literal["KILLED", "FAILED"]:
    return "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"


def print_pending(pending: int, console: Console) -> None:
    """Print how many records are pending on disk, if any are."""
    if pending:
        console.print(
            f"{pending} records for MLflow are pending on disk; `cryo-hpo upload STUDY` delivers them."
        )
