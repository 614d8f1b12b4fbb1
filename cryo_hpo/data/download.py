"""Download a dataset's public files, each verified against its publisher's checksum."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError, FetchError
from ..storage.atomic import replacing
from ..storage.fetch import fetch
from .dataset import Dataset, Remote

ZENODO = "https://zenodo.org/api/records"
RECORD = re.compile(r"https://zenodo\.org/records/(\d+)")
KEPT = "_downloads"  # folder of archives in the dataset's own
CHUNK = 1 << 22
PAUSE_S = 1.0  # before the second try


class Progress(NamedTuple):
    """Hold the state of a download: bytes so far, and in total."""

    file: str
    done: int
    total: int | None


def remotes(dataset: Dataset, *, scratch: Path) -> tuple[Remote, ...]:
    """Return the files of a dataset's public record, with their published checksums.

    Zenodo publishes a checksum for every file; the record is read at each call.

    Args:
        dataset: Dataset to download.
        scratch: Folder for the record's description.

    Raises:
        FetchError: The record cannot be reached.
    """
    match = RECORD.match(dataset.page)
    if match is None:
        return dataset.downloads
    page = scratch / f".record-{match[1]}.json"
    page.unlink(missing_ok=True)  # the record may have changed
    for _ in fetch(f"{ZENODO}/{match[1]}", page, pause_s=PAUSE_S):
        pass
    try:
        entries = json.loads(page.read_text(encoding="utf-8"))["files"]
        return tuple(Remote(f["links"]["self"], f["checksum"], name=f["key"]) for f in entries)
    except (ValueError, KeyError, TypeError) as error:
        raise FetchError(
            f"Cannot read the list of files and checksums of {ZENODO}/{match[1]}: {error!r}. "
            f"Download by hand from {dataset.page}."
        ) from error


def with_checksums(
    files: Sequence[Remote], given: Mapping[str, str], *, dataset: Dataset, folder: Path
) -> list[Remote]:
    """Return the files, each with a checksum: the publisher's, or the user's.

    Args:
        files: Files of the record.
        given: Name of a file -> checksum given by the user.
        dataset: Dataset to download.
        folder: Target folder.

    Raises:
        DataError: A file has no checksum, or no file has a given name.
    """
    names = [file.name for file in files]
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise DataError(
            f"'{dataset.name}' has no file '{unknown[0]}'. It has: {', '.join(names) or 'none'}."
        )
    checked = [file._replace(checksum=given.get(file.name, file.checksum)) for file in files]
    bare = [file for file in checked if not file.checksum]
    if bare:
        lines = "".join(f"\n  {file.name}: {file.url}" for file in bare)
        raise DataError(
            f"No published checksum for files of '{dataset.name}':{lines}\n"
            f"See {dataset.page}. Give a checksum that you trust with --sha256 {bare[0].name}=... or --md5 "
            f"{bare[0].name}=..., or put the data into '{folder}' by hand: {dataset.layout}."
        )
    return checked


def download(files: Sequence[Remote], folder: Path) -> Iterator[Progress]:
    """Fetch files into a folder and join the parts of archives; an interrupted download resumes.

    Raises:
        FetchError: A download failed, or its checksum does not match.
        StorageError: The disk is full.
    """
    whole = {file.part_of for file in files if file.part_of}
    for file in files:
        if file.part_of and (folder / file.part_of).is_file():
            continue
        if (folder / file.name).is_file():
            _verify(folder / file.name, file)
        for state in fetch(
            file.url, folder / file.name, checksum=file.checksum or "", pause_s=PAUSE_S
        ):
            yield Progress(file.name, state.done, state.total)
    for name in sorted(whole):
        _join([folder / f.name for f in files if f.part_of == name], folder / name)


def _verify(path: Path, file: Remote) -> None:
    """Verify a file that was fetched before or placed by hand."""
    kind, _, wanted = (file.checksum or "").partition(":")
    with path.open("rb") as opened:
        actual = hashlib.file_digest(opened, kind).hexdigest()
    if actual != wanted:
        raise DataError(
            f"{path}: wrong {kind}, {actual} instead of {wanted}. Delete the file and download it again."
        )


def _join(parts: Sequence[Path], whole: Path) -> None:
    if whole.is_file():
        return
    with replacing(whole) as draft, draft.open("wb") as target:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, target, CHUNK)
    for part in parts:
        part.unlink()


def unpack(folder: Path, target: Path) -> Iterator[str]:
    """Unpack the archives of a folder; yield a line for each file, archive or not.

    Raises:
        DataError: An archive is damaged, or holds paths outside the target.
    """
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    archive.extractall(target)
            elif tarfile.is_tarfile(path):
                with tarfile.open(path) as archive:
                    archive.extractall(target, filter="data")
            else:
                yield f"{path}: left as it is"
                continue
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, ValueError) as error:
            raise DataError(
                f"{path}: cannot unpack the archive: {error}. Delete the file and download it again."
            ) from error
        yield f"{path}: unpacked into {target}"
