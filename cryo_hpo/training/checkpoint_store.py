"""Store checkpoints away from the node that writes them; the door to pyarrow.

With CRYO_CHECKPOINTS a training works in a folder on its node and uploads its checkpoints to an
object store, for nodes that share no disk; with CRYO_CHECKPOINT_MINUTES alone it copies them to the
shared storage. A resumed training downloads them first, on whichever node it runs. A file arrives
whole or not at all, so a training that dies during a copy leaves the previous one.

Copies are made before an epoch is reported after which the study may stop the training, and else as
often as CRYO_CHECKPOINT_MINUTES has it: after every epoch if it is 0.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import SpecError, StorageError
from ..storage.atomic import replacing
from .checkpoints import HISTORY, LAST, PREVIOUS, is_usable
from .history_file import read_copy, read_history

if TYPE_CHECKING:
    from ..config import Site

CHUNK = 8 * 2**20  # bytes copied at a time; S3 accepts parts of 5 MiB and more

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Store:
    """Access the part of an object store that a URL names."""

    url: str
    variable: ClassVar[str] = "CRYO_CHECKPOINTS"
    keeps_previous: ClassVar[bool] = False

    @cached_property
    def _place(self) -> tuple[Any, str]:
        from pyarrow import fs

        location: tuple[Any, str] = fs.FileSystem.from_uri(self.url)
        return location

    def send(self, file: Path, key: str) -> None:
        """Upload a file under a key, whole or not at all."""
        system, root = self._place
        self._make_folder(f"{root}/{key}".rpartition("/")[0])
        with file.open("rb") as source, system.open_output_stream(f"{root}/{key}") as sink:
            shutil.copyfileobj(source, sink, CHUNK)

    def fetch(self, key: str, file: Path) -> bool:
        """Download a key into a file; if the store has none, remove the file and return False."""
        system, root = self._place
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            source = system.open_input_stream(f"{root}/{key}")
        except FileNotFoundError:
            file.unlink(missing_ok=True)
            return False
        with source, replacing(file, durable=False) as draft, draft.open("wb") as sink:
            shutil.copyfileobj(source, sink, CHUNK)
        return True

    def holds(self, folder: str) -> bool:
        """Return True if the store holds any file below a folder."""
        from pyarrow import fs

        system, root = self._place
        below = fs.FileSelector(f"{root}/{folder}", recursive=True, allow_not_found=True)
        return any(entry.type == fs.FileType.File for entry in system.get_file_info(below))

    def probe(self) -> None:
        """Write, read and remove a test object."""
        system, root = self._place
        path = f"{root}/.probe-{secrets.token_hex(8)}"
        self._make_folder(root)
        with system.open_output_stream(path) as sink:
            sink.write(b"x")
        with system.open_input_stream(path) as source:
            source.read()
        system.delete_file(path)

    def _make_folder(self, path: str) -> None:
        """Create a folder if the store is a local disk; an object store needs none."""
        from pyarrow import fs

        if isinstance(self._place[0], fs.LocalFileSystem):
            self._place[0].create_dir(path, recursive=True)


@dataclass(frozen=True)
class SharedFolder:
    """Access the shared storage as a store: a training's copy lies where the driver reads it."""

    root: Path
    variable: ClassVar[str] = "CRYO_STORAGE"
    keeps_previous: ClassVar[bool] = True

    @property
    def url(self) -> str:
        """The folder, for messages."""
        return str(self.root)

    def send(self, file: Path, key: str) -> None:
        """Copy a file to a key, whole or not at all; the state before stays as `PREVIOUS`."""
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as draft:
            shutil.copyfile(file, draft)
            if target.name == LAST:
                with contextlib.suppress(FileNotFoundError):
                    target.replace(target.with_name(PREVIOUS))

    def fetch(self, key: str, file: Path) -> bool:
        """Copy a key into a file; if there is none, remove the file and return False."""
        source = self._path(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        if not source.exists():
            file.unlink(missing_ok=True)
            return False
        with replacing(file, durable=False) as draft:
            shutil.copyfile(source, draft)
        return True

    def _path(self, key: str) -> Path:
        """Return the path of a key; a storage that is not mounted is not an empty one."""
        if not self.root.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self.root))
        return self.root / key


