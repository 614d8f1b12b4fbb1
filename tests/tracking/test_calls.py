"""Every event becomes the calls that show it in MLflow."""

from __future__ import annotations

from typing import Any

import pytest

from cryo_hpo.tracking.calls import calls_of, legal_name

RUN = {"key": "s/t", "at": 1_500}


def event(what: str, **facts: Any) -> dict[str, Any]:
    when = "1970-01-01T00:00:01.500+00:00"
    return {"n": 3, "time": when, "event": what, "study": "s", "key": "t", "crc": "0", **facts}


START = {"name": "t lr 1", "parent": "s", "tags": {"a": "b"}, "params": {"lr": "1"}}
EPOCH = {"epoch": 2, "val_iou/[ice]": 0.5, "loss": None, "node": "10.0.0.1", "pid": 7, "batch": 8}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            event("started", kind="search", lr=1, **START),
            [{"do": "start", **RUN, **START, "parent_log": None}],
        ),
        (
            event("epoch", **EPOCH),
            [{"do": "log", **RUN, "step": 2, "metrics": {"val_iou/_ice_": 0.5}}],
        ),
        (
            event("epoch", epoch=1, micro_batch=4.0, batch=8),
            [
                {"do": "log", **RUN, "step": 1, "metrics": {"micro_batch": 4.0}},
                {"do": "tag", **RUN, "tags": {"cryo.micro_batch": "4 of 8"}},
            ],
        ),
        (
            event("paused", epoch=3),
            [{"do": "tag", **RUN, "tags": {"cryo.state": "paused"}}],
        ),
        (
            event("ended", state="diverged", message="why", epochs=3, seconds=4.5),
            [
                {"do": "tag", **RUN, "tags": {"cryo.state": "diverged", "cryo.message": "why"}},
                {"do": "log", **RUN, "step": 3, "metrics": {"epochs": 3.0, "seconds_total": 4.5}},
                {"do": "end", **RUN, "status": "FAILED"},
            ],
        ),
        (
            event("interrupted"),
            [
                {"do": "tag", **RUN, "tags": {"cryo.state": "interrupted"}},
                {"do": "end", **RUN, "status": "KILLED"},
            ],
        ),
        (
            event("study ended", key="", status="FINISHED"),
            [{"do": "end", **RUN, "key": "s", "status": "FINISHED"}],
        ),
        (event("tag", tags={"x": "y"}), [{"do": "tag", **RUN, "tags": {"x": "y"}}]),
        (
            event("artifact", path="result.json", folder=None),
            [{"do": "artifact", **RUN, "path": "result.json", "folder": None}],
        ),
        (event("of a later version"), []),
    ],
)
def test_an_event_becomes_calls(given: dict[str, Any], expected: list[dict[str, Any]]) -> None:
    assert list(calls_of(given)) == expected


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("complete", "FINISHED"),
        ("pruned", "FINISHED"),
        ("diverged", "FAILED"),
        ("failed", "FAILED"),
    ],
)
def test_the_state_of_a_training_is_the_status_of_its_run(state: str, status: str) -> None:
    *_, end = calls_of(event("ended", state=state, message="", epochs=1, seconds=1.0))
    assert (end["do"], end["status"]) == ("end", status)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("iou/[ice] 100%", "iou/_ice_ 100_"), ("../x//y", "x/y"), ("", "_"), ("lr(max)", "lr_max_")],
)
def test_names_are_made_legal(name: str, expected: str) -> None:
    assert legal_name(name) == expected
