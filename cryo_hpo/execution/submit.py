"""Build the `ray job submit` command of a study: its variables, and the folders left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..config import format_source, is_shipped
from ..errors import SpecError

if TYPE_CHECKING:
    from ..config import Site

# cluster/runtime_env.yaml sets the same for those who call `ray job submit` themselves.
ENV = {
    "RAY_JOB_STOP_WAIT_TIME_S": "30",  # to close MLflow's runs; Ray's default is 3 seconds
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
# As in a .gitignore. The slash matters: "data" would also leave out a package's folder `data`.
EXCLUDES = ("/.git", "/.venv", "/data", "/weights", "/runs", "/build", "/dist")
IN_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it for the driver of a job


def command(
    study: Path, site: Site, *, address: str, env: Mapping[str, str], options: Sequence[str] = ()
) -> list[str]:
    """Return the `ray job submit` command that sends a study from the current folder.

    Args:
        study: The study's file, also of a study that ships with the package.
        site: Locations of data, weights and storage, here and on the cluster.
        address: Address of the cluster's dashboard.
        env: The environment here; its CRYO_ variables are sent along, paths made absolute.
        options: More options of `ray job submit`.

    Raises:
        SpecError: The study's file is not below the current folder, so it would not be sent; or
            the job's description would show a database's password.
    """
    folder, file = Path.cwd().resolve(), study.resolve()
    shipped = is_shipped(str(study))  # it is in the package on the cluster too
    if not shipped and not file.is_relative_to(folder):
        message = (
            f"{study}: the current folder is what is sent, so it must hold the study's file; "
            f"'{folder}' does not. Submit from a folder that does."
        )
        raise SpecError(message)
    if site.optuna is not None and urlsplit(site.optuna.get_secret_value()).password:
        message = (
            "CRYO_OPTUNA_STORAGE must hold no password when a study is submitted: everybody who "
            "sees the cluster sees a job's variables. Put it into ~/.pgpass on the head."
        )
        raise SpecError(message)
    places = {"CRYO_DATA": site.data, "CRYO_WEIGHTS": site.weights, "CRYO_STORAGE": site.storage}
    if env.get("CRYO_CACHE"):
        places["CRYO_CACHE"] = site.cache
    variables = {name: value for name, value in env.items() if name.startswith("CRYO_") and value}
    variables |= {name: str(path) for name, path in places.items()}
    variables |= {"MLFLOW_TRACKING_URI": site.mlflow, **ENV}
    below = [p.resolve() for p in places.values() if p.resolve().is_relative_to(folder)]
    inside = [f"/{path.relative_to(folder).as_posix()}" for path in below if path != folder]
    runtime = {"env_vars": variables, "excludes": list(dict.fromkeys([*EXCLUDES, *inside]))}
    words = ["ray", "job", "submit", "--address", address, "--working-dir", "."]
    words += ["--runtime-env-json", json.dumps(runtime), *options]
    word = format_source(study) if shipped else file.relative_to(folder).as_posix()
    return [*words, "--", "cryo-hpo", "run", word]


def require_storage(env: Mapping[str, str]) -> None:
    """Refuse to write a job's results into the copy of the sent folder, which Ray removes.

    Raises:
        SpecError: This is the driver of a job, and CRYO_STORAGE is not an absolute path.
    """
    value = env.get("CRYO_STORAGE", "")
    if IN_JOB in env and not Path(value).expanduser().is_absolute():
        message = (
            f"A job's CRYO_STORAGE must be an absolute path on a disk that stays, it is '{value}'. "
            "Send the study with `cryo-hpo submit`, or give `ray job submit` "
            '--runtime-env-json \'{"env_vars": {"CRYO_STORAGE": "/shared/runs"}}\'.'
        )
        raise SpecError(message)
