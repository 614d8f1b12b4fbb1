"""Deliver the backlog of an event log to MLflow, in order and in few requests."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence

from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModel,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from .backlog import Backlog
from .calls import Call
from .server import KEY, cannot_write, reason, search

ORIGIN, PARENT = "cryo.log", "mlflow.parentRunId"
NOTE, RUN_ID = "mlflow.note.content", "{run_id}"
BATCH = 1000  # events read from the log at a time
DIGEST = 12  # characters of a fingerprint that the page shows
TRIES = 5  # of one call while the server answers other requests
WINNER = "winner"  # alias of a registered model's newest version
TURNS = ("start", "end")  # calls that open and close a run
REFUSALS = {  # MLflow's codes for requests that stay invalid on every retry
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
    """Send the calls of a backlog to MLflow in their order, each at least once."""

    def __init__(self, backlog: Backlog, runs: Runs) -> None:
        self._backlog, self._runs = backlog, runs
        self._calls: list[list[Call]] = []
        self._tries = 0
        self._is_compared = False

    def step(self) -> bool:
        """Deliver one group of calls; return False when nothing is left.

        Raises any error of MLflow, except for invalid calls: those are set aside.
        """
        self._rewind_if_lost()
        if not self._calls:
            self._calls = list(_group(self._backlog.waiting(limit=BATCH)))
            if not self._calls:
                return False
        calls = self._calls[0]
        try:
            self._runs.apply(calls)
        except Exception as error:
            if not self._refused(error):
                raise
            if len(calls) > 1:  # one of them is invalid: send each separately
                self._calls[:1] = [[call] for call in calls]
                self._tries = 0
                return True
            self._set_aside(calls[0], error)
        self._tries = 0
        if len(self._calls) == 1:
            self._backlog.delivered()
        del self._calls[0]
        return True

    def ends(self) -> None:
        """Close the runs whose end is undelivered now; the end is sent again in order, harmlessly.

        Raises any error of MLflow.
        """
        self._rewind_if_lost()
        calls = self._backlog.waiting(limit=sys.maxsize)
        self._calls = []  # the batch is read again
        last = {call["key"]: call for call in calls if call["do"] in TURNS}
        self._runs.reopen = False  # calls before an end must not reopen its run
        for call in last.values():
            if call["do"] == "end" and self._runs.exists(call["key"]):
                self._runs.apply([call])

    def _rewind_if_lost(self) -> None:
        """Begin again, once, if MLflow has no run of a log of which it took a part before."""
        if not self._is_compared and self._backlog.has_delivered and not self._runs.exist():
            log.warning(
                "MLflow has no run of '%s', whose records it had taken: its database was removed or "
                "replaced. They are sent again.",
                self._backlog.opened.path,
            )
            self._backlog.rewind()
        self._is_compared = True

    def _refused(self, error: Exception) -> bool:
        """Return True if the call itself is refused, False if the server is away or has no room."""
        if isinstance(error, FileNotFoundError):
            return True
        if cannot_write(error):  # it answers, since reading needs no room
            self._tries = 0
            return False
        if isinstance(error, MlflowException) and error.error_code in REFUSALS:
            return True
        self._tries = self._tries + 1 if self._runs.answer() else 0
        return self._tries >= TRIES

    def _set_aside(self, call: Call, error: Exception) -> None:
        why = reason(error)
        log.warning("MLflow refuses a record of run '%s': %s", call["key"], why)
        self._backlog.refuse(call, why)


class Runs:
    """Find or create the runs of one log in an experiment, by their keys."""

    def __init__(self, client: MlflowClient, experiment_id: str, backlog: Backlog) -> None:
        self._client, self._experiment = client, experiment_id
        self._origin, self._home = backlog.opened.origin, backlog.opened.path.parent
        self._refilled = backlog.refilled
        self._data: dict[str, Call] = {}  # key of a study -> its dataset
        self._ids: dict[tuple[str, str], str] = {}  # (key, log) -> MLflow's id
        # True: starting an existing run reopens it. A log that lost its end may have lost the run's
        # end too, so a closed run then stays closed.
        self.reopen = not backlog.refilled

    def apply(self, calls: Sequence[Call]) -> None:
        """Send calls of one kind and one run in as few requests as MLflow allows."""
        call, client = calls[0], self._client
        run = self._start(call) if call["do"] == "start" else self._id(call["key"])
        match call["do"]:
            case "start":
                params = [Param(key, value) for key, value in call["params"].items()]
                client.log_batch(run, params=params, tags=_tags(call["tags"]))
                if call["parent"] in self._data:
                    client.log_inputs(run, _inputs(self._data[call["parent"]], without="test"))
            case "dataset":
                self._data[call["key"]] = call
                client.log_inputs(run, _inputs(call))
            case "log":
                client.log_batch(run, metrics=self._new(run, calls))
            case "tag":
                client.log_batch(run, tags=_tags(_named(call["tags"], run)))
            case "artifact":
                client.log_artifact(run, str(self._home / call["path"]), call["folder"])
            case "model":
                self._model(run, call)
            case "end":
                client.set_terminated(run, call["status"], end_time=call["at"])

    def _new(self, run: str, calls: Sequence[Call]) -> list[Metric]:
        """Return the metric points to send; for a log that lost lines, only those MLflow lacks."""
        metrics = [metric for call in calls for metric in _metrics(call)]
        if not self._refilled:
            return metrics
        names = {metric.key for metric in metrics}
        sent = {
            (name, point.step)
            for name in names
            for point in self._client.get_metric_history(run, name)
        }
        return [metric for metric in metrics if (metric.key, metric.step) not in sent]

    def _model(self, run: str, call: Call) -> None:
        """Log and register a model; steps that an earlier try completed are skipped."""
        client = self._client
        model = self._logged(run, call)
        if model.status != LoggedModelStatus.READY:
            client.log_model_artifacts(model.model_id, str(self._home / call["path"]))
            client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
            client.log_outputs(run, models=[LoggedModelOutput(model.model_id, 0)])
        name = call["register"]
        if name is None:
            return
        with contextlib.suppress(MlflowException):  # it exists; if not, the next call fails
            client.create_registered_model(name)
        versions = client.search_model_versions(f"name = '{name}'")
        mine = [v.version for v in versions if v.run_id == run]
        if not mine:
            source = str(model.artifact_location)
            made = client.create_model_version(name, source, run, model_id=model.model_id)
            mine = [made.version]
        client.set_registered_model_alias(name, WINNER, mine[0])

    def _logged(self, run: str, call: Call) -> LoggedModel:
        """Return the model's record in MLflow, created if absent."""
        tags = {KEY: call["key"], ORIGIN: self._origin}
        models = self._client.search_logged_models([self._experiment], f"name = '{call['name']}'")
        mine = [model for model in models if tags.items() <= model.tags.items()]
        if mine:
            return mine[0]
        return self._client.create_logged_model(
            self._experiment, name=call["name"], source_run_id=run, tags=tags
        )

    def exists(self, key: str) -> bool:
        """Return True if MLflow has a run with this key."""
        return self._find(key) is not None

    def exist(self) -> bool:
        """Return True if MLflow has any run of this log, or one that was deleted there."""
        wanted, all_runs = f"tags.`{ORIGIN}` = '{self._origin}'", ViewType.ALL
        return bool(self._client.search_runs([self._experiment], wanted, all_runs, max_results=1))

    def answer(self) -> bool:
        """Return True if the server answers at all."""
        try:
            self._client.get_experiment(self._experiment)
        except Exception:
            return False
        return True

    def _start(self, call: Call) -> str:
        key, parent = call["key"], call["parent"]
        run = self._find(key)
        if run is not None:
            status = "RUNNING" if self.reopen else None
            self._client.update_run(run, status=status, name=call["name"])
            return run
        tags = {KEY: key, ORIGIN: self._origin}
        log_of_parent = call.get("parent_log") or self._origin
        above = self._find(parent, log_of_parent) if parent is not None else None
        if above is not None:
            tags[PARENT] = above
        made = self._client.create_run(
            self._experiment, start_time=call["at"], tags=tags, run_name=call["name"]
        )
        self._ids[key, self._origin] = made.info.run_id
        return str(made.info.run_id)

    def _id(self, key: str) -> str:
        run = self._find(key)
        if run is None:
            message = f"no run of this log has the key '{key}'"
            raise MlflowException.invalid_parameter_value(message)
        return run

    def _find(self, key: str, origin: str | None = None) -> str | None:
        """Return the id of a run of this log, or of the log `origin`; None if there is none."""
        place = key, origin or self._origin
        if place not in self._ids:
            runs = search(self._client, self._experiment, {KEY: key, ORIGIN: place[1]})
            if not runs:
                return None
            self._ids[place] = runs[0].info.run_id
        return self._ids[place]


