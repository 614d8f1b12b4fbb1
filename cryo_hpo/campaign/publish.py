"""Publish the result of a campaign, once and whole, whenever its driver was killed."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from .. import report
from ..config import Campaign, Site, load_campaign
from ..errors import CryoError
from ..results.campaign import NAME, CampaignResult, load_campaign_result, write
from ..storage.event_log import read_events
from ..study import folder as folders
from ..study import frame
from ..study.run import RESULT
from ..tracking import Tracker, run_id
from .verdict import metrics

if TYPE_CHECKING:
    from ..storage.event_log import Event

log = logging.getLogger(__name__)


def experiment(campaign: Campaign) -> str:
    """Return the name of a campaign's MLflow experiment."""
    return f"cryo/{campaign.project}"


def publish(result: CampaignResult, path: Path, *, tracker: Tracker) -> None:
    """Write result and report, and log both; publishing the same again adds nothing to MLflow.

    Args:
        result: Result of the campaign.
        path: The campaign's folder.
        tracker: Tracker of the campaign's log.
    """
    for file in report.write_campaign(result, path / "report"):
        tracker.artifact(result.campaign, file, "report")
    write(result, path)
    tracker.artifact(result.campaign, path / NAME)
    tracker.log_once(result.campaign, metrics(result), step=0)
    tags = {"mlflow.note.content": report.campaign_note(result), RESULT: result.digest}
    tracker.tag(result.campaign, tags)
    tracker.end(result.campaign, "FINISHED")


def is_published(result: CampaignResult, path: Path) -> bool:
    """Return True if a campaign's log holds the whole result, up to the end of its MLflow run."""
    tagged = ended = False
    for event in read_events(path / folders.EVENTS):
        if not _is_own(event, result.campaign):
            continue
        tagged = tagged or event.get("tags", {}).get(RESULT) == result.digest
        if event["event"] in ("study started", "study ended"):
            ended = event.get("status") == "FINISHED"
    return tagged and ended


def _is_own(event: Event, campaign: str) -> bool:
    """Return True for an event of the campaign's own run, not of one of its trainings."""
    return bool(event.get("study", campaign) == campaign)


def delivered(
    result: CampaignResult, site: Site, path: Path, *, pending: int, project: str
) -> CampaignResult:
    """Write the MLflow run id into the result, or the number of pending records."""
    run = None if pending else run_id(site.mlflow, f"cryo/{project}", result.campaign)
    result = result.model_copy(update={"mlflow_run_id": run, "mlflow_pending": pending})
    write(result, path)
    return result


def complete(campaign: Campaign, site: Site, path: Path, *, console: Console) -> CampaignResult:
    """Return the result of a finished campaign; publish and deliver it if that was interrupted.

    A server that is away is reported; the result does not depend on it.

    Raises:
        CryoError: The result is damaged, or of another version.
    """
    result = load_campaign_result(path)
    published = is_published(result, path)
    if (published and result.mlflow_run_id) or not (path / folders.EVENTS).exists():
        return result
    try:
        tracker = Tracker.connect(
            site.mlflow, experiment=experiment(campaign), log=path / folders.EVENTS
        )
        with contextlib.closing(tracker):
            if not published:
                publish(result, path, tracker=tracker)
            pending = tracker.close()
            frame.print_pending(pending, console)
            return delivered(result, site, path, pending=pending, project=campaign.project)
    except CryoError as error:
        log.warning("The result of '%s' is not yet in MLflow. %s", campaign.name, error)
        return result


def publish_finished(path: Path, site: Site) -> None:
    """Publish and deliver the result of a campaign's folder, if it has one; see `complete`.

    Raises:
        CryoError: The result or the spec is damaged, or another driver runs the campaign.
    """
    if (path / NAME).exists() and (path / folders.CAMPAIGN).exists():
        with folders.driving(path):
            campaign = load_campaign(path / folders.CAMPAIGN)
            complete(campaign, site, path, console=Console(stderr=True))
