"""Record a study's MLflow runs in its event log, for delivery."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ..storage.event_log import EventLog
from .calls import legal_name
from .courier import Courier
from .server import connect
from .wandb_sink import connect_wandb


class Tracker:
    """Record the MLflow runs of a study: delivered now, or once the server is back.

    All recording methods return once the event is on disk, never wait for the network, and raise
    `StorageError` when the event cannot be written. Keys of runs are `study/training`, or `study`
    for the study's own run.

    Attributes:
        events: The study's log; events from other writers are delivered too.
    """

    def __init__(self, courier: Courier, path: Path, *, above: EventLog | None = None) -> None:
        self._courier, self._above = courier, above
        self.events = courier.follow(path)

    @classmethod
    def connect(cls, uri: str, *, experiment: str, log: Path, wandb: str | None = None) -> Tracker:
        """Open or create an experiment, and deliver the log's undelivered events.

        Args:
            uri: A tracking server or a database, as in MLFLOW_TRACKING_URI.
            experiment: Name of the experiment.
            log: The study's `events.jsonl`; created if absent.
            wandb: Project of W&B that gets the runs too; None: none.

        Raises:
            TrackingError: The server does not answer within about 5 s, or refuses; or W&B cannot
                be used here.
            StorageError: The log cannot be written, or another process holds it.
        """
        second = None if wandb is None else connect_wandb(wandb, os.environ)
        client, experiment_id = connect(uri, experiment)
        return cls(Courier(uri, client, experiment_id, second=second), log)

    def beside(self, log: Path) -> Tracker:
        """Return a tracker of another study's log; both are delivered and closed together.

        Runs of the other study may have runs of this tracker's log as parents.

        Raises:
            StorageError: The log cannot be written, or another process holds it.
        """
        return Tracker(self._courier, log, above=self.events)

    def start(
        self,
        key: str,
        *,
        name: str,
        parent: str | None = None,
        tags: Mapping[str, str] = {},
        params: Mapping[str, object] = {},
        dataset: Mapping[str, Any] = {},
    ) -> None:
        """Start a run, or reopen the run with this key.

        Args:
            key: Name that identifies the run in the other methods; unique in the log.
            name: Name shown by MLflow.
            parent: Key of the parent run.
            tags: Tag -> value.
            params: Parameter -> value, written as text. A second start must not change them.
            dataset: `name`, and `splits`: split -> fingerprint; its trainings get it too.
        """
        texts = {legal_name(param): str(value) for param, value in params.items()}
        facts: dict[str, Any] = {"name": name, "tags": dict(tags), "params": texts}
        if dataset:
            facts["dataset"] = dict(dataset)
        if parent is not None:
            own = _study(parent) == _study(key)
            log = self.events if own else self._above or self.events
            facts |= {"parent": parent, "parent_log": log.origin}
        self._append("started" if "/" in key else "study started", key, **facts)

    def log(self, key: str, metrics: Mapping[str, float], *, step: int) -> None:
        """Log one point of each metric's curve.

        Values that are nan or infinite are left out: MLflow would store infinity as 1.797e308.
        Characters that MLflow does not allow in names become `_`.
        """
        finite = {
            legal_name(m): float(value) for m, value in metrics.items() if math.isfinite(value)
        }
        if finite:
            self._append("metrics", key, step=step, metrics=finite)

    def log_once(self, key: str, metrics: Mapping[str, float], *, step: int) -> None:
        """Log points as `log` does, except those that this log holds already.

        A study that is killed while it publishes its result publishes it again; MLflow would show
        a point twice that is logged at two times.
        """
        study, _, training = key.partition("/")
        past: set[str] = set()
        for _, event in self.events.read():
            own = event["event"] == "metrics" and event["study"] == study
            if own and event["key"] == training and event["step"] == step:
                past |= event["metrics"].keys()
        self.log(key, {m: v for m, v in metrics.items() if legal_name(m) not in past}, step=step)

    def tag(self, key: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run; `mlflow.note.content` is its description, `mlflow.runName` its name.

        `{run_id}` in a description becomes the run's id, for links to the run's artifacts.
        """
        self._append("tag", key, tags=dict(tags))

    def artifact(self, key: str, path: Path, folder: str | None = None) -> None:
        """Attach a file or folder to a run. The path must exist until it is delivered."""
        self._append("artifact", key, path=self._inside(path), folder=folder)

    def model(self, key: str, path: Path, *, name: str, register: str | None = None) -> None:
        """Attach a model in MLflow's format to a run, and register it if `register` is given.

        Args:
            key: Key of the run.
            path: The model's folder; the path must exist until it is delivered.
            name: The model's name in MLflow.
            register: Name in the registry; its newest version gets the alias "winner".
        """
        self._append("model", key, path=self._inside(path), name=_plain(name), register=register)

    def end(self, key: str, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """End a run; a later start reopens it."""
        self._append("end" if "/" in key else "study ended", key, status=status)

    def pending(self) -> int:
        """Return the number of undelivered events of this log and those beside it."""
        return self._courier.pending()

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self._courier.closed

    def close(self, timeout_s: float = 60, *, ends_first: bool = False) -> int:
        """Wait until all events are delivered. A second call waits no longer than the first.

        Args:
            timeout_s: Longest wait, seconds; undelivered events stay in the log, see `deliver`.
            ends_first: Close runs before all other deliveries, for a process about to be killed.

        Returns:
            Number of undelivered events.
        """
        return self._courier.close(timeout_s, ends_first=ends_first)

    def _append(self, event: str, key: str, **facts: object) -> None:
        study, _, training = key.partition("/")
        self.events.append(event, study=study, key=training, **facts)

    def _inside(self, path: Path) -> str:
        """Return a path relative to the log's folder, which may move before the delivery."""
        path, home = path.resolve(), self.events.path.resolve().parent
        return str(path.relative_to(home) if path.is_relative_to(home) else path)


def _study(key: str) -> str:
    return key.partition("/")[0]


def _plain(name: str) -> str:
    """Return a name that MLflow accepts for a model."""
    return re.sub(r"[^\w-]", "-", name)
