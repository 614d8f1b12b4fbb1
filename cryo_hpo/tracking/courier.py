"""Deliver event logs to MLflow from one thread, with retries while the server is away."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from pathlib import Path

from mlflow.tracking import MlflowClient

from ..errors import StorageError
from ..storage.event_log import EventLog, refuse_older
from .backlog import Backlog
from .delivery import TRIES, Delivery, Runs
from .server import connect, masked, reason
from .wandb_sink import WandbSink

LONGEST_WAIT_S = 30.0  # between two tries while the server is away
RETRY_S = 0.5  # between two tries while `close` waits

log = logging.getLogger(__name__)


class Courier:
    """Deliver the events of one or more logs to MLflow until closed; then close the logs.

    A second sink, if there is one, follows the same logs by itself.
    """

    def __init__(
        self, uri: str, client: MlflowClient, experiment_id: str, *, second: WandbSink | None = None
    ) -> None:
        self._second = second
        self._place, self._client, self._experiment = masked(uri), client, experiment_id
        self._backlogs: dict[Path, tuple[Backlog, Delivery]] = {}
        self._wake, self._closing = threading.Event(), threading.Event()
        self._deadline, self._ends_first = math.inf, False
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)

    def follow(self, path: Path) -> EventLog:
        """Open or create a log, and deliver its present and future events.

        Raises:
            StorageError: The log cannot be written, or another process holds it.
        """
        if path not in self._backlogs:
            backlog = Backlog(EventLog(path))
            runs = Runs(self._client, self._experiment, backlog)
            self._backlogs = {**self._backlogs, path: (backlog, Delivery(backlog, runs))}
            backlog.opened.subscribe(lambda _: self._wake.set())
            self._wake.set()
            if self._second is not None:
                self._second.follow(backlog.opened)
        if not self._thread.is_alive() and not self._closing.is_set():
            self._thread.start()
        return self._backlogs[path][0].opened

    def pending(self) -> int:
        """Return the number of undelivered events."""
        return sum(backlog.pending for backlog, _ in self._backlogs.values())

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self._closing.is_set()

    def close(self, timeout_s: float, *, ends_first: bool) -> int:
        """Wait until all events are delivered; see `Tracker.close`."""
        self._ends_first = ends_first
        self._deadline = min(self._deadline, time.monotonic() + timeout_s)
        self._closing.set()
        self._wake.set()
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        if self._second is not None:
            self._second.close(max(0.0, self._deadline - time.monotonic()))
        return self.pending()

    def _run(self) -> None:
        """Run the thread: deliver until closed."""
        wait_s = 0.0
        with contextlib.ExitStack() as stack:
            stack.callback(self._close_logs)
            while time.monotonic() < self._deadline:
                try:
                    delivered = self._step()
                except Exception as error:
                    if not wait_s:
                        self._log_away(error)
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

    def _step(self) -> bool:
        """Deliver one group of calls of the first log that has any; return False if none has."""
        deliveries = [delivery for _, delivery in self._backlogs.values()]
        if self._ends_first and self._closing.is_set():
            for delivery in deliveries:
                delivery.ends()
            self._ends_first = False
        return any(delivery.step() for delivery in deliveries)

    def _close_logs(self) -> None:
        for backlog, _ in self._backlogs.values():
            backlog.opened.close()

    def _pause(self, wait_s: float) -> None:
        if not self._closing.wait(wait_s):
            return
        # `close` waits: retry often, but not in a busy loop.
        time.sleep(max(0.0, min(RETRY_S, self._deadline - time.monotonic())))

    def _log_away(self, error: Exception) -> None:
        log.warning(
            "MLflow at %s does not take records: %s. The study continues; they stay in '%s'.",
            self._place,
            reason(error),
            next(iter(self._backlogs)),
        )


def deliver(path: Path, *, uri: str, experiment: str) -> int:
    """Deliver the undelivered events of a study's log to MLflow; safe to repeat.

    Args:
        path: The study's log.
        uri: A tracking server or a database, as in MLFLOW_TRACKING_URI.
        experiment: Name of the experiment.

    Returns:
        Number of events still undelivered, above 0 if the server failed in between.

    Raises:
        TrackingError: The server does not answer.
        StorageError: There is no such log, or the study that writes it is still running.
    """
    if not path.exists():
        refuse_older(path.parent)
        message = f"There is no log '{path}' to deliver. Run the study first."
        raise StorageError(message)
    client, experiment_id = connect(uri, experiment)
    with contextlib.closing(EventLog(path)) as opened:
        backlog = Backlog(opened)
        try:
            _drain(Delivery(backlog, Runs(client, experiment_id, backlog)))
        except Exception as error:
            log.warning("MLflow at %s does not take records: %s.", masked(uri), reason(error))
        return backlog.pending


def _drain(delivery: Delivery) -> None:
    """Deliver until nothing is left; raise after more than `TRIES` failures in a row."""
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
