"""Record a study's MLflow runs in its event log, from which they are delivered."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ..storage.event_log import EventLog
from .calls import legal_name
from .courier import Courier
from .server import connect


class Tracker:
    """Record what MLflow shows of a study: it is delivered now, or when the server is back.

    Its methods return once the event is on disk and never wait for the network. All of them raise
    `StorageError` when the disk does not take the event. Keys of runs are `study/training`, or
    `study` for the study's own run.

    Attributes:
        events: The log that it writes to; what others append to it is delivered too.
    """

    def __init__(self, courier: Courier, path: Path, *, above: EventLog | None = None) -> None:
        self._courier, self._above = courier, above
        self.events = courier.follow(path)

    @classmethod
    def connect(cls, uri: str, *, experiment: str, log: Path) -> Tracker:
        """Open an experiment, made where there is none, and deliver what the log still holds.

        Args:
            uri: A tracking server or a database, as in MLFLOW_TRACKING_URI.
            experiment: Name.
            log: The study's `events.jsonl`; made where there is none.

        Raises:
            TrackingError: The server does not answer within about 5 s, or refuses.
            StorageError: The log cannot be written, or another process holds it.
        """
        client, experiment_id = connect(uri, experiment)
        return cls(Courier(uri, client, experiment_id), log)

    def beside(self, log: Path) -> Tracker:
        """Return a tracker of another study's log; both are delivered and closed together.

        Its runs may have runs of this tracker's log as parents.

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
    ) -> None:
        """Open a run, or open the one that has this key again.

        Args:
            key: Name by which the other methods find the run; unique in the log.
            name: What MLflow shows.
            parent: Key of the run that this one is shown below.
            tags: Tag -> value.
            params: Parameter -> value, written as text. A second start must not change them.
        """
        texts = {legal_name(param): str(value) for param, value in params.items()}
        facts = {"name": name, "tags": dict(tags), "params": texts}
        if parent is not None:
            own = _study(parent) == _study(key)
            log = self.events if own else self._above or self.events
            facts |= {"parent": parent, "parent_log": log.origin}
        self._append("started" if "/" in key else "study started", key, **facts)

    def log(self, key: str, metrics: Mapping[str, float], *, step: int) -> None:
        """Add one point to each metric's curve.

        Values that are nan or infinite are left out: MLflow would store infinity as 1.797e308.
        Characters that MLflow takes for no name become `_`.
        """
        finite = {
            legal_name(m): float(value) for m, value in metrics.items() if math.isfinite(value)
        }
        if finite:
            self._append("metrics", key, step=step, metrics=finite)

    def tag(self, key: str, tags: Mapping[str, str]) -> None:
        """Set tags; `mlflow.note.content` is the run's description, `mlflow.runName` its name.

        `{run_id}` in a description becomes the run's id, so that it can show the run's artifacts.
        """
        self._append("tag", key, tags=dict(tags))

    def artifact(self, key: str, path: Path, folder: str | None = None) -> None:
        """Attach a file, or a folder of them. It must stay where it is until it is delivered."""
        self._append("artifact", key, path=self._inside(path), folder=folder)

    def model(self, key: str, path: Path, *, name: str, register: str | None = None) -> None:
        """Attach a model in MLflow's format to a run, and register it where a name is given.

        Args:
            key: Of the run.
            path: The model's folder; it must stay where it is until it is delivered.
            name: What MLflow calls the model.
            register: Name in the registry; its newest version gets the alias "winner".
        """
        self._append("model", key, path=self._inside(path), name=_plain(name), register=register)

    def end(self, key: str, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Close a run; a later start opens it again."""
        self._append("end" if "/" in key else "study ended", key, status=status)

    def pending(self) -> int:
        """Return how many events are not yet delivered, of this log and those beside it."""
        return self._courier.pending()

    @property
    def closed(self) -> bool:
        """Whether it takes no more events."""
        return self._courier.closed

    def close(self, timeout_s: float = 60, *, ends_first: bool = False) -> int:
        """Wait until everything is delivered. A second call waits no longer than the first.

        Args:
            timeout_s: Longest wait, seconds; what is left stays in the log, see `deliver`.
            ends_first: Whether runs are closed ahead of everything else, for a process that has
                no time.

        Returns:
            How many events are not delivered.
        """
        return self._courier.close(timeout_s, ends_first=ends_first)

    def _append(self, event: str, key: str, **facts: object) -> None:
        study, _, training = key.partition("/")
        self.events.append(event, study=study, key=training, **facts)

    def _inside(self, path: Path) -> str:
        """Return a path relative to the log's folder, which may be moved before the delivery."""
        path, home = path.resolve(), self.events.path.resolve().parent
        return str(path.relative_to(home) if path.is_relative_to(home) else path)


def _study(key: str) -> str:
    return key.partition("/")[0]


def _plain(name: str) -> str:
    """Make a name that MLflow takes for a model."""
    return re.sub(r"[^\w-]", "-", name)
