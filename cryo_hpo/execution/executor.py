"""Define the executor that runs a study's jobs, and the resources of one trial."""

# H W pixels

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from ..errors import SpecError, concerning

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..config import Resources, Site
    from ..evaluation.metrics import Scores
    from ..search.jobs import Job, Source
    from ..storage.event_log import EventLog


@dataclass(frozen=True, slots=True)
class TrialResources:
    """Hold the resources of each trial, and the number of trials at a time.

    Attributes:
        cpus: Cores of one trial.
        gpus: GPUs of one trial, or the share of one.
        parallel: The most trials at a time; None: as many as there is room for.
        hang_s: Seconds without an epoch after which a trial hangs; None: by its own epochs.
        restart: Whether the worker of a trial that hangs is ended, and the trial started again.
        pack: The most trials that a worker trains together, on these resources; see `Packs`.
    """

    cpus: int
    gpus: float
    parallel: int | None
    hang_s: float | None = None
    restart: bool = False
    pack: int = 1

    @property
    def packs(self) -> int | None:
        """The most workers at a time, each with a pack; None: as many as there is room for."""
        return None if self.parallel is None else max(1, self.parallel // self.pack)

    def packed(self, most: int) -> TrialResources:
        """Return these resources with packs of at most a number of trials, and of `parallel`."""
        return replace(self, pack=min(most, self.parallel or most))


class Executor(Protocol):
    """Run a study's jobs and score its finished trainings: in this process, or on Ray."""

    def cluster(self) -> AbstractContextManager[None]:
        """Hold the cluster that jobs run on, from before the first job to after the last."""

    def metered(self, study: str, log: EventLog) -> AbstractContextManager[None]:
        """Export the metrics of a study to Prometheus while it runs, where that is possible."""

    def slots(self, resources: Resources, parallel: int | None) -> TrialResources:
        """Return the resources of each trial.

        Raises:
            SpecError: One trial requests more than there is.
        """

    def run(self, source: Source, *, site: Site, slots: TrialResources) -> None:
        """Run the jobs of a source until it has no more.

        Raises:
            Stopped: A signal requested a stop.
            CryoError: The source raised it.
        """

    def score(
        self, jobs: Sequence[Job], *, site: Site, slots: TrialResources
    ) -> list[dict[str, Scores]]:
        """Score finished trainings on the test split.

        Returns:
            For each training: scene -> its scores, those of fronts and areas too.

        Raises:
            Stopped: A signal requested a stop.
        """

    def score_ensembles(
        self, ensembles: Sequence[Sequence[Job]], *, site: Site, slots: TrialResources
    ) -> list[dict[str, Scores]]:
        """Score the mean probabilities of trainings of one recipe on the test split.

        Returns:
            For each ensemble: scene -> its scores.

        Raises:
            Stopped: A signal requested a stop.
        """

    def map(
        self, jobs: Sequence[Job], ids: Sequence[str], *, site: Site, slots: TrialResources
    ) -> list[dict[str, NDArray[np.uint8]]]:
        """Map some test scenes with finished trainings: for each training, scene -> map, (H, W), shrunk for a report.

        Raises:
            Stopped: A signal requested a stop.
        """


def fit_resources(
    resources: Resources, parallel: int | None, nodes: Iterable[Mapping[str, float]], *, where: str
) -> TrialResources:
    """Fit the resources that a study requests for one trial to the available nodes.

    `pack: auto` depends on the model: it is 1 here, and `study.packing` raises it.

    Args:
        resources: Resources that the study requests.
        parallel: The most trials at a time; None: as many as there is room for.
        nodes: "CPU" and "GPU" of each node.
        where: Subject and verb of the message, such as "the cluster's nodes have".

    Raises:
        SpecError: One trial requests more than any node has.
    """
    available = list(nodes)
    num_cpus = max((int(node.get("CPU", 0)) for node in available), default=0)
    num_gpus = max((float(node.get("GPU", 0)) for node in available), default=0.0)
    gpus = (1.0 if num_gpus else 0.0) if resources.gpus == "auto" else float(resources.gpus)
    if gpus > num_gpus:
        message = (
            f"resources.gpus asks for {gpus:g} GPU per trial, {where} up to "
            f"{num_gpus:g}. Set resources.gpus to 0 or auto, or add a node with a GPU."
        )
        with concerning("resources", "gpus"):
            raise SpecError(message)
    if resources.cpus > num_cpus:
        message = (
            f"resources.cpus asks for {resources.cpus} CPUs per trial, {where} up "
            f"to {num_cpus}. Lower it, or add a node."
        )
        with concerning("resources", "cpus"):
            raise SpecError(message)
    minutes = resources.hang_minutes
    return TrialResources(
        resources.cpus,
        gpus,
        parallel,
        hang_s=None if minutes is None else 60 * minutes,
        restart=resources.hanging == "restart",
    ).packed(1 if resources.pack == "auto" else resources.pack)
