"""Run a real `mlflow server` on loopback, and count its traffic."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

from mlflow.utils import rest_utils

from cryo_hpo.tracking.calls import Call
from cryo_hpo.tracking.delivery import Runs

from .driver_cost import tree_seconds

START_S = 90.0  # an `mlflow server` may take this long to answer


@dataclass(slots=True)
class Traffic:
    """The traffic to a server.

    Attributes:
        pid: Process id of the server.
        requests: HTTP requests.
        calls: Groups of records that were sent together; the start of a run takes some requests.
        events: Records in these groups.
        largest: Most records in one call.
        server_cpu_s: CPU seconds of the server and its workers for these requests.
    """

    pid: int
    requests: int = 0
    calls: int = 0
    events: int = 0
    largest: int = 0
    server_cpu_s: float = 0.0

    def copy(self) -> Traffic:
        """Return a copy of the current counts."""
        return replace(self, server_cpu_s=tree_seconds(self.pid) - self.server_cpu_s)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count within the context."""
        apply: Callable[..., None] = Runs.apply
        send: Callable[..., Any] = rest_utils.http_request
        self.server_cpu_s = tree_seconds(self.pid)  # of its start

        def counted_apply(runs: Runs, events: Sequence[Call]) -> None:
            self.calls, self.events = self.calls + 1, self.events + len(events)
            self.largest = max(self.largest, len(events))
            apply(runs, events)

        def counted_send(*args: Any, **kwargs: Any) -> Any:
            self.requests += 1
            return send(*args, **kwargs)

        with (
            mock.patch.object(Runs, "apply", counted_apply),
            mock.patch.object(rest_utils, "http_request", counted_send),
        ):
            yield


@contextmanager
def server(folder: Path, *, store: str | None = None) -> Iterator[tuple[str, Traffic]]:
    """Run a server with one worker; yield its address and its traffic.

    Args:
        folder: Folder of its files.
        store: Database URL where it keeps runs; None: SQLite in the folder.
    """
    port = _free_port()
    words = ("-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    store = store or f"sqlite:///{folder / 'mlflow.db'}"
    with (folder / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *words, "--backend-store-uri", store],
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, folder / "mlflow.log")
        traffic = Traffic(process.pid)
        with traffic.counted():
            yield url, traffic
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(url: str, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    message = f"`mlflow server` does not answer:\n{log.read_text()[-2000:]}"
    raise TimeoutError(message)
