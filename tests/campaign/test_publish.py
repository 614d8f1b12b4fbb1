"""A campaign's result reaches MLflow whole and once, whenever the campaign is killed meanwhile."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cryo_hpo.campaign import publish as publishing
from cryo_hpo.config import Campaign, Site, load_campaign
from cryo_hpo.results.campaign import NAME, CampaignResult, load_campaign_result, write
from cryo_hpo.study import folder as folders
from cryo_hpo.tracking import Tracker

from ..support.campaigns import a_campaign_result, small_campaign


class Killed(BaseException):
    """The driver is killed."""


def _begun(root: Path, uri: str) -> tuple[Campaign, Site, Path, CampaignResult]:
    campaign = load_campaign(small_campaign(root))
    env = {f"CRYO_{n}": str(root / n.lower()) for n in ("DATA", "STORAGE", "CACHE")}
    site = Site.from_env({**env, "MLFLOW_TRACKING_URI": uri})
    path = folders.claim(campaign, site)
    folders.keep_spec(campaign, path)
    return campaign, site, path, a_campaign_result(campaign="camp", project="tests")


def _rows(root: Path, query: str) -> list[Any]:
    database = sqlite3.connect(f"file:{root}/storage/mlflow.db?mode=ro", uri=True)
    with closing(database) as opened:
        return opened.execute(query).fetchall()


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", ["write", "end"])
def test_a_campaigns_result_is_published_once_and_whole(tmp_path, monkeypatch, killed_at):
    (tmp_path / "storage").mkdir()
    uri = f"sqlite:///{tmp_path}/storage/mlflow.db"
    campaign, site, path, found = _begun(tmp_path, uri)
    experiment = publishing.experiment(campaign)

    def die(*_: object, **__: object) -> None:
        raise Killed

    tracker = Tracker.connect(uri, experiment=experiment, log=path / folders.EVENTS)
    with monkeypatch.context() as patch, closing(tracker):
        tracker.start(campaign.name, name=campaign.name, tags={"cryo.kind": "campaign"})
        if killed_at == "write":
            patch.setattr(publishing, "write", die)
        else:
            patch.setattr(Tracker, "end", die)
        with pytest.raises(Killed):
            publishing.publish(found, path, tracker=tracker)
    if killed_at == "write":
        assert not (path / NAME).exists()
        write(found, path)  # as the same command does, which computes it again
    console = Console(file=io.StringIO())
    final = publishing.complete(campaign, site, path, console=console)
    assert final.mlflow_run_id
    assert load_campaign_result(path) == final
    tags = dict(_rows(tmp_path, "select key, value from tags"))
    assert tags["cryo.result"] == found.digest
    assert _rows(tmp_path, "select status from runs") == [("FINISHED",)]
    twice = "select key from metrics group by run_uuid, key, step having count(*) > 1"
    assert _rows(tmp_path, twice) == []
    log = (path / folders.EVENTS).read_bytes()
    assert publishing.complete(campaign, site, path, console=console) == final
    publishing.publish_finished(path, site)
    assert (path / folders.EVENTS).read_bytes() == log, "nothing is left to publish"


def test_a_finished_campaign_keeps_its_result_while_mlflow_is_away(tmp_path, caplog):
    campaign, site, path, found = _begun(tmp_path, "http://127.0.0.1:1")
    write(found, path)
    console = Console(file=io.StringIO())
    assert publishing.complete(campaign, site, path, console=console) == found, "it has no log"
    (path / folders.EVENTS).touch()
    assert publishing.complete(campaign, site, path, console=console) == found
    assert "is not yet in MLflow" in caplog.text
