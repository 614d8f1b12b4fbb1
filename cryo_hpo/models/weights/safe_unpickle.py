"""Read the tensors of a checkpoint that also holds objects, without making those objects.

Checkpoints of trainings keep their options beside the weights: an `argparse.Namespace`, a
configuration, numbers of NumPy. Their classes are not needed, and must not be called: each is
replaced by a placeholder that takes whatever it is given and holds nothing of it.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals


class _Nothing:
    """Stands for an object; takes any state."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


class _Keys:
    """Stands for a class of mappings; what it makes is an ordinary one."""

    def __new__(cls, *_: object) -> Any:  # the unpickler fills plain mappings alone
        return OrderedDict()


def load_tensors(path: Path) -> object:
    """Read what torch.save wrote, on CPU, with placeholders for all but tensors and plain values.

    Raises:
        pickle.UnpicklingError: An object cannot be stood in for.
    """
    with safe_globals([(_stand_in(name), name) for name in _foreign(path)]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _stand_in(name: str) -> type:
    return _Nothing if name.startswith("numpy.") else _Keys


def _foreign(path: Path) -> list[str]:
    """Name the classes and functions in a checkpoint that torch does not know as harmless."""
    try:
        return get_unsafe_globals_in_checkpoint(str(path))
    except (ValueError, RuntimeError):  # no archive: an old format, or no checkpoint
        return []
