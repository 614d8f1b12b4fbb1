"""What a study tells MLflow, kept on disk until it has arrived."""

from __future__ import annotations

import contextlib
import logging
import math
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ..errors import StorageError
from .delivery import TRIES, Delivery, Runs
from .server import connect, masked, reason
from .spool import Spool

LONGEST_WAIT_S = 30.0  # between two tries at a server that is away
RETRY_S = 0.5  # the same, while somebody waits for the end

log = logging.getLogger(__name__)


class Tracker:
    """Writes one study's runs to MLflow, now or when the server is back.

    Its methods return once the event is on disk and never wait for the network. All of them raise
    `StorageError` when the disk does not take the event.
    """

    def __init__(self, uri: str, spool: Spool, runs: Runs) -> None:
        self._place, self._spool = masked(uri), spool
        self._delivery = Delivery(spool, runs)
        self._wake, self._closing = threading.Event(), threading.Event()
        self._deadline, self._ends_first = math.inf, False
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    @classmethod
    def connect(cls, uri: str, *, experiment: str, spool: Path) -> Tracker:
        """Open an experiment, made where there is none, and deliver what the spool still holds.

        Args:
            uri: A tracking server or a database, as in MLFLOW_TRACKING_URI.
            experiment: Name.
            spool: File; made where there is none.

        Raises:
            TrackingError: The server does not answer within about 5 s, or refuses.
            StorageError: The spool cannot be written, or another process holds it.
        """
        client, experiment_id = connect(uri, experiment)
        opened = Spool(spool)
        return cls(uri, opened, Runs(client, experiment_id, opened))

    def start(
        self,
        key: str,
        *,
        name: str,
        parent: str | None = None,
        tags: Mapping[str, str] = {},
        params: Mapping[str, object] = {},
    ) -> None:
        """Begin a run, or go on with the one that has this key.

        Args:
            key: Name by which the other methods know the run; unique in the spool.
            name: What MLflow shows.
            parent: Key of the run that this one is shown below.
            tags: Tag -> value.
            params: Parameter -> value, written as text. A second start must not change them.
        """
        texts = {_legal(param): str(value) for param, value in params.items()}
        self._emit("start", key, name=name, parent=parent, tags=dict(tags), params=texts)

    def log(self, key: str, metrics: Mapping[str, float], *, step: int) -> None:
        """Add one point to each metric's curve.

        Values that are nan or infinite are left out: MLflow would store infinity as 1.797e308.
        Characters that MLflow takes for no name become `_`.
        """
        finite = {_legal(m): float(value) for m, value in metrics.items() if math.isfinite(value)}
        if finite:
            self._emit("log", key, step=step, metrics=finite)

    def tag(self, key: str, tags: Mapping[str, str]) -> None:
        """Set tags; `mlflow.note.content` is the run's description, `mlflow.runName` its name.

        `{run_id}` in a description becomes the run's id, so that it can show the run's artifacts.
        """
        self._emit("tag", key, tags=dict(tags))

    def artifact(self, key: str, path: Path, folder: str | None = None) -> None:
        """Attach a file, or a folder of them. It must stay where it is until it is delivered."""
        path, home = path.resolve(), self._spool.path.resolve().parent
        # A study's folder may be moved before its records are delivered.
        inside = path.relative_to(home) if path.is_relative_to(home) else path
        self._emit("artifact", key, path=str(inside), folder=folder)

    def model(self, key: str, path: Path, *, name: str, register: str | None = None) -> None:
        """Attach a model in MLflow's format to a run, and register it where a name is given.

        Args:
            key: Of the run.
            path: The model's folder; it must stay where it is until it is delivered.
            name: What MLflow calls the model.
            register: Name in the registry; its newest version gets the alias "winner".
        """
        path, home = path.resolve(), self._spool.path.resolve().parent
        inside = path.relative_to(home) if path.is_relative_to(home) else path
        self._emit("model", key, path=str(inside), name=_plain(name), register=register)

    def end(self, key: str, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Close a run; a later start opens it again."""
        self._emit("end", key, status=status)

    def pending(self) -> int:
        """Return how many events are not yet delivered."""
        return self._spool.pending

    @property
    def closed(self) -> bool:
        """Whether it takes no more events."""
        return self._closing.is_set()

    def close(self, timeout_s: float = 60, *, ends_first: bool = False) -> int:
        """Wait until everything is delivered. A second call waits no longer than the first.

        Args:
            timeout_s: Longest wait, seconds; what is left stays in the spool, see `deliver`.
            ends_first: Whether runs are closed ahead of what else waits, for those with no time.

        Returns:
            How many events are not delivered.
        """
        self._ends_first = ends_first
        self._deadline = min(self._deadline, time.monotonic() + timeout_s)
        self._closing.set()
        self._wake.set()
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        return self.pending()

    def _emit(self, what: str, key: str, **facts: object) -> None:
        self._spool.append({"do": what, "key": key, "at": int(time.time() * 1000), **facts})
        self._wake.set()

    def _run(self) -> None:
        """Deliver until closed; the thread's whole life."""
        wait_s = 0.0
        with contextlib.closing(self._spool):
            while time.monotonic() < self._deadline:
                try:
                    if self._ends_first and self._closing.is_set():
                        self._delivery.ends()
                        self._ends_first = False
                    delivered = self._delivery.step()
                except Exception as error:
                    if not wait_s:
                        self._say_away(error)
                    wait_s = min(max(2 * wait_s, 1.0), LONGEST_WAIT_S)
                    self._pause(wait_s)
                    continue
                if wait_s:
                    log.warning("MLflow at %s is back; the records follow.", self._place)
                    wait_s = 0.0
                if not delivered and self._closing.is_set():
                    return
                if not delivered:
                    self._wake.wait()
                    self._wake.clear()

    def _pause(self, wait_s: float) -> None:
        if not self._closing.wait(wait_s):
            return
        # Somebody waits for the end: try often, but not all the time.
        time.sleep(max(0.0, min(RETRY_S, self._deadline - time.monotonic())))

    def _say_away(self, error: Exception) -> None:
        log.warning(
            "MLflow at %s does not take records: %s. The study goes on; they wait in '%s'.",
            self._place,
            reason(error),
            self._spool.path,
        )


def deliver(spool: Path, *, uri: str, experiment: str) -> int:
    """Deliver what a study could not; safe to repeat.

    Args:
        spool: The study's spool.
        uri: A tracking server or a database, as in MLFLOW_TRACKING_URI.
        experiment: Name.

    Returns:
        How many events are not delivered: more than 0 when the server went away on the way.

    Raises:
        TrackingError: The server does not answer.
        StorageError: There is no such spool, or the study that writes it still runs.
    """
    if not spool.exists():
        message = f"{spool}: there is no such spool. Has the study been run?"
        raise StorageError(message)
    client, experiment_id = connect(uri, experiment)
    with contextlib.closing(Spool(spool)) as opened:
        try:
            _drain(Delivery(opened, Runs(client, experiment_id, opened)))
        except Exception as error:
            log.warning("MLflow at %s does not take records: %s.", masked(uri), reason(error))
        return opened.pending


def _drain(delivery: Delivery) -> None:
    """Deliver until nothing waits; raise when the server stays away."""
    failures = 0
    while True:
        try:
            if not delivery.step():
                return
            failures = 0
        except Exception:
            failures += 1
            if failures > TRIES:
                raise
            time.sleep(RETRY_S)


def _plain(name: str) -> str:
    """Make a name that MLflow takes for a model."""
    return re.sub(r"[^\w-]", "-", name)


def _legal(name: str) -> str:
    """Make a name that MLflow takes for a metric or parameter."""
    parts = re.sub(r"[^/\w.\- :]", "_", name).split("/")
    return "/".join(part for part in parts if part.strip(".")).lstrip(".") or "_"
