"""Score and map the test split on the Ray cluster when training is over."""

# H W pixels

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.progress_log import opened
from ..search.jobs import Job, fields_of
from .hanging import HangWatch
from .positions import WorkerPositions, writing_position
from .ray_driver import POLL_S
from .ray_start import raise_if_failed
from .ray_watch import raise_if_dead
from .signals import raise_if_asked
from .worker import map_test, score_ensemble, score_test

import ray  # isort: skip  (driver first: it sets what Ray reads when it is imported)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..config import Site
    from ..evaluation.metrics import Scores
    from .executor import TrialResources

SCORING = "scoring"
RETRIES = 3  # of a scene's task whose worker died

log = logging.getLogger(__name__)


def score_tests(
    jobs: Sequence[Job], *, site: Site, slots: TrialResources
) -> list[dict[str, Scores]]:
    """Score finished trainings on the test split, each on a node with its resources.

    Returns:
        For each training: scene -> its scores, those of fronts and areas too.

    Raises:
        Stopped: A signal requested a stop.
    """
    return _ask(score_test, jobs, site=site, slots=slots)


def score_ensembles(
    ensembles: Sequence[Sequence[Job]], *, site: Site, slots: TrialResources
) -> list[dict[str, Scores]]:
    """Score the mean probabilities of trainings of one recipe, each ensemble on one node.

    Returns:
        For each ensemble: scene -> its scores.

    Raises:
        Stopped: A signal requested a stop.
    """
    return _ask(score_ensemble, ensembles, site=site, slots=slots)


def map_tests(
    jobs: Sequence[Job], ids: Sequence[str], *, site: Site, slots: TrialResources
) -> list[dict[str, NDArray[np.uint8]]]:
    """Map some test scenes with finished trainings: for each training, scene -> map, (H, W), shrunk for a report.

    Raises:
        Stopped: A signal requested a stop.
    """
    return _ask(map_test, jobs, site=site, slots=slots, ids=list(ids))


def _ask(
    task: Callable[..., Any],
    jobs: Sequence[Job] | Sequence[Sequence[Job]],
    *,
    site: Site,
    slots: TrialResources,
    **more: Any,
) -> list[Any]:
    """Run a task for every job on the cluster."""
    remote: Any = ray.remote(num_cpus=slots.cpus, num_gpus=slots.gpus, max_retries=RETRIES)
    given = {"site": site, "cpus": slots.cpus, "gpus": slots.gpus, **more}
    tasks = [remote(_run).remote(task, fields_of(each), **given) for each in jobs]
    watch, positions = _ScoringWatch(), WorkerPositions()
    for each in jobs:
        first = each if isinstance(each, Job) else each[0]
        positions.began(first.key, Path(first.workdir))
    try:
        with opened(positions):
            for ended in _numbers_ended(tasks):
                raise_if_dead()
                raise_if_asked()
                watch.note(ended)
        results: list[Any] = ray.get(tasks)
    except Exception as error:
        raise_if_failed(error)
        raise
    return results


def _run(task: Callable[..., Any], config: Any, **given: Any) -> Any:
    """Run a task in a worker, and write how far it is into the folder of its first training."""
    first = config[0] if isinstance(config, list) else config
    with writing_position(Path(first["workdir"])):
        return task(config, **given)


def _numbers_ended(tasks: list[Any]) -> Iterator[int]:
    """Yield how many tasks have ended, again and again until all have."""
    ended = 0
    while ended < len(tasks):
        ended = len(ray.wait(tasks, num_returns=len(tasks), timeout=POLL_S)[0])
        yield ended


class _ScoringWatch:
    """Report it once if tasks end no more; see `HangWatch`."""

    def __init__(self) -> None:
        self._watch, self._ended, self._last = HangWatch(None), 0, time.monotonic()
        self._watch.began(SCORING)

    def note(self, ended: int) -> None:
        """Note how many tasks have ended."""
        if ended > self._ended:
            now = time.monotonic()
            self._watch.epoch(SCORING, now - self._last)
            self._ended, self._last = ended, now
        for _, silent_s in self._watch.newly_silent():
            log.warning(
                "No test score has come for %.3g min: a worker hangs. Look at the processes named ray::_run, "
                "their GPU and disks; one that is ended is started again, up to %d times.",
                silent_s / 60,
                RETRIES,
            )
