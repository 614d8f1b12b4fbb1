"""Read the epochs of every training from a study's event log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..storage.event_log import read_events
from .files import EVENTS

EPOCH = "epoch"  # key of the epoch number, which schedulers count
MIOU_SCORE = "best_val_miou"  # key of the mIoU of the best checkpoint, a fraction
TOGETHER = "together"  # key of the number of trainings that were trained side by side, if not 1
SCORE = "best_val_score"  # key of its score by another metric than mIoU; more is better


def score_of(epoch: Mapping[str, float]) -> float:
    """Return the score of an epoch that schedulers compare: the best so far, more is better."""
    return epoch[SCORE] if SCORE in epoch else epoch[MIOU_SCORE]


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the recorded epochs of a study, each with its training's `key`; skip damaged lines.

    Raises:
        StorageError: An older version began the study.
    """
    return (event for event in read_events(folder / EVENTS) if event["event"] == "epoch")


def by_key(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the epochs of every training in order, reading the file once.

    Raises:
        StorageError: An older version began the study.
    """
    epochs: dict[str, list[dict[str, Any]]] = {}
    for event in read(folder):
        epochs.setdefault(event["key"], []).append(event)
    return {key: sorted(lines, key=lambda line: line["epoch"]) for key, lines in epochs.items()}
