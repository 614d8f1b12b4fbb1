"""Read the tensors of a checkpoint that also holds objects, without making those objects.

Checkpoints of trainings keep their options beside the weights: an `argparse.Namespace`, a
configuration, numbers of NumPy. Their classes are not needed, and must not be called: each is
replaced by a placeholder that accepts any arguments and stores none of them.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals


class _Nothing:
    """Replace an object; accepts any state."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


class _Keys:
    """Replace a class of mappings; its instances are ordinary dictionaries."""

    def __new__(cls, *_: object) -> Any:  # the unpickler fills only plain mappings
        return OrderedDict()


def load_tensors(path: Path) -> object:
    """Load a file of torch.save on CPU, with placeholders for all but tensors and plain values.

    Raises:
        pickle.UnpicklingError: An object cannot be replaced by a placeholder.
    """
    with safe_globals([(_stand_in(name), name) for name in _foreign(path)]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _stand_in(name: str) -> type:
    return _Nothing if name.startswith("numpy.") else _Keys


def _foreign(path: Path) -> list[str]:
    """List the classes and functions in a checkpoint that torch does not list as safe."""
    try:
        return get_unsafe_globals_in_checkpoint(str(path))
    except (ValueError, RuntimeError):  # no archive: an old format, or no checkpoint
        return []
