"""Keep the metrics of a training's epochs in a small file of their own, beside its checkpoint.

The checkpoint rules: a training resumes from it alone, with the metrics that it holds. The file is a
copy, written after it, for readers that need no weights. A process that dies between the two leaves
a copy that lacks the last epoch. A reader that needs more than the copy has, or finds none (version
0.1.0 wrote none), a damaged one or another recipe's, reads the checkpoint.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..storage.atomic import write_text
from .checkpoints import HISTORY, load_last, writing

log = logging.getLogger(__name__)


def save_history(workdir: Path, recipe: str, epochs: Sequence[Mapping[str, Any]]) -> None:
    """Write the metrics of a training's epochs, once its checkpoint is on the disk.

    Args:
        workdir: Folder of the training.
        recipe: Id of the training's recipe.
        epochs: Metrics of every epoch.

    Raises:
        StorageError: The disk is full or read-only.
    """
    whole = [dict(metrics) for metrics in epochs]
    content = {"recipe": recipe, "crc": _checksum(recipe, whole), "epochs": whole}
    path = workdir / HISTORY
    with writing(path):
        write_text(path, json.dumps(content) + "\n", durable=False)  # what it copies is durable


def read_copy(workdir: Path, recipe: str) -> list[dict[str, float]]:
    """Return the metrics in the file of their own; empty if it has none of this recipe.

    Args:
        workdir: Folder of the training.
        recipe: Id of the training's recipe.
    """
    path = workdir / HISTORY
    try:
        content = json.loads(path.read_bytes())
        whole = content["crc"] == _checksum(content["recipe"], content["epochs"])
    except FileNotFoundError:
        return []
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        whole = False
    if not whole:
        log.warning("'%s' is damaged. The metrics of its epochs are in the checkpoint too.", path)
        return []
    epochs: list[dict[str, float]] = content["epochs"]
    return epochs if content["recipe"] == recipe else []


def read_history(workdir: Path, recipe: str, *, epochs: int) -> list[dict[str, float]]:
    """Return the metrics of a training's epochs: from the copy, else from the newest checkpoint.

    Args:
        workdir: Folder of the training.
        recipe: Id of the training's recipe; a checkpoint of another one counts as none.
        epochs: Number of epochs that are needed; a copy with fewer is behind the checkpoint.
    """
    copy = read_copy(workdir, recipe)
    if copy and len(copy) >= epochs:
        return copy
    state = load_last(workdir)
    held = [] if state is None or state.get("recipe") != recipe else list(state["history"])
    return max(held, copy, key=len)


def _checksum(recipe: str, epochs: list[dict[str, Any]]) -> str:
    return f"{zlib.crc32(json.dumps([recipe, epochs]).encode()):08x}"
