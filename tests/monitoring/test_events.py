"""Events: one JSON line each, for whoever watches; a full disk loses lines and nothing else."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from cryo_hpo.config import Site
from cryo_hpo.monitoring import events


def test_an_event_is_a_line_of_json(tmp_path, capfd):
    path = tmp_path / events.NAME
    events.emit("before", key="nobody listens")
    with events.written(path):
        events.emit("epoch", key="trial-0003", epoch=2, best_val_miou=0.5, node=None)
        events.emit("ended", key="trial-0003", state="diverged", message='loss "nan"\nat step 3')
    events.emit("after")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["epoch", "ended"]
    assert lines[0] | {"time": ""} == {
        "time": "",
        "event": "epoch",
        "key": "trial-0003",
        "epoch": 2,
        "best_val_miou": 0.5,
        "node": None,
    }
    assert lines[1]["message"] == 'loss "nan"\nat step 3'
    assert datetime.fromisoformat(lines[0]["time"]).utcoffset() is not None
    assert capfd.readouterr() == ("", "")  # the terminal has its own words


def test_a_study_that_goes_on_adds_to_its_events(tmp_path):
    for name in ("first", "second"):
        with events.written(tmp_path / events.NAME):
            events.emit(name)
    assert len((tmp_path / events.NAME).read_text().splitlines()) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_a_full_disk_does_not_end_a_study(capfd):
    with events.written(Path("/dev/full")):
        events.emit("epoch", key="trial-0000")
    assert capfd.readouterr() == ("", "")


def test_a_node_s_own_cache_wins(tmp_path):
    site = Site.from_env({"CRYO_CACHE": str(tmp_path / "driver"), "CRYO_DATA": "/shared/data"})
    there = site.on_node({"CRYO_CACHE": str(tmp_path / "node"), "CRYO_DATA": "/elsewhere"})
    assert there.cache == tmp_path / "node"
    assert there.model_copy(update={"cache": site.cache}) == site  # nothing else is the node's
    assert site.on_node({}) == site
