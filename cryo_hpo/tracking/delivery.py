"""From the spool to MLflow: in order, in few calls, and no event holds up the others for ever."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from .server import KEY, reason, search
from .spool import Spool

SPOOL, PARENT = "cryo.spool", "mlflow.parentRunId"
NOTE, RUN_ID = "mlflow.note.content", "{run_id}"
Event = dict[str, Any]

BATCH = 1000  # events read from the spool at a time
TRIES = 5  # of one event at a server that answers everything else
WINNER = "winner"  # alias of a registered model's newest version
TURNS = ("start", "end")  # events that open and close a run
REFUSALS = {  # MLflow's codes for "this request is wrong", whoever sends it and whenever
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "MALFORMED_REQUEST",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_CONFLICT",
    "RESOURCE_DOES_NOT_EXIST",
}

log = logging.getLogger(__name__)


class Delivery:
    """Carries events from a spool to MLflow in their order, each at least once."""

    def __init__(self, spool: Spool, runs: Runs) -> None:
        self._spool, self._runs = spool, runs
        self._calls: list[list[Event]] = []
        self._size = self._tries = 0

    def step(self) -> bool:
        """Deliver what fits in one call; return False when nothing waits.

        Raises whatever the call raised, unless the events are to blame: those are set aside.
        """
        if not self._calls:
            batch = self._spool.waiting(limit=BATCH)
            self._calls, self._size = list(_calls(batch)), len(batch)
            if not batch:
                return False
        events = self._calls[0]
        try:
            self._runs.apply(events)
        except Exception as error:
            if not self._refused(error):
                raise
            if len(events) > 1:  # one of them is to blame: ask for each
                self._calls[:1] = [[event] for event in events]
                self._tries = 0
                return True
            self._set_aside(events[0], error)
        self._tries = 0
        if len(self._calls) == 1:
            self._spool.delivered(self._size)
        del self._calls[0]
        return True

    def ends(self) -> None:
        """Close at once the runs whose end waits; it is told again in its turn, and adds nothing.

        Raises whatever a call raised.
        """
        last = {e["key"]: e for e in self._spool.waiting(limit=sys.maxsize) if e["do"] in TURNS}
        self._runs.reopen = False  # what waits before an end must not open its run again
        for event in last.values():
            if event["do"] == "end" and self._runs.exists(event["key"]):
                self._runs.apply([event])

    def _refused(self, error: Exception) -> bool:
        """Tell an event that will never be taken from a server that is away."""
        if isinstance(error, FileNotFoundError):
            return True
        if isinstance(error, MlflowException) and error.error_code in REFUSALS:
            return True
        self._tries = self._tries + 1 if self._runs.answer() else 0
        return self._tries >= TRIES

    def _set_aside(self, event: Event, error: Exception) -> None:
        why = reason(error)
        log.warning("MLflow refuses a record of run '%s': %s", event["key"], why)
        self._spool.refuse(event, why)


class Runs:
    """The runs that one spool has in an experiment, found or made by their keys."""

    def __init__(self, client: MlflowClient, experiment_id: str, spool: Spool) -> None:
        self._client, self._experiment = client, experiment_id
        self._origin, self._home = spool.origin, spool.path.parent
        self._ids: dict[str, str] = {}
        self.reopen = True  # whether the start of a run that is there opens it again

    def apply(self, events: Sequence[Event]) -> None:
        """Send events of one kind, of one run, in as few calls as MLflow allows."""
        event, client = events[0], self._client
        run = self._start(event) if event["do"] == "start" else self._id(event["key"])
        match event["do"]:
            case "start":
                params = [Param(key, value) for key, value in event["params"].items()]
                client.log_batch(run, params=params, tags=_tags(event["tags"]))
            case "log":
                client.log_batch(run, metrics=[m for e in events for m in _metrics(e)])
            case "tag":
                client.log_batch(run, tags=_tags(_named(event["tags"], run)))
            case "artifact":
                client.log_artifact(run, str(self._home / event["path"]), event["folder"])
            case "model":
                self._model(run, event)
            case "end":
                client.set_terminated(run, event["status"], end_time=event["at"])

    def _model(self, run: str, event: Event) -> None:
        """Log a model, and register it; what an earlier try has done is not done again."""
        client = self._client
        model = self._logged(run, event)
        if model.status != LoggedModelStatus.READY:
            client.log_model_artifacts(model.model_id, str(self._home / event["path"]))
            client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
            client.log_outputs(run, models=[LoggedModelOutput(model.model_id, 0)])
        name = event["register"]
        if name is None:
            return
        with contextlib.suppress(MlflowException):  # it is there; if not, the next call says so
            client.create_registered_model(name)
        versions = client.search_model_versions(f"name = '{name}'")
        mine = [v.version for v in versions if v.run_id == run]
        if not mine:
            source = str(model.artifact_location)
            made = client.create_model_version(name, source, run, model_id=model.model_id)
            mine = [made.version]
        client.set_registered_model_alias(name, WINNER, mine[0])

    def _logged(self, run: str, event: Event) -> LoggedModel:
        """Return the model's record in MLflow, made where there is none."""
        tags = {KEY: event["key"], SPOOL: self._origin}
        there = self._client.search_logged_models([self._experiment], f"name = '{event['name']}'")
        mine = [model for model in there if tags.items() <= model.tags.items()]
        if mine:
            return mine[0]
        return self._client.create_logged_model(
            self._experiment, name=event["name"], source_run_id=run, tags=tags
        )

    def exists(self, key: str) -> bool:
        """Tell whether MLflow has a run of this key."""
        return self._find(key) is not None

    def answer(self) -> bool:
        """Tell whether the server answers at all."""
        try:
            self._client.get_experiment(self._experiment)
        except Exception:
            return False
        return True

    def _start(self, event: Event) -> str:
        key, parent = event["key"], event["parent"]
        run = self._find(key)
        if run is not None:
            status = "RUNNING" if self.reopen else None
            self._client.update_run(run, status=status, name=event["name"])
            return run
        tags = {KEY: key, SPOOL: self._origin}
        above = self._find(parent) if parent is not None else None
        if above is not None:
            tags[PARENT] = above
        made = self._client.create_run(
            self._experiment, start_time=event["at"], tags=tags, run_name=event["name"]
        )
        self._ids[key] = made.info.run_id
        return self._ids[key]

    def _id(self, key: str) -> str:
        run = self._find(key)
        if run is None:
            message = f"no run of this spool has the key '{key}'"
            raise MlflowException.invalid_parameter_value(message)
        return run

    def _find(self, key: str) -> str | None:
        if key not in self._ids:
            found = search(self._client, self._experiment, {KEY: key, SPOOL: self._origin})
            if not found:
                return None
            self._ids[key] = found[0].info.run_id
        return self._ids[key]


def _calls(batch: Sequence[Event]) -> Iterator[list[Event]]:
    """Make one group of all points of a run, where its last one stood; others stay alone."""
    points: dict[str, list[Event]] = {}
    for event in batch:
        if event["do"] == "log":
            points.setdefault(event["key"], []).append(event)
    for event in batch:
        if event["do"] != "log":
            yield [event]
        elif event is points[event["key"]][-1]:
            yield points[event["key"]]


def _metrics(event: Event) -> list[Metric]:
    return [Metric(m, v, event["at"], event["step"]) for m, v in event["metrics"].items()]


def _named(tags: Mapping[str, str], run: str) -> Mapping[str, str]:
    """Put the run's id where its description names it: it is not known before."""
    if NOTE not in tags:
        return tags
    return {**tags, NOTE: tags[NOTE].replace(RUN_ID, run)}


def _tags(tags: Mapping[str, str]) -> list[RunTag]:
    return [RunTag(key, value) for key, value in tags.items()]
