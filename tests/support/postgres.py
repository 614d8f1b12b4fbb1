"""Run a private PostgreSQL server: a folder below /tmp, a free loopback port, a password."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .clusters import free_ports


@dataclass(frozen=True, slots=True)
class Server:
    """A server that can be stopped and restarted."""

    folder: Path
    port: int
    password: str

    @property
    def url(self) -> str:
        return f"postgresql://tester:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        _run(
            *("pg_ctl", "-D", self.folder / "db", "-l", self.folder / "log", "-w", "start", "-o"),
            f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder} -c fsync=off",
        )

    def stop(self) -> None:
        _run("pg_ctl", "-D", self.folder / "db", "-m", "immediate", "-w", "stop")


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """Start a server; skip the test if PostgreSQL is not installed."""
    if _program("initdb") is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    (port,) = free_ports(1)
    found = Server(folder, port, secrets.token_hex(8))
    (folder / "password").write_text(found.password)
    if os.getuid() == 0:  # the server refuses to run as root
        for path in (folder, folder / "password"):
            shutil.chown(path, *_user())
    try:
        _run(
            *("initdb", "-D", folder / "db", "-U", "tester", "-A", "scram-sha-256"),
            *("--pwfile", folder / "password", "--no-sync"),
        )
        found.start()
        yield found
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            found.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> Path | None:
    found = [Path("/usr/local/bin") / name, *Path("/usr/lib/postgresql").glob(f"*/bin/{name}")]
    return next((path for path in reversed(found) if path.exists()), None)


def _user() -> tuple[int, int]:
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _run(name: str, *words: Any) -> None:
    who: dict[str, Any] = {}
    if os.getuid() == 0:
        uid, gid = _user()
        who = {"user": uid, "group": gid, "extra_groups": []}
    program = _program(name)
    assert program is not None, name
    # a file, not a pipe: the server keeps its inherited descriptors open
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(
            [str(program), *map(str, words)],
            stdout=said,
            stderr=said,
            stdin=subprocess.DEVNULL,
            cwd="/tmp",
            timeout=60,
            **who,
        )
        said.seek(0)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, name, said.read())
