"""Start the MLflow servers of cluster/mlflow as their files do, but on this machine."""

from __future__ import annotations

import contextlib
import re
import secrets
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import yaml
from psycopg import sql

from . import postgres
from .clusters import (
    BIN,
    answers,
    check_nothing_left,
    environment,
    free_ports,
    members,
    started,
    until,
)

FILES = Path(__file__).parents[2] / "cluster/mlflow"
IN_FOLDER = ("/bin/sh", "-c", 'umask "$0" && cd "$1" && shift && exec "$@"')


@dataclass(frozen=True, slots=True)
class Shipped:
    """A command and its variables as in a file, but for folders, port and passwords."""

    words: tuple[str, ...]
    env: Mapping[str, str]
    umask: str
    home: Path
    port: int
    database: str

    @property
    def url(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def password(self) -> str:
        """Password of the administrator."""
        return self.env["MLFLOW_AUTH_ADMIN_PASSWORD"]

    def pids(self) -> set[int]:
        """Return the server's processes; its secret is in no other environment."""
        return set(members(self.env["MLFLOW_FLASK_SERVER_SECRET_KEY"]))

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Return PostgreSQL's own answer to a query."""
        with psycopg.connect(self.database) as connection:
            return connection.execute(query.encode()).fetchall()

    @contextlib.contextmanager
    def running(self) -> Iterator[Shipped]:
        """Start the server, wait until it answers, and end it."""
        self.home.mkdir(parents=True)
        words, log = (self.umask, str(self.home), *self.words), self.home.with_suffix(".log")
        with started(*IN_FOLDER, *words, env=environment(**self.env), log=log) as server:
            until(lambda: answers(f"{self.url}/health") or server.poll() is not None)
            assert server.poll() is None, log.read_text()
            yield self
        check_nothing_left(self.env["MLFLOW_FLASK_SERVER_SECRET_KEY"])


def unit(folder: Path, data: postgres.Server) -> Shipped:
    """Return the server that systemd starts: ExecStart, Environment, WorkingDirectory and UMask."""
    text = (FILES / "mlflow.service").read_text()
    line = dict(re.findall(r"^(\w+)=(.*)$", text, re.M))
    home, port, database = folder / "mlflow", free_ports(1)[0], _database(data)
    places = {"/opt/cryo_hpo/.venv/bin/": f"{BIN}/", line["WorkingDirectory"]: str(home)}
    words = shlex.split(_with(line["ExecStart"], {**places, "--port 5000": f"--port {port}"}))
    # variables that the comment at its top requires in the EnvironmentFile
    (promised,) = re.findall(r"mlflow\.env.* holds (.*?)\.\n\[Unit\]", text, re.S)
    given = {name: secrets.token_hex(24) for name in re.findall(r"MLFLOW_\w+", promised)}
    given["MLFLOW_BACKEND_STORE_URI"] = database.replace("postgresql:", "postgresql+psycopg:")
    given |= dict(word.split("=", 1) for word in line["Environment"].split())
    return Shipped(tuple(words), given, line["UMask"], home, port, database)


def compose(folder: Path, data: postgres.Server) -> Shipped:
    """Return the server that the container starts: command, environment and folder."""
    service = yaml.safe_load((FILES / "compose.yaml").read_text())["services"]["mlflow"]
    names = re.findall(r"^(\w+)=", (FILES / "example.env").read_text(), re.M)
    home, port, database = folder / "mlflow", free_ports(1)[0], _database(data)
    dotenv = {name: secrets.token_hex(24) for name in names} | {"DATABASE_PASSWORD": data.password}
    changes = {
        "$$": "$",
        "$(hostname -i)": "127.0.0.1",  # address of a container, published on loopback
        "--port 5000": f"--port {port}",
        "@database/": f"@127.0.0.1:{data.port}/",
        service["working_dir"]: str(home),
    }
    given = {
        name: re.sub(r"\$\{(\w+).*?\}", lambda found: dotenv[found[1]], value)
        for name, value in service["environment"].items()
    }
    words = shlex.split(_with(service["command"], changes))
    return Shipped(tuple(words), given, "0022", home, port, database)


def _with(text: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        assert old in text, f"the file no longer has '{old}'"
        text = text.replace(old, new)
    return text


def _database(data: postgres.Server) -> str:
    """Create the user and the database `mlflow` that the files expect."""
    with psycopg.connect(data.url, autocommit=True) as connection:
        words = sql.SQL("CREATE ROLE mlflow LOGIN PASSWORD {}").format(data.password)
        connection.execute(words)
        connection.execute("CREATE DATABASE mlflow OWNER mlflow")
    return f"postgresql://mlflow:{data.password}@127.0.0.1:{data.port}/mlflow"
