"""Let MLflow's database follow a storage folder that was moved: MLflow keeps absolute places."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from pathlib import Path

ARTIFACTS = "mlartifacts"  # folder of artifacts, beside the database
# Columns of MLflow's tables that hold the place of an artifact.
PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
LOCKED_S = 30.0  # another process may write for so long

log = logging.getLogger(__name__)


def artifact_root(file: Path) -> str:
    """Return the place of artifacts beside a database file, as a URI."""
    return (file.parent / ARTIFACTS).as_uri()


def follow_moved_storage(file: Path) -> None:
    """Correct the places of artifacts in a database whose folder was moved or copied.

    Otherwise artifacts would be written to where the folder was, and old ones not be found.

    Raises:
        sqlite3.DatabaseError: The database cannot be written.
    """
    now = artifact_root(file)
    with contextlib.closing(sqlite3.connect(file, timeout=LOCKED_S)) as database, database:
        places = database.execute(
            "SELECT DISTINCT artifact_location FROM experiments WHERE name LIKE 'cryo/%'"
        )
        elsewhere = [
            place
            for (place,) in places
            if place and place != now and place.startswith("file:") and _is_root(place)
        ]
        for place in elsewhere:
            for table, column in PLACES:
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (now, len(place) + 1, place, len(place) + 1, f"{place}/"),
                )
            log.warning("The storage was moved: MLflow's artifacts are in '%s' now.", now)


def _is_root(place: str) -> bool:
    return place.rpartition("/")[2] == ARTIFACTS