@dataclass
class Workdir:
    """Synchronize a training's folder on this node with its copy elsewhere, if there is one.

    Attributes:
        folder: Folder that the training reads and writes.
        store: Place of the copy; None: the folder is on a disk that all nodes share.
        key: Key of the copy in the store.
        every_s: Seconds between copies that nothing else requires.
    """

    folder: Path
    store: Store | SharedFolder | None = None
    key: str = ""
    every_s: float = 0.0
    _due: float = field(init=False)  # when the next such copy is made, on the monotonic clock
    _sent: dict[str, int] = field(default_factory=dict)  # file -> time of its last change, ns

    def __post_init__(self) -> None:
        self._due = time.monotonic() + self.every_s

    def pull(self, *names: str) -> None:
        """Download files from the store; a local file that the store lacks is stale and removed.

        `PREVIOUS` is as large as `LAST`: it comes along only where `LAST` cannot be used.

        Raises:
            StorageError: The store cannot be read.
        """
        if self.store is None:
            return
        with _store_errors(self.store.url, self.store.variable):
            for name in sorted(names, key=PREVIOUS.__eq__):  # the state before comes last
                if name == PREVIOUS and self._spares_previous(names):
                    (self.folder / name).unlink(missing_ok=True)
                elif self.store.fetch(f"{self.key}/{name}", self.folder / name):
                    self._sent[name] = _changed(self.folder / name)

    def _spares_previous(self, pulled: Collection[str]) -> bool:
        """Return True if the newest state was pulled and is whole, so that none before is needed."""
        keeps = self.store is not None and self.store.keeps_previous
        return keeps and LAST in pulled and is_usable(self.folder / LAST)

    def push(self, *names: str) -> None:
        """Upload the files that have changed, in the given order.

        Raises:
            StorageError: The store cannot be reached or written.
        """
        if self.store is None:
            return
        with _store_errors(self.store.url, self.store.variable):
            for name in names:
                changed = _changed(self.folder / name)
                if changed and changed != self._sent.get(name):
                    self.store.send(self.folder / name, f"{self.key}/{name}")
                    self._sent[name] = changed

    def push_due(self, *names: str, now: bool) -> None:
        """Upload the files that have changed, if that is due.

        Args:
            names: Files, in the order of the upload.
            now: It is due whatever the time.

        Raises:
            StorageError: The store cannot be reached or written.
        """
        if now or time.monotonic() >= self._due:
            self.push(*names)
            self._due = time.monotonic() + self.every_s

    @contextlib.contextmanager
    def pushing_at_end(self, *names: str) -> Iterator[None]:
        """Upload what has changed when the block ends, also where it is left early."""
        try:
            yield
        except StorageError:
            raise
        except BaseException:
            try:
                self.push(*names)
            except StorageError as error:
                log.warning("%s", error)
            raise
        self.push(*names)

    def leave(self) -> None:
        """Remove the copy on this node."""
        if self.store is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def workdir_on(site: Site, path: Path) -> Workdir:
    """Return the work directory of a training on this node.

    Args:
        site: Site whose cache is the node's own.
        path: The training's folder on the driver, below CRYO_STORAGE.
    """
    every_s = 60 * site.checkpoint_minutes
    if site.checkpoints is None and not every_s:
        return Workdir(path)
    store = SharedFolder(site.storage) if site.checkpoints is None else Store(site.checkpoints)
    key = path.relative_to(site.storage).as_posix()
    whose = hashlib.sha256(store.url.encode()).hexdigest()[:12]
    return Workdir(site.cache / "checkpoints" / whose / key, store, key, every_s)


def pull_checkpoints(site: Site, path: Path, *names: str) -> None:
    """Download a training's files from the store, if there is one, into the driver's own folder.

    Raises:
        StorageError: The store cannot be read.
    """
    if site.checkpoints is not None:
        key = path.relative_to(site.storage).as_posix()
        Workdir(path, Store(site.checkpoints), key).pull(*names)


def push_checkpoints(site: Site, path: Path, *names: str) -> None:
    """Upload files of the driver's own folder to the store, if there is one.

    Raises:
        StorageError: The store cannot be reached or written.
    """
    if site.checkpoints is not None:
        key = path.relative_to(site.storage).as_posix()
        Workdir(path, Store(site.checkpoints), key).push(*names)


def stored_history(site: Site, path: Path, recipe: str, *, epochs: int) -> list[dict[str, float]]:
    """Return the metrics of a training's epochs; checkpoints are downloaded only if they must be.

    Args:
        site: Site of the checkpoints: the store, if there is one.
        path: The training's folder on the driver, below CRYO_STORAGE.
        recipe: Id of the training's recipe.
        epochs: Number of epochs that are needed.

    Raises:
        StorageError: The store cannot be read.
    """
    place = workdir_on(site, path)
    try:
        place.pull(HISTORY)
        if len(read_copy(place.folder, recipe)) < max(epochs, 1):
            place.pull(LAST, PREVIOUS)
        return read_history(place.folder, recipe, epochs=epochs)
    finally:
        place.leave()


def probe_store(site: Site) -> str | None:
    """Write, read and remove a test object; return the error, "" if none, None without a store."""
    if site.checkpoints is None:
        return None
    try:
        with _store_errors(site.checkpoints):
            Store(site.checkpoints).probe()
    except StorageError as error:
        return str(error)
    return ""


def ensure_store_usable(site: Site, study: str, *, begun: bool) -> None:
    """Refuse a store that cannot be used, or that holds another study of a new study's name.

    Raises:
        SpecError: The store holds checkpoints that the new study would resume from.
        StorageError: The store cannot be reached or written.
    """
    if site.checkpoints is None:
        return
    store = Store(site.checkpoints)
    with _store_errors(site.checkpoints):
        store.probe()
        left = not begun and store.holds(study)
    if left:
        message = (
            f"CRYO_CHECKPOINTS ({site.checkpoints}) already holds checkpoints of a study named "
            f"'{study}', but CRYO_STORAGE ({site.storage}) has no such study. Point CRYO_STORAGE at "
            "the original folder, delete those checkpoints, or rename this study."
        )
        raise SpecError(message)


@contextlib.contextmanager
def _store_errors(url: str, variable: str = Store.variable) -> Iterator[None]:
    """Turn errors of the store into a `StorageError` with the remedy."""
    try:
        yield
    except (
        OSError,
        ValueError,
        NotImplementedError,
    ) as error:  # pyarrow's errors are subclasses of these
        message = (
            f"Cannot read and write {variable} ({url}): {error}. Check its address, keys and "
            "free space, then run the same command again: it resumes from the last checkpoint."
        )
        raise StorageError(message) from error


def _changed(file: Path) -> int:
    return file.stat().st_mtime_ns if file.exists() else 0
