"""`epochs.jsonl`: what every training gave after every epoch, one line each."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EPOCH = "epoch"  # the key by which schedulers count, and
SCORE = "best_val_miou"  # the one by which they compare
EPOCHS = "epochs.jsonl"  # in a study's folder: one line per training and epoch

log = logging.getLogger(__name__)


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the recorded epochs of a study, each with its `key`; a torn line is left out."""
    path = folder / EPOCHS
    if not path.exists():
        return
    with path.open() as file:
        for line in filter(str.strip, file):
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                log.warning("'%s' holds a torn line, which is left out", path)


def of(folder: Path, key: str) -> list[dict[str, Any]]:
    """Return one training's epochs in order; for many trainings see `by_key`."""
    return by_key(folder).get(key, [])


def by_key(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return every training's epochs in order, from one reading of the file."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in read(folder):
        found.setdefault(line["key"], []).append(line)
    return {key: sorted(lines, key=lambda r: r["epoch"]) for key, lines in found.items()}
