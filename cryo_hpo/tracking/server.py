"""Connect to MLflow: check that it answers, find runs, and return the address of their pages."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

# MLflow reads this variable on import.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ..errors import TrackingError
from ..storage.no_room import is_no_room
from ..storage.sqlite_url import removing_misread_folders, sqlite_file
from .database import DAMAGED, describe_schema, open_database
from .moved_storage import artifact_root, follow_moved_storage
from .view import TAG, page_of, view_state

# The courier reports a database that cannot be written (a full disk), and the log keeps the records:
# MLflow would print its traceback between the lines of the study. A filter, since MLflow resets the
# levels when it creates a database.
logging.getLogger("mlflow.store.db.utils").addFilter(lambda record: record.exc_info is None)

KEY = "cryo.key"
OUTDATED = re.compile(r"out-of-date database schema \(found version (\w+)")
KIND = {
    "mlflow.experimentKind": "custom_model_development"
}  # MLflow then opens on runs, not on chats
CIRCUMSTANCE = "(raised as a result of"  # SQLAlchemy's first line, before the error itself
NO_ROOM_IN_WORDS = (
    "database or disk is full",  # SQLite
    "disk i/o error",
    "unable to open database file",
    "attempt to write a readonly database",
    "database is locked",
    "no space left on device",  # PostgreSQL, MySQL and artifact stores, in their system's words
    "disk quota exceeded",
    "read-only file system",
)
CONNECT_S = 5  # timeout of a request when a study starts
REQUEST_S = 30  # timeout of a request of the courier's thread


def run_id(uri: str, experiment: str, key: str) -> str | None:
    """Return the MLflow id of the newest run with this key, None where there is none.

    Raises:
        TrackingError: The server does not answer.
    """
    with _asking(uri) as client:
        run = _newest(client, experiment, key)
    return None if run is None else str(run.info.run_id)


def ui_command(
    uri: str, *, experiment: str | None = None, key: str | None = None, port: int = 5000
) -> str:
    """Return the address of MLflow's pages, or for a database the command that serves them.

    Args:
        uri: As in MLFLOW_TRACKING_URI; a password in it is not repeated.
        experiment: Name of the experiment; None: the list of experiments.
        key: Key of a run; None: the list of the experiment's runs.
        port: Port of the pages that the command serves.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        place = '"$MLFLOW_TRACKING_URI"' if parts.password else shlex.quote(uri)
        return f"mlflow ui --backend-store-uri {place} --port {port}"
    address = uri.replace(parts.netloc, parts.netloc.rpartition("@")[2], 1).rstrip("/")
    with contextlib.suppress(TrackingError), _asking(uri) as client:  # else: the front page
        stored = client.get_experiment_by_name(experiment) if experiment else None
        if experiment and stored is not None:
            run = _newest(client, experiment, key) if key else None
            page = f"/#/experiments/{stored.experiment_id}/runs/"
            address += page_of(stored.experiment_id) if run is None else page + run.info.run_id
    return address


def experiment_pages(uri: str, *, port: int = 5000) -> dict[str, str]:
    """Return the pages of the experiments with studies: name -> address, newest experiment first.

    Args:
        uri: As in MLFLOW_TRACKING_URI.
        port: Port of the pages that `ui_command` serves, for a database.

    Raises:
        TrackingError: The server does not answer.
    """
    served, file = urlsplit(uri).scheme in ("http", "https"), sqlite_file(uri)
    if file is not None and not file.exists():
        return {}  # nothing was recorded, and looking does not make a database
    base = ui_command(uri) if served else f"http://127.0.0.1:{port}"
    with _asking(uri) as client:
        experiments = client.search_experiments(filter_string="name LIKE 'cryo/%'")
    return {each.name: base + page_of(each.experiment_id) for each in experiments}


def require_records(uri: str) -> None:
    """Refuse a database file that does not exist: MLflow would make an empty one and show no runs.

    Raises:
        TrackingError: The file does not exist.
    """
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        message = (
            f"There is no MLflow database at '{file}': no study has run with this storage. Set "
            "CRYO_STORAGE to the folder of the studies, or MLFLOW_TRACKING_URI to their server."
        )
        raise TrackingError(message)


def masked(text: str) -> str:
    """Return a URI, or a text with URIs, with every password replaced by `***`."""
    return re.sub(r"(://[^/\s:@]*):[^/\s]*@", r"\1:***@", text)


def reason(error: Exception) -> str:
    """Return the first line of an error that says what failed, without passwords and full stop."""
    lines = [line for line in str(error).splitlines() if line and not line.startswith(CIRCUMSTANCE)]
    return masked((lines or [type(error).__name__])[0]).rstrip(".")[:500]


