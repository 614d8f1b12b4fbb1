"""Bring the published weights of an encoder to this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import FetchError, WeightsError
from ...storage.fetch import Received, fetch

if TYPE_CHECKING:
    from .published import Weights

HF = "hf://"  # hf://owner/repository/path of a file, or hf://owner/repository@revision/path
ENDPOINT = "https://huggingface.co"
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")  # whichever a machine has set already


def direct(address: str) -> str:
    """Return where a file is on the web; HF_ENDPOINT names a mirror of the Hugging Face hub."""
    if not address.startswith(HF):
        return address
    owner, repository, path = address.removeprefix(HF).split("/", 2)
    repository, _, revision = repository.partition("@")
    endpoint = os.environ.get("HF_ENDPOINT", ENDPOINT).rstrip("/")
    return f"{endpoint}/{owner}/{repository}/resolve/{revision or 'main'}/{path}"


def download(published: Weights, *, root: Path, name: str) -> Iterator[Received]:
    """Fetch a file of weights to its place below the folder of weights; yields as it comes.

    Args:
        published: What to fetch.
        root: Folder of weights.
        name: The encoder's, for messages.

    Raises:
        WeightsError: It cannot be had; the message says which file to put where.
        StorageError: No room, or no right to write.
    """
    path = root / published.file
    if not published.address:
        message = f"The weights of '{name}' are fetched by hand."
        raise WeightsError(f"{message} {by_hand(published, path)}")
    if any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in OFFLINE):
        message = f"The weights of '{name}' are not here, and this machine is set to stay offline."
        raise WeightsError(f"{message} {by_hand(published, path)}")
    checksum = f"sha256:{published.sha256}" if published.sha256 else ""
    try:
        yield from fetch(direct(published.address), path, checksum=checksum)
    except FetchError as error:
        message = f"The weights of '{name}' cannot be downloaded. {error}"
        raise WeightsError(f"{message} {by_hand(published, path)}") from error


def by_hand(published: Weights, path: Path) -> str:
    """Return the remedy where a machine cannot fetch weights itself."""
    source = direct(published.address) or published.url
    return (
        f"Put the file from {source} at '{path}', or set model.weights to another file below "
        f"CRYO_WEIGHTS or to 'scratch'."
    )
