"""Read what a study has recorded so far, even while it runs."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from cryo_hpo.storage.event_log import read_events


def recorded_epochs(folder: Path) -> list[tuple[str, int]]:
    """Return (training, epoch) of every epoch in a study's log, in order."""
    return [(event["key"], event["epoch"]) for event in recorded_events(folder, "epoch")]


def has_begun(folder: Path, key: str) -> bool:
    """Return whether a training has an epoch in a study's log."""
    return key in [name for name, _ in recorded_epochs(folder)]


def recorded_events(folder: Path, *events: str) -> list[dict[str, Any]]:
    """Return a study's events so far, all or some kinds: each with time, node and process."""
    return [e for e in read_events(folder / "events.jsonl") if not events or e["event"] in events]


def nodes_of_epochs(folder: Path) -> set[str]:
    """Return the addresses of the hosts that have trained an epoch of a study."""
    return {event["node"] for event in recorded_events(folder, "epoch")}


def trains_on(folder: Path, node: str, *, before: int) -> bool:
    """Return whether a host runs a training that is not yet at an epoch.

    An interrupted training has to resume on another host.
    """
    epochs = recorded_events(folder, "epoch")
    last = next((event for event in reversed(epochs) if event["node"] == node), None)
    return last is not None and last in epochs[-5:] and last["epoch"] < before


def last_epoch_s(folder: Path) -> float:
    """Return the time at which the last epoch of a study was recorded, seconds since 1970."""
    epochs = recorded_events(folder, "epoch")
    return max(datetime.fromisoformat(event["time"]).timestamp() for event in epochs)
