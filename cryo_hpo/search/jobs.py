"""Define the contract between a study and its executor: jobs out, epochs and outcomes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

Outcome = Literal["done", "diverged", "refused", "unwritable", "crashed"]
OUTCOME, MESSAGE = "outcome", "message"  # keys of a worker's last report, besides the metrics


@dataclass(frozen=True, slots=True)
class Job:
    """One training, or the part of one up to the next rung.

    Attributes:
        key: Unique in the study: "trial-0003", "tuned-seed2".
        recipe: What to train, as JSON.
        workdir: Its own folder on the shared storage; the same folder resumes where it was.
        keep_best: Whether the best model is needed afterwards.
        cleared: Highest rung this job may pass without a decision, an epoch.
    """

    key: str
    recipe: str
    workdir: str
    keep_best: bool
    cleared: int = 0


class Source(Protocol):
    """Hand out jobs, and record their epochs and outcomes. All calls come from one thread."""

    def next(self) -> Job | Literal["wait"] | None:
        """Return the next job, "wait" if one may come when others end, or None at the end."""

    def epoch(self, job: Job, metrics: Mapping[str, float]) -> bool:
        """Record an epoch; return whether the job continues."""

    def ended(self, job: Job, outcome: Outcome, message: str) -> None:
        """Record that a job has ended; a job that was told to stop ends as "done".

        Raises:
            StorageError: It was "unwritable": its disk is full or gone. That is no answer about
                the job, so the study stops, and goes on with it when the disk is mended.
        """
