"""Define the contract between a study and its executor: jobs out, epochs and outcomes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

Outcome = Literal["done", "diverged", "refused", "unwritable", "crashed"]
OUTCOME, MESSAGE = "outcome", "message"  # keys of a worker's last report, besides the metrics


@dataclass(frozen=True, slots=True)
class Job:
    """Hold one job: a training, or its part up to the next rung.

    Attributes:
        key: Unique in the study: "trial-0003", "tuned-seed2".
        recipe: Recipe to train, as JSON.
        workdir: The job's own folder on the shared storage; the same folder resumes the training.
        keep_best: True if the best model is needed afterwards.
        cleared: Highest rung, an epoch, that the job may pass without a decision.
        metric: Name of the metric that selects the best model; see `field_metrics`.
        decisions: Epochs after which the study may stop the job: their checkpoints are safe before
            they are reported, those of other epochs soon after.
        recorded: Number of epochs from the first on that are recorded; the training reports later
            epochs again that it has in its checkpoint.
    """

    key: str
    recipe: str
    workdir: str
    keep_best: bool
    cleared: int = 0
    recorded: int = 0
    metric: str = "miou"
    decisions: tuple[int, ...] = ()


def fields_of(jobs: Job | Sequence[Job]) -> Any:
    """Return the fields of a job, or of each of several, as what travels to a worker."""
    return asdict(jobs) if isinstance(jobs, Job) else [asdict(job) for job in jobs]


class Source(Protocol):
    """Hand out jobs, and record their epochs and outcomes. All calls come from one thread."""

    def next(self) -> Job | Literal["wait"] | None:
        """Return the next job, "wait" if one may come when others end, or None at the end."""

    def epoch(self, job: Job, metrics: Mapping[str, float]) -> bool:
        """Record an epoch; return whether the job continues."""

    def ended(self, job: Job, outcome: Outcome, message: str) -> None:
        """Record that a job has ended; a job that `epoch` stopped ends as "done".

        Raises:
            StorageError: The outcome was "unwritable": the disk is full or gone. That is no result
                of the job, so the study stops, and resumes the job when the disk is fixed.
        """
