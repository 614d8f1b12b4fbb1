"""Publish the result of a campaign, once and whole, whenever its driver was killed."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from .. import report
from ..config import Campaign, Site, load_campaign
from ..results.campaign import NAME, CampaignResult, load_campaign_result, write
from ..study import folder as folders
from ..study.publication import RESULT, Publication
from ..tracking import Tracker
from .verdict import metrics


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


def publication(campaign: Campaign, path: Path) -> Publication[CampaignResult]:
    """Return where and how a campaign's result is published."""
    return Publication(
        name=campaign.name,
        experiment=experiment(campaign),
        folder=path,
        write=write,
        publish=lambda result, tracker: publish(result, path, tracker=tracker),
    )


def complete(campaign: Campaign, site: Site, path: Path, *, console: Console) -> CampaignResult:
    """Return the result of a finished campaign; publish and deliver it if that was interrupted.

    Raises:
        CryoError: The result is damaged, or of another version.
    """
    return publication(campaign, path).complete(load_campaign_result(path), site, console)


def publish_finished(path: Path, site: Site) -> None:
    """Publish and deliver the result of a campaign's folder, if it has one; see `complete`.

    Raises:
        CryoError: The result or the spec is damaged, or another driver runs the campaign.
    """
    if (path / NAME).exists() and (path / folders.CAMPAIGN).exists():
        with folders.driving(path):
            campaign = load_campaign(path / folders.CAMPAIGN)
            complete(campaign, site, path, console=Console(stderr=True))
