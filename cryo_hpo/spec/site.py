"""The machine's facts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr as SecretStr

from ..errors import SpecError
from ..frozen import Frozen


class Site(Frozen):
    """The machine's facts, from the environment alone; folders are absolute."""

    data: Path
    weights: Path
    storage: Path
    cache: Path
    mlflow: str
    optuna: SecretStr | None = None  # a database for the searches' trials; it may hold a password

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Site:
        """Read the CRYO_ variables and MLFLOW_TRACKING_URI; an empty one counts as absent.

        These are CRYO_DATA, CRYO_WEIGHTS, CRYO_STORAGE, CRYO_CACHE and CRYO_OPTUNA_STORAGE.

        Raises:
            SpecError: CRYO_OPTUNA_STORAGE is no URL of a PostgreSQL database.
        """

        def folder(variable: str, default: str) -> Path:
            return Path(env.get(variable) or default).expanduser().absolute()

        database = env.get("CRYO_OPTUNA_STORAGE") or ""
        if database and not re.match(r"postgres(ql)?(\+psycopg)?://", database):
            message = (
                "CRYO_OPTUNA_STORAGE must be the URL of a PostgreSQL database, "
                f"postgresql://user@host/name, it begins with '{database.partition(':')[0]}:'. "
                "Unset it to keep trials in the study's folder."
            )
            raise SpecError(message)
        storage = folder("CRYO_STORAGE", "runs")
        return cls(
            data=folder("CRYO_DATA", "data"),
            weights=folder("CRYO_WEIGHTS", "weights"),
            storage=storage,
            cache=folder("CRYO_CACHE", "~/.cache/cryo_hpo"),
            mlflow=env.get("MLFLOW_TRACKING_URI") or f"sqlite:///{storage / 'mlflow.db'}",
            optuna=SecretStr(database) if database else None,
        )

    def on_node(self, env: Mapping[str, str]) -> Site:
        """Return these facts as they are on a node that has a disk of its own for the cache.

        Data, weights and storage lie at the same path everywhere; decoded pixels are local.
        """
        local = env.get("CRYO_CACHE")
        return self.model_copy(update={"cache": Path(local).expanduser()}) if local else self
