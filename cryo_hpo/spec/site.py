"""The machine's facts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..frozen import Frozen


class Site(Frozen):
    """The machine's facts, from the environment alone; folders are absolute."""

    data: Path
    weights: Path
    storage: Path
    cache: Path
    mlflow: str

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Site:
        """Read CRYO_DATA, CRYO_WEIGHTS, CRYO_STORAGE, CRYO_CACHE and MLFLOW_TRACKING_URI.

        A variable that is empty counts as absent.
        """

        def folder(variable: str, default: str) -> Path:
            return Path(env.get(variable) or default).expanduser().absolute()

        storage = folder("CRYO_STORAGE", "runs")
        return cls(
            data=folder("CRYO_DATA", "data"),
            weights=folder("CRYO_WEIGHTS", "weights"),
            storage=storage,
            cache=folder("CRYO_CACHE", "~/.cache/cryo_hpo"),
            mlflow=env.get("MLFLOW_TRACKING_URI") or f"sqlite:///{storage / 'mlflow.db'}",
        )
