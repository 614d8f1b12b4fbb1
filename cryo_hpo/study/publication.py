"""Publish the result of a study or a campaign, once and whole, whenever its driver was killed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from rich.console import Console

from ..errors import CryoError
from ..results.campaign import CampaignResult
from ..results.study import Result
from ..storage.event_log import read_events
from ..tracking import Tracker, run_id
from . import folder as folders
from . import frame

if TYPE_CHECKING:
    from ..config import Site

RESULT = "cryo.result"  # tag of an MLflow run: digest of the published result

log = logging.getLogger(__name__)

R = TypeVar("R", Result, CampaignResult)


@dataclass(frozen=True, slots=True)
class Publication(Generic[R]):
    """Hold where a result is published, and how.

    Attributes:
        name: Study or campaign; the key of its MLflow run.
        experiment: Name of the MLflow experiment.
        folder: Folder of the study or campaign.
        write: Writes the result into the folder.
        publish: Writes result and report, and logs both. Publishing the same result again adds
            nothing to MLflow.
    """

    name: str
    experiment: str
    folder: Path
    write: Callable[[R, Path], object]
    publish: Callable[[R, Tracker], object]

    def is_whole(self, result: R) -> bool:
        """Return True if the log holds the whole result, up to the end of its own MLflow run."""
        tagged = ended = False
        for event in read_events(self.folder / folders.EVENTS):
            if event.get("study", self.name) != self.name:
                continue  # of a study of the campaign
            tagged = tagged or event.get("tags", {}).get(RESULT) == result.digest
            if event["event"] in ("study started", "study ended"):
                ended = event.get("status") == "FINISHED"
        return tagged and ended

    def complete(self, result: R, site: Site, console: Console) -> R:
        """Return a finished result; publish and deliver it if that was interrupted.

        A server that is away is reported; the result does not depend on it.
        """
        is_whole = self.is_whole(result)
        events = self.folder / folders.EVENTS
        if (is_whole and result.mlflow_run_id) or not events.exists():
            return result
        try:
            tracker = Tracker.connect(
                site.mlflow, experiment=self.experiment, log=events, wandb=site.wandb
            )
            with contextlib.closing(tracker):
                if not is_whole:
                    self.publish(result, tracker)
                pending = tracker.close()
                frame.print_pending(pending, console)
                return self.record_delivery(result, site, pending=pending)
        except CryoError as error:
            log.warning("The result of '%s' is not yet in MLflow. %s", self.name, error)
            return result

    def record_delivery(self, result: R, site: Site, *, pending: int) -> R:
        """Write the MLflow run id into the result, or the number of pending records."""
        run = None if pending else run_id(site.mlflow, self.experiment, self.name)
        result = result.model_copy(update={"mlflow_run_id": run, "mlflow_pending": pending})
        self.write(result, self.folder)
        return result
