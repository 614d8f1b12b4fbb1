"""Start a job again whose attempt failed; attempts are counted by cause."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from ..errors import CryoError

if TYPE_CHECKING:
    from ..search.jobs import Job, Outcome, Source

CRASHES = 3  # of one job, after which it starts no more
DEATHS = 10  # of one job's workers in a row, without a new epoch, that stop the study

log = logging.getLogger(__name__)


class Attempts:
    """Hand out a source's jobs, and those again whose attempt crashed or whose worker died.

    A crash is an error that the training itself raised: the third is the job's outcome, with its
    last line. A death has its cause outside the training (a node, the machine's memory
    killer, a signal): it never becomes an outcome, and many in a row stop the study, which resumes
    the job.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._again: list[Job] = []
        self._crashes: Counter[str] = Counter()
        self._deaths: Counter[str] = Counter()
        self._epochs: dict[str, float] = {}

    def next(self) -> Job | Literal["wait"] | None:
        """Return the next job, "wait" or None; see `Source`."""
        return self._again.pop(0) if self._again else self._source.next()

    def epoch(self, job: Job, metrics: Mapping[str, float]) -> bool:
        """Record an epoch; return whether the job continues."""
        if metrics["epoch"] > self._epochs.get(job.key, 0):
            self._epochs[job.key] = metrics["epoch"]
            self._deaths[job.key] = 0
        return self._source.epoch(job, metrics)

    def ended(self, job: Job, outcome: Outcome | Literal["died"], message: str) -> None:
        """Record how a job ended, or start it again.

        Raises:
            CryoError: The job's workers died too often in a row.
        """
        if outcome == "died":
            self._died(job, message)
        elif outcome == "crashed" and self._retries(job, message):
            self._again.append(job)
        else:
            self._crashes.pop(job.key, None)
            self._source.ended(job, outcome, message)

    def _retries(self, job: Job, message: str) -> bool:
        """Count a crash; return True if the job starts again."""
        self._crashes[job.key] += 1
        number = self._crashes[job.key]
        log.warning("%s crashed, attempt %d of %d: %s", job.key, number, CRASHES, message)
        return number < CRASHES

    def _died(self, job: Job, message: str) -> None:
        self._deaths[job.key] += 1
        number = self._deaths[job.key]
        log.warning("%s: its worker died (%s). It starts again.", job.key, message)
        if number >= DEATHS:
            text = (
                f"The worker of '{job.key}' died {number} times in a row without finishing an epoch "
                f"(last: {message}). No trial is lost. Remove the cause, such as too little memory "
                "or a node that fails, then run the same command again: it resumes."
            )
            raise CryoError(text)
        self._again.append(job)
