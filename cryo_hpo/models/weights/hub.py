"""Download one file of a repository on the Hugging Face hub, through the hub's own client.

The client gives one behavior to all encoders, those of timm included: its cache (HF_HOME), its
token (HF_TOKEN, `hf auth login`), mirrors (HF_ENDPOINT), revisions, resumption after a cut
connection, and HF_HUB_OFFLINE, under which only its cache is read.
"""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from ...errors import FetchError, StorageError
from ...storage.no_room import NO_ROOM
from .hub_log import one_line_of_retries

SCHEME = "hf://"  # hf://owner/repository/path of a file, or hf://owner/repository@revision/path
ENDPOINT = "https://huggingface.co"
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
UNWRITABLE = (*NO_ROOM, errno.EACCES, errno.EPERM)


@dataclass(frozen=True, slots=True)
class HubFile:
    """Locate a file of a repository on the hub.

    Attributes:
        repository: "owner/name".
        revision: Commit, tag or branch.
        path: Path inside the repository.
    """

    repository: str
    revision: str
    path: str

    @classmethod
    def parse(cls, address: str) -> Self:
        """Read an address such as "hf://owner/name@revision/folder/file.pt"."""
        owner, name, path = address.removeprefix(SCHEME).split("/", 2)
        name, _, revision = name.partition("@")
        return cls(f"{owner}/{name}", revision or "main", path)

    @property
    def url(self) -> str:
        """Address of the file on the web, at the hub or its mirror."""
        return f"{endpoint()}/{self.repository}/resolve/{self.revision}/{self.path}"


def endpoint() -> str:
    """Return the address of the hub, or of the mirror that HF_ENDPOINT names."""
    return (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")


def is_offline() -> bool:
    """Return whether the environment forbids the hub's client to use the network."""
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in OFFLINE)


def cache_hub_file(file: HubFile) -> Path:
    """Return a file's place in the hub's cache; downloads the file if the cache lacks it.

    Raises:
        FetchError: The hub cannot be reached or rejects the request, or the machine is offline
            and the cache lacks the file.
        StorageError: The cache cannot be written.
    """
    try:
        with one_line_of_retries(endpoint()):
            return Path(
                hf_hub_download(
                    file.repository,
                    file.path,
                    revision=file.revision,
                    endpoint=endpoint(),
                    local_files_only=is_offline(),
                    library_name="cryo-hpo",
                )
            )
    except Exception as error:  # the client's own, its transport's, or OSError
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            message = (
                f"The Hugging Face cache cannot be written: {error}. "
                "Free space there, or set HF_HOME to another folder."
            )
            raise StorageError(message) from error
        raise FetchError(f"{file.url}: {_explain(error)}") from error


def _explain(error: BaseException) -> str:
    """Return the first line of an error of the hub's client, and the remedy if there is one."""
    while isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # the client wraps the cause into "not in the cache either"
    reason = str(error).split("\n", 1)[0].rstrip(" .")
    remedy = ""
    if isinstance(error, GatedRepoError | RepositoryNotFoundError):
        remedy = " Accept its terms on the web, then set HF_TOKEN or run `hf auth login`."
    return f"{type(error).__name__}: {reason}.{remedy}"


def place_hub_file(file: HubFile, path: Path) -> None:
    """Download a file and put it at a path: a hard link into the hub's cache, or else a copy.

    Raises:
        FetchError: See `cache_hub_file`.
        StorageError: The cache or the folder of the path cannot be written.
    """
    cached = cache_hub_file(file).resolve()
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.hardlink_to(cached)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(cached, draft)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        message = (
            f"'{path}' cannot be written: {error}. Free space there, or choose another folder."
        )
        raise StorageError(message) from error


def evict_hub_file(file: HubFile) -> None:
    """Remove a file from the hub's cache, so that the next download starts from nothing."""
    link = Path(
        hf_hub_download(file.repository, file.path, revision=file.revision, local_files_only=True)
    )
    link.resolve().unlink(missing_ok=True)
    link.unlink(missing_ok=True)
