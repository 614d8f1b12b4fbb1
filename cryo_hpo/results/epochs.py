"""Read every training's epochs from a study's event log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..storage.event_log import read_events
from .files import EVENTS

EPOCH = "epoch"  # the key by which schedulers count, and
SCORE = "best_val_miou"  # the one by which they compare


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the recorded epochs of a study, each with its `key`; a damaged line is left out.

    Raises:
        StorageError: An older version began the study.
    """
    return (event for event in read_events(folder / EVENTS) if event["event"] == "epoch")


def by_key(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return every training's epochs in order, from one reading of the file.

    Raises:
        StorageError: An older version began the study.
    """
    epochs: dict[str, list[dict[str, Any]]] = {}
    for event in read(folder):
        epochs.setdefault(event["key"], []).append(event)
    return {key: sorted(lines, key=lambda line: line["epoch"]) for key, lines in epochs.items()}