def cannot_write(error: Exception) -> bool:
    """Return True if the disk of MLflow's database or artifacts is full or read-only.

    Databases say so in words of their own, and a server passes them on as text.
    """
    return is_no_room(error) or any(words in str(error).lower() for words in NO_ROOM_IN_WORDS)


def connect(uri: str, experiment: str) -> tuple[MlflowClient, str]:
    """Connect to MLflow; return a client and the id of the experiment.

    Args:
        uri: As in MLFLOW_TRACKING_URI.
        experiment: Name of the experiment; created if absent.

    Raises:
        TrackingError: The server does not answer, or the experiment was deleted.
    """
    with _asking(uri) as client:
        file = sqlite_file(uri)
        if file is not None:
            follow_moved_storage(file)
        return client, _experiment(client, uri, experiment)


def ping(uri: str) -> None:
    """Check that MLflow answers, without writing.

    Raises:
        TrackingError: MLflow does not answer.
    """
    with _asking(uri) as client:
        client.search_experiments(max_results=1)


@contextlib.contextmanager
def _asking(uri: str) -> Iterator[MlflowClient]:
    """Yield a client that gives up after 5 s; turn its errors into a `TrackingError`."""
    _make_quiet()
    try:
        with _short_requests(), removing_misread_folders(uri):
            if urlsplit(uri).scheme not in ("http", "https"):
                open_database(uri)
            yield MlflowClient(tracking_uri=uri, registry_uri=uri)
    except TrackingError:
        raise
    except Exception as error:
        schema = OUTDATED.search(str(error))
        if schema:
            problem = describe_schema(schema[1], masked(uri))
            raise TrackingError(f"MLflow's database '{masked(uri)}': {problem}") from None
        message = (
            f"MLflow must answer before a study begins, '{masked(uri)}' does not: "
            f"{reason(error)}. {_remedy(uri)}"
        )
        raise TrackingError(message) from None  # the cause may hold a password


def _newest(client: MlflowClient, experiment: str, key: str) -> Run | None:
    stored = client.get_experiment_by_name(experiment)
    runs = [] if stored is None else search(client, stored.experiment_id, {KEY: key})
    return runs[0] if runs else None


def _experiment(client: MlflowClient, uri: str, name: str) -> str:
    experiment, tags = client.get_experiment_by_name(name), {**KIND, TAG: view_state()}
    if experiment is None:
        try:
            return str(
                client.create_experiment(name, artifact_location=_artifact_root(uri), tags=tags)
            )
        except MlflowException:  # another study may have made it just now
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage != "active":
        message = (
            f"A study needs an MLflow experiment that is not deleted, '{name}' is. Give the study "
            "another project, or run `mlflow experiments restore --experiment-id "
            f"{experiment.experiment_id}`."
        )
        raise TrackingError(message)
    if experiment.tags.get(TAG) != tags[TAG]:
        client.set_experiment_tag(experiment.experiment_id, TAG, tags[TAG])
    return str(experiment.experiment_id)


def _remedy(uri: str) -> str:
    file = sqlite_file(uri)
    if file is None:
        return (
            "Start it with `mlflow server --host 127.0.0.1 --port 5000`, or unset "
            "MLFLOW_TRACKING_URI to write to a file."
        )
    return f"If the file '{file}' is damaged: {DAMAGED}"


def _artifact_root(uri: str) -> str | None:
    """Return the folder of artifacts beside a database file; None: the server chooses it."""
    file = sqlite_file(uri)
    return None if file is None else artifact_root(file)


def _make_quiet() -> None:
    """Turn off MLflow's messages and retries, unless the user's environment sets them."""
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # the courier retries
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(REQUEST_S))
    for name in ("mlflow.store.db.utils", "alembic"):  # one INFO line per table created
        logging.getLogger(name).setLevel(logging.WARNING)


@contextlib.contextmanager
def _short_requests() -> Iterator[None]:
    """Limit requests to 5 s, through the environment variables that MLflow reads."""
    short = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(CONNECT_S),
    }
    before = {name: os.environ[name] for name in short}
    os.environ.update(short)
    try:
        yield
    finally:
        os.environ.update(before)


def search(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> list[Run]:
    """Return a list of the newest run with these tags, empty if there is none."""
    terms = (f"tags.`{tag}` = {_quoted(value)}" for tag, value in tags.items())
    return list(client.search_runs([experiment_id], " and ".join(terms), max_results=1))


def _quoted(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"


def study_of(uri: str, run: str) -> str | None:
    """Return the name of the study that an MLflow run belongs to, None if it has none.

    Raises:
        TrackingError: The server does not answer.
    """
    with _asking(uri) as client, contextlib.suppress(MlflowException):
        name = client.get_run(run).data.tags.get("cryo.study")
        return None if name is None else str(name)
    return None
