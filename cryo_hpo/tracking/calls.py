"""Translate a study's events into calls to MLflow. Pure.

The `run_key` of a run is the study's name, followed by a slash and the training's name if any.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Literal

from ..storage.event_log import Event

Call = dict[str, Any]  # `do`, `key` of the run, `at` in ms since 1970, and the arguments

NO_METRICS = {"n", "time", "event", "study", "key", "epoch", "batch", "node", "pid", "crc"}
STATUS: dict[str, Literal["FINISHED", "FAILED"]] = {
    "complete": "FINISHED",
    "pruned": "FINISHED",
    "diverged": "FAILED",
    "failed": "FAILED",
}


def run_key(study: str, key: str = "") -> str:
    """Return the key that identifies the MLflow run of a training, or of the study itself."""
    return f"{study}/{key}" if key else study


def calls_of(event: Event) -> Iterator[Call]:
    """Yield the MLflow calls of an event, in order; none for an event that MLflow does not show.

    Args:
        event: A line of the log.
    """
    if "study" not in event:
        return
    at = round(datetime.fromisoformat(event["time"]).timestamp() * 1000)
    base = {"key": run_key(event["study"], event.get("key", "")), "at": at}
    calls = CALLS.get(event["event"])
    yield from () if calls is None else ({**call, **base} for call in calls(event))


def metrics_of(event: Event) -> dict[str, float]:
    """Return the metrics of an epoch, without values that are not finite (null in the log)."""
    return {
        legal_name(name): float(value)
        for name, value in event.items()
        if name not in NO_METRICS and isinstance(value, int | float)
    }


def _start(event: Event) -> Iterator[Call]:
    optional: Call = {"parent": None, "parent_log": None, "tags": {}, "params": {}}
    facts = {name: event.get(name, default) for name, default in optional.items()}
    yield {"do": "start", "name": event["name"], **facts}
    if "dataset" in event:
        yield {"do": "dataset", **event["dataset"]}


def _epoch(event: Event) -> Iterator[Call]:
    yield {"do": "log", "step": event["epoch"], "metrics": metrics_of(event)}
    if event.get("micro_batch", math.inf) < (event.get("batch") or 0):
        share = f"{event['micro_batch']:.0f} of {event['batch']}"
        yield {"do": "tag", "tags": {"cryo.micro_batch": share}}


def _paused(_: Event) -> Iterator[Call]:
    yield {"do": "tag", "tags": {"cryo.state": "paused"}}


def _ended(event: Event) -> Iterator[Call]:
    tags = {"cryo.state": event["state"], "cryo.message": event["message"][:500]}
    yield {"do": "tag", "tags": {name: text for name, text in tags.items() if text}}
    spent = {"epochs": float(event["epochs"]), "seconds_total": float(event["seconds"])}
    yield {"do": "log", "step": event["epochs"], "metrics": spent}
    yield {"do": "end", "status": STATUS[event["state"]]}


def _interrupted(_: Event) -> Iterator[Call]:
    yield {"do": "tag", "tags": {"cryo.state": "interrupted"}}
    yield {"do": "end", "status": "KILLED"}


def _same(do: str, *names: str) -> Callable[[Event], Iterator[Call]]:
    """Return a translation that copies the facts of these names unchanged."""
    return lambda event: iter([{"do": do, **{name: event[name] for name in names}}])


CALLS: dict[str, Callable[[Event], Iterator[Call]]] = {
    "study started": _start,
    "study ended": _same("end", "status"),
    "started": _start,
    "epoch": _epoch,
    "paused": _paused,
    "ended": _ended,
    "interrupted": _interrupted,
    "metrics": _same("log", "step", "metrics"),
    "tag": _same("tag", "tags"),
    "artifact": _same("artifact", "path", "folder"),
    "model": _same("model", "path", "name", "register"),
    "end": _same("end", "status"),
}


def legal_name(name: str) -> str:
    """Return a name that MLflow accepts for a metric or parameter; other characters become `_`."""
    parts = re.sub(r"[^/\w.\- :]", "_", name).split("/")
    return "/".join(part for part in parts if part.strip(".")).lstrip(".") or "_"
