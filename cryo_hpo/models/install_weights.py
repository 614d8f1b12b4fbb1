"""Download an encoder's published weights by the encoder's name, and check that they fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import safetensors.torch
import torch

from ..bands import find_band
from ..storage.atomic import replacing
from ..storage.fetch import Received
from .lookup import find_encoder
from .weights.download import download
from .weights.load import load_weights, no_published_weights, published_state
from .weights.published import State, Weights


def find_weights(name: str, *, root: Path) -> Weights:
    """Return an encoder's published weights: those on disk, or else those to download.

    Raises:
        UnknownName: There is no such encoder.
        WeightsError: The encoder has no published weights.
    """
    published = find_encoder(name).weights
    if published is None:
        raise no_published_weights(name)
    return published.chosen(root)


def fetch_weights(name: str, *, root: Path) -> Iterator[Received]:
    """Download an encoder's weights to the folder of weights; yields progress.

    Raises:
        WeightsError: The download failed; the message names the file to install and its place.
        StorageError: The disk is full or read-only.
    """
    published = find_weights(name, root=root)
    path = root / published.file
    if path.is_file():
        return
    if published.download is None:
        yield from download(published, root=root, name=name)
    else:
        _, state = published_state(_build(name), published, root=root, name=name)
        _keep(state, path)
        yield Received(path.stat().st_size, path.stat().st_size)


def fitting(name: str, *, root: Path) -> int:
    """Load an encoder's weights as training does, and return the number of tensors.

    Raises:
        WeightsError: The weights are missing or do not fit.
    """
    model = _build(name)
    load_weights(model, None, published=find_encoder(name).weights, root=root, name=name)
    return len(model.state_dict())


def _keep(state: State, path: Path) -> None:
    """Save the weights of a library at the path that training reads first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        safetensors.torch.save_file(dict(state), draft)


def _build(name: str) -> torch.nn.Module:
    card = find_encoder(name)
    bands = card.bands or card.gray or (find_band("B4"), find_band("B3"), find_band("B2"))
    return card.build(bands)