def _group(batch: Sequence[Call]) -> Iterator[list[Call]]:
    """Group all metric calls of a run at the place of the last one; other calls stay single."""
    points: dict[str, list[Call]] = {}
    for call in batch:
        if call["do"] == "log":
            points.setdefault(call["key"], []).append(call)
    for call in batch:
        if call["do"] != "log":
            yield [call]
        elif call is points[call["key"]][-1]:
            yield points[call["key"]]


def _inputs(call: Call, without: str = "") -> list[DatasetInput]:
    """Return the splits of a dataset as inputs of a run; their fingerprints tell versions apart."""
    return [
        DatasetInput(
            Dataset(call["name"], digest[:DIGEST], "local", json.dumps({"fingerprint": digest})),
            [InputTag("mlflow.data.context", split)],
        )
        for split, digest in call["splits"].items()
        if split != without
    ]


def _metrics(call: Call) -> list[Metric]:
    return [Metric(m, v, call["at"], call["step"]) for m, v in call["metrics"].items()]


def _named(tags: Mapping[str, str], run: str) -> Mapping[str, str]:
    """Replace `{run_id}` in a run's description by the run's id."""
    if NOTE not in tags:
        return tags
    return {**tags, NOTE: tags[NOTE].replace(RUN_ID, run)}


def _tags(tags: Mapping[str, str]) -> list[RunTag]:
    return [RunTag(key, value) for key, value in tags.items()]
