"""Open the Optuna storage of a study's trials: PostgreSQL, or a journal file in the study's folder.

In a database a study's name ends in a token that is stored in its folder, so that two folders
never share trials, whatever their studies are called.
"""

from __future__ import annotations

import json
import logging
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from sqlalchemy.engine import make_url

from ..errors import SpecError, StorageError
from ..results.files import TRIALS
from ..storage import atomic
from .journal_file import COPY, JournalFile

if TYPE_CHECKING:
    from ..config.site import SecretStr

MARKER = "database.json"  # in the folder of a study whose trials are in a database
CONNECT_S = 10
# One connection per query: there are few in an epoch, and a firewall may cut an idle one.
ENGINE: dict[str, Any] = {
    "poolclass": sqlalchemy.NullPool,
    "connect_args": {"connect_timeout": CONNECT_S},
}
ERRORS = (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError)

log = logging.getLogger(__name__)


def require(database: SecretStr | None) -> None:
    """Check that the database answers, before anything runs.

    Raises:
        SpecError: The driver for PostgreSQL is not installed.
        StorageError: The database does not answer.
    """
    if database is None:
        return
    url = _url(database)
    try:
        sqlalchemy.create_engine(url, **ENGINE).connect().close()
    except ModuleNotFoundError as error:
        message = (
            "CRYO_OPTUNA_STORAGE needs the driver of PostgreSQL, which is not installed: "
            "pip install 'cryo-hpo[postgres]'."
        )
        raise SpecError(message) from error
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise StorageError(unreachable(shown(database), error)) from error


def unreachable(where: str, error: Exception) -> str:
    """Return the message for a database that does not answer."""
    why = str(error).splitlines()[0]
    return (
        f"CRYO_OPTUNA_STORAGE must be a database that answers, '{where}' does not ({why}). "
        "Start it, or unset the variable; the same command goes on where the study was."
    )


def open_study(path: Path, *, name: str, database: SecretStr | None) -> optuna.Study:
    """Open or create a study in its journal file or its database.

    Args:
        path: Journal file; a database's marker lies beside it.
        name: Name of the study.
        database: PostgreSQL URL; None: the journal file.

    Raises:
        StorageError: The study began in another storage, or its journal is damaged for good.
        OSError: The folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _refuse_elsewhere(path, database)
    if database is None:
        _warn_if_gone(path)
        return _study(_replay(path), name)
    return _in_database(path.with_name(MARKER), name, database)


def _replay(path: Path) -> JournalStorage:
    """Open a journal: Optuna replays its operations, and raises anything on one without its parts."""
    try:
        return JournalStorage(JournalFile(path))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        message = (
            f"'{path}' cannot be replayed: {type(error).__name__}: {error}. A line without a checksum "
            f"has lost a part. Restore the file from a backup, or remove the folder '{path.parent}' and "
            "run the same command again: the study then starts from the beginning."
        )
        raise StorageError(message) from error


def _in_database(marker: Path, name: str, database: SecretStr) -> optuna.Study:
    facts = _read(marker) if marker.exists() else {}
    if not facts:
        facts = {"database": shown(database), "study": f"{name}-{secrets.token_hex(4)}"}
        _write(marker, {**facts, "begun": False})
    storage = RDBStorage(_url(database), engine_kwargs=ENGINE)
    exists = facts["study"] in optuna.get_all_study_names(storage)
    if facts.get("begun") and not exists:
        message = (
            f"The trials of study '{name}' are in the database {facts['database']}, under the name "
            f"'{facts['study']}'; '{shown(database)}' does not hold it. Set CRYO_OPTUNA_STORAGE to "
            "the database it began in."
        )
        raise StorageError(message)
    study = _study(storage, facts["study"])
    if not facts.get("begun"):
        _write(marker, {**facts, "begun": True})
    return study


def _study(storage: BaseStorage, name: str) -> optuna.Study:
    if isinstance(storage, JournalStorage) and name in optuna.get_all_study_names(storage):
        return optuna.load_study(study_name=name, storage=storage)  # appends no line
    return optuna.create_study(
        storage=storage, study_name=name, direction="maximize", load_if_exists=True
    )


def _refuse_elsewhere(path: Path, database: SecretStr | None) -> None:
    """Refuse to resume a study in another storage than its first, which holds its budget."""
    marker = path.with_name(MARKER)
    if database is None and marker.exists():
        where = _read(marker)["database"]
        message = (
            f"The trials of the study in '{path.parent}' are in the database {where}. Set "
            "CRYO_OPTUNA_STORAGE to it, and give the same command again."
        )
        raise StorageError(message)
    if database is not None and path.exists():
        message = (
            f"The trials of the study in '{path.parent}' are in its journal file, not in a "
            "database. Unset CRYO_OPTUNA_STORAGE for this study, or give it a new name."
        )
        raise StorageError(message)


def shown(database: SecretStr) -> str:
    """Return a database's URL without its password."""
    return make_url(_url(database)).render_as_string(hide_password=True)


def _url(database: SecretStr) -> str:
    """Return the database URL with the driver that the package installs."""
    return "postgresql+psycopg:" + database.get_secret_value().partition(":")[2]


def _read(marker: Path) -> dict[str, Any]:
    """Read which database and study hold the trials.

    Raises:
        StorageError: The file is damaged.
    """
    try:
        facts: dict[str, Any] = json.loads(marker.read_bytes())
        if {"database", "study"} <= facts.keys():
            return facts
    except (ValueError, AttributeError, RecursionError):
        pass
    message = (
        f"'{marker}' is damaged: it must name the database and the study in it that hold the "
        "trials. Restore it from a backup; the trials themselves are in the database."
    )
    raise StorageError(message)


def _write(path: Path, facts: dict[str, Any]) -> None:
    atomic.write_text(path, json.dumps(facts) + "\n")


def _warn_if_gone(path: Path) -> None:
    """Warn if a study that has trials has neither its journal nor the journal's copy."""
    files = (path, path.with_name(path.name + COPY))
    trials = path.with_name(TRIALS)
    if not any(file.exists() for file in files) and trials.is_dir() and any(trials.iterdir()):
        log.warning(
            "'%s' and its copy are gone. The search is proposed again from its first trial; a trial "
            "with the same recipe as before resumes from its checkpoint.",
            path,
        )
