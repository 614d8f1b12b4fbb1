"""Read the machine's folders and services from environment variables."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr as SecretStr

from ..errors import SpecError
from ..storage.sqlite_url import sqlite_url
from .frozen import Frozen

DAY = 1_440  # minutes
VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class Site(Frozen):
    """Hold the machine's facts, only from the environment; folders are absolute."""

    data: Path
    weights: Path
    storage: Path
    cache: Path
    mlflow: str
    checkpoint_minutes: float = 0.0  # between copies of a training's checkpoint off its node
    checkpoints: str | None = None  # URL of an object store; None: checkpoints lie in `storage`
    optuna: SecretStr | None = None  # database URL of the searches' trials; may hold a password
    wandb: str | None = None  # project of W&B, a second sink beside MLflow; None: no W&B

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Site:
        """Read the CRYO_ variables and MLFLOW_TRACKING_URI; empty variables count as absent.

        The variables are CRYO_DATA, CRYO_WEIGHTS, CRYO_STORAGE, CRYO_CACHE, CRYO_CHECKPOINTS,
        CRYO_CHECKPOINT_MINUTES, CRYO_OPTUNA_STORAGE and CRYO_WANDB_PROJECT.

        Raises:
            SpecError: CRYO_OPTUNA_STORAGE is not the URL of a PostgreSQL database,
                CRYO_CHECKPOINTS is not the URL of an object store, or CRYO_CHECKPOINT_MINUTES is
                not a number of minutes.
        """

        def folder(variable: str, default: str) -> Path:
            return expand_path(env.get(variable) or default, env, named=variable).absolute()

        database = env.get("CRYO_OPTUNA_STORAGE") or ""
        if database and not re.match(r"postgres(ql)?(\+psycopg)?://", database):
            message = (
                "CRYO_OPTUNA_STORAGE is not the URL of a PostgreSQL database: it begins with "
                f"'{database.partition(':')[0]}:'. Set it to postgresql://user@host/name, or unset "
                "it to keep trials in the study's folder."
            )
            raise SpecError(message)
        mlflow = env.get("MLFLOW_TRACKING_URI") or ""
        if not _is_url(mlflow):
            message = (
                "MLFLOW_TRACKING_URI is no whole URL: its host or port cannot be read. Set it to one such "
                "as http://host:5000, or unset it to write to a file."
            )
            raise SpecError(message)
        if database and not _is_url(database):
            message = (
                "CRYO_OPTUNA_STORAGE is no whole URL: its host or port cannot be read. Set it to "
                "postgresql://user@host:5432/name, or unset it to keep trials in the study's folder."
            )
            raise SpecError(message)
        checkpoints = env.get("CRYO_CHECKPOINTS") or ""
        storage = folder("CRYO_STORAGE", "runs")
        return cls(
            data=folder("CRYO_DATA", "data"),
            weights=folder("CRYO_WEIGHTS", "weights"),
            storage=storage,
            cache=folder("CRYO_CACHE", _default_cache()),
            mlflow=mlflow or sqlite_url(storage / "mlflow.db"),
            checkpoint_minutes=_minutes(env.get("CRYO_CHECKPOINT_MINUTES") or "0"),
            checkpoints=_store(checkpoints) if checkpoints else None,
            optuna=SecretStr(database) if database else None,
            wandb=env.get("CRYO_WANDB_PROJECT") or None,
        )

    def on_node(self, env: Mapping[str, str]) -> Site:
        """Return this site for a node that has a local disk for the cache.

        Data, weights and storage lie at the same path everywhere; decoded pixels are local.
        """
        local = env.get("CRYO_CACHE")
        if not local:
            return self
        return self.model_copy(update={"cache": expand_path(local, env, named="CRYO_CACHE")})


def _default_cache() -> str:
    """Return the folder of decoded pixels: in the home, or a private one where that is read-only."""
    try:
        home = Path("~/.cache/cryo_hpo").expanduser()
    except RuntimeError:  # this user has no home
        home = Path("/nonexistent")
    nearest = next(path for path in (home, *home.parents) if path.exists())
    if nearest != Path("/") and os.access(nearest, os.W_OK | os.X_OK):
        return str(home)
    return str(Path(tempfile.gettempdir()) / f"cryo_hpo-{os.getuid()}")


def expand_path(text: str, env: Mapping[str, str], *, named: str) -> Path:
    """Expand `~` and environment variables in a path, as a shell does.

    Files that are no shell scripts (YAML, env files of systemd, Docker and Slurm) keep both as text.

    Args:
        text: Path, with `~`, `$NAME` or `${NAME}` in it.
        env: Values of the variables.
        named: Key or variable that holds the path, for the message.

    Raises:
        SpecError: A variable is not set, and no such path exists literally.
    """
    missing = [a or b for a, b in VARIABLE.findall(text) if not env.get(a or b)]
    if missing and not Path(text).expanduser().exists():
        message = (
            f"{named}: the variable ${missing[0]} in '{text}' is not set. Set it, or write the path "
            "out."
        )
        raise SpecError(message)
    expanded = VARIABLE.sub(lambda m: env.get(m[1] or m[2]) or m[0], text)
    try:
        return Path(expanded).expanduser()
    except RuntimeError as error:
        message = f"{named}: there is no home for '~' in '{text}'. Write the path out, or set HOME."
        raise SpecError(message) from error


def _minutes(text: str) -> float:
    """Return the minutes between two copies of a checkpoint.

    Raises:
        SpecError: It is not a number, negative, or more than a day.
    """
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes <= DAY:
        message = (
            f"CRYO_CHECKPOINT_MINUTES must be a number from 0 to {DAY}, got '{text}'. Set it to 5, or "
            "unset it to keep every checkpoint in CRYO_STORAGE at once."
        )
        raise SpecError(message)
    return minutes


def _is_url(text: str) -> bool:
    """Return whether host and port of a URL can be read."""
    try:
        _ = urlsplit(text).port
    except ValueError:  # a bracket that is not closed, a port that is no number
        return False
    return True


def _store(url: str) -> str:
    """Return a store's URL without a trailing slash.

    Raises:
        SpecError: It is not a URL, or holds a secret, which a job's description would show.
    """
    if not re.match(r"[a-z][a-z0-9+.-]*://", url) or not _is_url(url):
        message = (
            f"CRYO_CHECKPOINTS is not a URL: '{url}'. Set it to one such as s3://bucket/folder, or "
            "unset it to keep checkpoints in CRYO_STORAGE, on a disk that all nodes share."
        )
        raise SpecError(message)
    if "@" in urlsplit(url).netloc or "secret" in urlsplit(url).query.lower():
        message = (
            "CRYO_CHECKPOINTS holds a key, and everybody who sees the cluster sees a job's "
            "variables. Remove it, and give every node AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or a role."
        )
        raise SpecError(message)
    return url.rstrip("/")
