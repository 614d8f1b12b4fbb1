"""Recognize and read the file of an exported model: a card as JSON, and tensors by name."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from ...errors import WeightsError
from .load import UNREADABLE
from .published import State

ENTRIES = {"card", "model"}  # keys of a file that `cryo-hpo export` wrote


class Exported(NamedTuple):
    """Hold the content of an exported model's file.

    Attributes:
        card: Card of the model, as JSON.
        state: Tensors of encoder and decoder by name.
    """

    card: str
    state: State


def read_exported(path: Path) -> Exported | None:
    """Return the content of an exported model; None where the file is anything else.

    A file that is missing or damaged is anything else too: reading it as a checkpoint reports that.

    Raises:
        WeightsError: The path is a folder.
    """
    if path.is_dir():
        message = (
            f"'{path}' is a folder, and weights are read from one file. If it is an exported model, "
            "its graphs cannot be trained. Export the model to a file: `cryo-hpo export STUDY --out "
            "model.pt`."
        )
        raise WeightsError(message)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UNREADABLE:
        return None
    if not isinstance(state, dict) or state.keys() != ENTRIES or not isinstance(state["card"], str):
        return None
    return Exported(state["card"], state["model"])
