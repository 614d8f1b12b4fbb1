"""Run a study's jobs on Ray: a local cluster, or the one of RAY_ADDRESS."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from . import ray_driver as driver  # first: it sets what Ray reads when it is imported
from .prometheus import exported
from .scoring_tasks import map_tests, score_ensembles, score_tests

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..config import Resources, Site
    from ..evaluation.metrics import Scores
    from ..search.jobs import Job, Source
    from ..storage.event_log import EventLog
    from .executor import TrialResources


class RayExecutor:
    """Run jobs on Ray; see `Executor`."""

    def cluster(self) -> AbstractContextManager[None]:
        """Join the cluster of RAY_ADDRESS, or start a local one; see `Executor`."""
        return driver.cluster()

    def metered(self, study: str, log: EventLog) -> AbstractContextManager[None]:
        """Export a study's metrics through Ray's Prometheus exporter; see `Executor`."""
        return exported(study, log)

    def slots(self, resources: Resources, parallel: int | None) -> TrialResources:
        """Return the resources of each trial on the cluster; see `Executor`."""
        return driver.slots_for(resources, parallel)

    def run(self, source: Source, *, site: Site, slots: TrialResources) -> None:
        """Run the jobs of a source until it has no more; see `Executor`."""
        driver.run(source, site=site, slots=slots)

    def score(
        self, jobs: Sequence[Job], *, site: Site, slots: TrialResources
    ) -> list[dict[str, Scores]]:
        """Score finished trainings on the test split; see `Executor`."""
        return score_tests(jobs, site=site, slots=slots)

    def score_ensembles(
        self, ensembles: Sequence[Sequence[Job]], *, site: Site, slots: TrialResources
    ) -> list[dict[str, Scores]]:
        """Score mean probabilities on the test split; see `Executor`."""
        return score_ensembles(ensembles, site=site, slots=slots)

    def map(
        self, jobs: Sequence[Job], ids: Sequence[str], *, site: Site, slots: TrialResources
    ) -> list[dict[str, NDArray[np.uint8]]]:
        """Map some test scenes with finished trainings; see `Executor`."""
        return map_tests(jobs, ids, site=site, slots=slots)
