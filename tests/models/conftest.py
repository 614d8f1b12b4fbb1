"""Reference weights that anyone can regenerate, and one thread."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def _value(key: str, entry: dict[str, Any]) -> Tensor:
    """As the reference's own description defines it: drawn from the checksum of the key."""
    shape = tuple(entry["shape"])
    drawn = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape, np.float32)
    return torch.tensor(np.float32(entry["offset"]) + np.float32(entry["scale"]) * drawn)


def _fill(module: nn.Module, table: dict[str, dict[str, Any]]) -> None:
    """Give a module the weights of a table that lists them in the module's own order."""
    stored = [(key, entry) for key, entry in table.items() if "kept" not in entry]
    state = module.state_dict()
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    for name, (key, entry) in zip(names, stored, strict=True):
        assert list(state[name].shape) == entry["shape"], (name, key)
        state[name] = _value(key, entry)
    module.load_state_dict(state)


@pytest.fixture
def fill() -> Callable[[nn.Module, dict[str, dict[str, Any]]], None]:
    return _fill


@pytest.fixture
def reference() -> Callable[[Path], tuple[dict[str, Any], Any]]:
    """Read a description and the arrays beside it."""
    return lambda path: (json.loads(path.read_text()), np.load(path.with_suffix(".npz")))


@pytest.fixture
def value() -> Callable[[str, dict[str, Any]], Tensor]:
    return _value
