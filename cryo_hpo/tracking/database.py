"""Open MLflow's database: make it whole, and refuse a damaged, locked or foreign one with the remedy."""

from __future__ import annotations

import contextlib
import logging
import re
import shlex
import sqlite3
import time
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

import mlflow
import sqlalchemy
from mlflow.tracking import MlflowClient

from ..errors import TrackingError
from ..storage.atomic import replacing
from ..storage.lock import locked
from ..storage.plain_files import other_kind
from ..storage.sqlite_url import sqlite_file, sqlite_url

LOCKED_S = 5.0  # another process may write for so long
SETTLED_S = 10.0  # a file that was written later than this may be one that is being made
DAMAGED = "Move it away: studies write a new one, and `cryo-hpo upload STUDY` fills it."

NO_FILE = re.compile(r"sqlite(\+\w+)?:/{0,3}(:memory:)?(\?.*)?$")  # in memory

log = logging.getLogger(__name__)


def open_database(uri: str) -> None:
    """Connect to a database once, to fail fast: MLflow would retry for 100 s.

    Raises:
        TrackingError: The database cannot be used; the message has the remedy.
    """
    if NO_FILE.match(uri):
        message = (
            f"MLflow's database '{uri}' names no file: its records would be lost with this process. "
            "Set MLFLOW_TRACKING_URI to sqlite:////folder/mlflow.db, or unset it."
        )
        raise TrackingError(message)
    file = sqlite_file(uri)
    if file is not None:
        _require_file(file, uri)
    elif re.match(r"(postgresql|mysql|mssql)\b", uri):
        engine = sqlalchemy.create_engine(uri)
        try:
            engine.connect().close()
        finally:
            engine.dispose()


def describe_schema(version: str | None, uri: str) -> str:
    """Return why a schema cannot be used, and the remedy; "": it is this MLflow's own."""
    revisions = _revisions()
    if version == revisions[-1]:
        return ""
    if version in revisions:
        return (
            f"an older MLflow made it (schema {version}, this is {mlflow.__version__} with {revisions[-1]}). "
            f"Make a copy of it, then run `mlflow db upgrade {shlex.quote(uri)}`."
        )
    return (
        f"a newer MLflow made it (schema {version}; this is {mlflow.__version__}, which ends at "
        f"{revisions[-1]}). Install that MLflow here (`pip install -U mlflow`), or set "
        "MLFLOW_TRACKING_URI to another database."
    )


@lru_cache(maxsize=1)
def _revisions() -> tuple[str, ...]:
    """Return the revisions of the schema that this MLflow knows, its newest last."""
    folder = Path(mlflow.__file__).parent / "store/db_migrations/versions"
    parents: dict[str, str | None] = {}
    for file in folder.glob("*.py"):
        text = file.read_text(encoding="utf-8")
        own = re.search(r"^revision\b.*?=\s*[\"'](\w+)", text, re.M)
        before = re.search(r"^down_revision\b.*?=\s*[\"'](\w+)", text, re.M)
        if own:
            parents[own[1]] = before[1] if before else None
    heads = [name for name in parents if name not in parents.values()]
    return (*(name for name in parents if name not in heads), *heads)


def _require_file(file: Path, uri: str) -> None:
    """Check MLflow's SQLite file, and make it where there is none, or only half of one.

    MLflow makes its tables one after the other, so two processes that begin together, or one that
    is killed, leave a file that no version of it opens.

    Raises:
        TrackingError: See `open_database`.
    """
    if kind := other_kind(file):
        raise _refusal(file, f"is {kind}. Set MLFLOW_TRACKING_URI to a file, or move this away")
    if not file.exists() or not file.stat().st_size or _is_half_made(file, uri):
        with locked(file.with_name(f".{file.name}.lock")):
            if file.exists() and file.stat().st_size:
                if not _is_half_made(file, uri):  # another process made it meanwhile
                    return
                _set_aside(file)
            with replacing(file) as draft:
                MlflowClient(tracking_uri=sqlite_url(draft)).search_experiments(max_results=1)


def _set_aside(file: Path) -> None:
    aside = file.with_name(f"{file.name}.half-made")
    for ending in ("", "-journal", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            file.with_name(file.name + ending).rename(f"{aside}{ending}")
    log.warning(
        "%s was only half made by a start that was killed, and held nothing: it is made anew. The old "
        "file is '%s'.",
        file,
        aside.name,
    )


def _is_half_made(file: Path, uri: str) -> bool:
    """Return True if a file holds part of MLflow's tables and no experiment.

    Raises:
        TrackingError: The file is damaged, locked, no database of MLflow, or of another version.
    """
    until = file.stat().st_mtime + SETTLED_S
    while (half := _look(file, uri)) and 0 < until - time.time() <= SETTLED_S:
        time.sleep(0.5)  # another program makes it just now
    return half


def _look(file: Path, uri: str) -> bool:
    try:
        address = f"file:{quote(str(file))}?mode=rw"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=LOCKED_S)) as database:
            database.execute("BEGIN IMMEDIATE")  # a lock of another process, or no right to write
            tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master")}
            version = _first(database, "SELECT version_num FROM alembic_version", tables)
            # MLflow makes its first experiment once all tables are there.
            experiments = _first(database, "SELECT count(*) FROM experiments", tables)
            database.execute("ROLLBACK")
    except sqlite3.DatabaseError as error:
        raise _translated(file, error) from error
    if tables and not tables & {"experiments", "alembic_version"}:
        names = ", ".join(sorted(tables)[:3])
        raise _refusal(
            file, f"is no database of MLflow: it holds {names}. Set MLFLOW_TRACKING_URI to another"
        )
    problem = describe_schema(str(version), uri)
    if problem and not experiments and (version is None or version in _revisions()):
        return True
    if problem:
        raise _refusal(file, f"cannot be used: {problem.rstrip('.')}")
    return False


def _first(database: sqlite3.Connection, query: str, tables: set[str]) -> object:
    if query.rpartition(" ")[2] not in tables:
        return None
    row = database.execute(query).fetchone()
    return row[0] if row else None


def _translated(file: Path, error: sqlite3.DatabaseError) -> TrackingError:
    text = str(error).lower()
    if "locked" in text:
        return _refusal(
            file,
            f"is locked by another process for more than {LOCKED_S:g} s. `fuser {file}` names it; end "
            "it, or wait. A network file system without locks cannot hold it: set "
            "MLFLOW_TRACKING_URI to a server, or a file on a local disk",
        )
    if "readonly" in text or "read-only" in text or "unable to open" in text:
        return _refusal(
            file,
            f"cannot be written ({error}). Change its owner or mode (chmod u+w), and its folder's",
        )
    return _refusal(file, f"is damaged, or no database ({error}). {DAMAGED.rstrip('.')}")


def _refusal(file: Path, why: str) -> TrackingError:
    return TrackingError(f"MLflow's database '{file}' {why}.")
