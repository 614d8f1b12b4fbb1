"""Download the published weights of an encoder to the folder of weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import FetchError, WeightsError
from ...storage.fetch import Received, fetch
from .hub import SCHEME, HubFile, evict_hub_file, is_offline, place_hub_file

if TYPE_CHECKING:
    from .published import Weights


def resolve_url(address: str) -> str:
    """Return the web address of a file; HF_ENDPOINT names a mirror of the Hugging Face hub."""
    return HubFile.parse(address).url if address.startswith(SCHEME) else address


def download(published: Weights, *, root: Path, name: str) -> Iterator[Received]:
    """Download a file of weights to its place below the folder of weights; yields progress.

    Files of the Hugging Face hub come through its client and cache, others by https with
    resumption; both are compared with the checksum of the card.

    Args:
        published: Weights to download.
        root: Folder of weights.
        name: Name of the encoder, for messages.

    Raises:
        WeightsError: The download failed; the message names the file to install and its place.
        StorageError: The disk is full or read-only.
    """
    path = root / published.file
    if not published.address:
        message = f"The weights of '{name}' cannot be downloaded by a program."
        raise WeightsError(f"{message} {explain_manual_install(published, path)}")
    on_hub = published.address.startswith(SCHEME)
    if is_offline() and not on_hub:
        message = f"The weights of '{name}' are not here, and this machine is set to stay offline."
        raise WeightsError(f"{message} {explain_manual_install(published, path)}")
    checksum = f"sha256:{published.sha256}" if published.sha256 else ""
    try:
        if on_hub:
            yield from _download_from_hub(published, path)
        else:
            yield from fetch(published.address, path, checksum=checksum)
    except FetchError as error:
        message = f"The weights of '{name}' cannot be downloaded. {error}"
        if on_hub and is_offline():
            message = (
                f"The weights of '{name}' are neither below CRYO_WEIGHTS nor in the Hugging Face "
                "cache, and this machine is set to stay offline."
            )
        raise WeightsError(f"{message} {explain_manual_install(published, path)}") from error


def _download_from_hub(published: Weights, path: Path) -> Iterator[Received]:
    """Download a file of the hub, and remove it if its checksum does not match."""
    file = HubFile.parse(published.address)
    place_hub_file(file, path)
    with path.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    if not sha256.startswith(published.sha256.lower()):
        path.unlink()
        evict_hub_file(file)
        message = (
            f"{file.url} must have the sha256 {published.sha256}, got {sha256}. Nothing was kept. "
            "Try again; if the message stays, the publisher has replaced the file."
        )
        raise FetchError(message)
    size = path.stat().st_size
    yield Received(size, size)


def explain_manual_install(published: Weights, path: Path) -> str:
    """Return instructions for installing weights by hand."""
    source = resolve_url(published.address) or published.url
    return (
        f"Put the file from {source} at '{path}', or set model.weights to another file below "
        f"CRYO_WEIGHTS or to 'scratch'."
    )
