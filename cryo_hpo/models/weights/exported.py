"""Recognize and read the file of an exported model: a card as JSON, and tensors by name."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import WeightsError
from .published import State

ENTRIES = {"card", "model"}  # keys of a file that `cryo-hpo export` wrote

log = logging.getLogger(__name__)


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
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # torch's unpickler raises whatever hostile bytes lead to
        log.debug("'%s' is no exported model", path, exc_info=True)
        return None
    if not isinstance(content, dict) or content.keys() != ENTRIES:
        return None
    card, state = content["card"], content["model"]
    if not isinstance(card, str) or not isinstance(state, dict):
        return None
    if not all(isinstance(name, str) and _is_plain(x) for name, x in state.items()):
        return None
    return Exported(card, state)


def _is_plain(x: object) -> bool:
    """Return whether a value is a tensor whose bytes are its values."""
    if not isinstance(x, Tensor) or x.layout != torch.strided or x.is_quantized:
        return False
    return not (x.is_conj() or x.is_neg() or x.requires_grad)
