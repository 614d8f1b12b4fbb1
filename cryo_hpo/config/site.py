"""Read the machine's folders and services from environment variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr as SecretStr

from ..errors import SpecError
from .frozen import Frozen


class Site(Frozen):
    """The machine's facts, from the environment alone; folders are absolute."""

    data: Path
    weights: Path
    storage: Path
    cache: Path
    mlflow: str
    checkpoints: str | None = None  # URL of an object store; None: checkpoints lie in `storage`
    optuna: SecretStr | None = None  # database URL of the searches' trials; may hold a password

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Site:
        """Read the CRYO_ variables and MLFLOW_TRACKING_URI; empty variables count as absent.

        The variables are CRYO_DATA, CRYO_WEIGHTS, CRYO_STORAGE, CRYO_CACHE, CRYO_CHECKPOINTS and
        CRYO_OPTUNA_STORAGE.

        Raises:
            SpecError: CRYO_OPTUNA_STORAGE is not the URL of a PostgreSQL database, or
                CRYO_CHECKPOINTS is not the URL of an object store.
        """

        def folder(variable: str, default: str) -> Path:
            return Path(env.get(variable) or default).expanduser().absolute()

        database = env.get("CRYO_OPTUNA_STORAGE") or ""
        if database and not re.match(r"postgres(ql)?(\+psycopg)?://", database):
            message = (
                "CRYO_OPTUNA_STORAGE is not the URL of a PostgreSQL database: it begins with "
                f"'{database.partition(':')[0]}:'. Set it to postgresql://user@host/name, or unset "
                "it to keep trials in the study's folder."
            )
            raise SpecError(message)
        checkpoints = env.get("CRYO_CHECKPOINTS") or ""
        storage = folder("CRYO_STORAGE", "runs")
        return cls(
            data=folder("CRYO_DATA", "data"),
            weights=folder("CRYO_WEIGHTS", "weights"),
            storage=storage,
            cache=folder("CRYO_CACHE", "~/.cache/cryo_hpo"),
            mlflow=env.get("MLFLOW_TRACKING_URI") or f"sqlite:///{storage / 'mlflow.db'}",
            checkpoints=_store(checkpoints) if checkpoints else None,
            optuna=SecretStr(database) if database else None,
        )

    def on_node(self, env: Mapping[str, str]) -> Site:
        """Return this site for a node that has a local disk for the cache.

        Data, weights and storage lie at the same path everywhere; decoded pixels are local.
        """
        local = env.get("CRYO_CACHE")
        return self.model_copy(update={"cache": Path(local).expanduser()}) if local else self


def _store(url: str) -> str:
    """Return a store's URL without a trailing slash.

    Raises:
        SpecError: It is not a URL, or holds a secret, which a job's description would show.
    """
    if not re.match(r"[a-z][a-z0-9+.-]*://", url):
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
