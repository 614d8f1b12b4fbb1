"""Report trials of Tune whose worker hangs, and end such workers where the study says so."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from .hanging import HangWatch
from .positions import WorkerPositions

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from .executor import TrialResources

log = logging.getLogger(__name__)


class HangCallback(tune.Callback):
    """Watch the trials of a study for silence; see `HangWatch`.

    A stopped process, a stuck GPU or a mount that does not answer raises nothing: only the missing
    epochs show it. An ended worker is a death, which never fails a trial.
    """

    def __init__(self, slots: TrialResources, positions: WorkerPositions) -> None:
        self._restart, self._positions = slots.restart, positions
        self._watch = HangWatch(slots.hang_s)
        self._workers: dict[str, tuple[str, int]] = {}  # job -> address and process of its worker

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune's snapshots are never read

    def on_step_begin(self, iteration: int, trials: list[Trial], **_: Any) -> None:  # noqa: ARG002
        """Report trials that hang; Tune calls this ten times a second."""
        for key, silent_s in self._watch.newly_silent():
            self._report(key, silent_s)
            for trial in trials if self._restart else ():
                if _key(trial) == key:
                    address, pid = self._workers.get(key, ("", 0))
                    end_worker(trial.temporary_state.ray_actor, address, pid)

    def on_trial_start(self, *_: Any, trial: Trial, **__: Any) -> None:  # type: ignore[override]
        """Watch a trial from its start."""
        self._watch.began(_key(trial))
        self._positions.began(_key(trial), Path(trial.config["workdir"]))

    def on_trial_result(  # type: ignore[override]
        self, *_: Any, trial: Trial, result: Mapping[str, Any], **__: Any
    ) -> None:
        """Note an epoch, and the process that reports it."""
        self._watch.epoch(_key(trial))
        self._workers[_key(trial)] = (str(result.get("node_ip")), int(result.get("pid") or 0))

    def on_trial_complete(self, *_: Any, trial: Trial, **__: Any) -> None:  # type: ignore[override]
        """Watch a trial no longer."""
        self._forget(_key(trial))

    def on_trial_error(self, *_: Any, trial: Trial, **__: Any) -> None:  # type: ignore[override]
        """Watch a trial no longer."""
        self._forget(_key(trial))

    def _forget(self, key: str) -> None:
        self._watch.ended(key)
        self._workers.pop(key, None)
        self._positions.ended(key)

    def _report(self, key: str, silent_s: float) -> None:
        address, pid = self._workers.get(key, ("", 0))
        where = f", process {pid} on {address}," if pid else ""
        remedy = (
            "It is ended, and the training starts again from its last checkpoint."
            if self._restart
            else "Look at its process, its GPU and its disks; with `resources: {hanging: restart}` such "
            "a worker is ended, and its training starts again."
        )
        text = "%s has reported no epoch for %.3g min: its worker%s hangs. %s"
        log.warning(text, key, silent_s / 60, where, remedy)


def end_worker(actor: Any, address: str, pid: int) -> None:
    """End a worker that may be stopped: through Ray, and by SIGKILL if it is on this machine."""
    if actor is not None:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(actor)
    if pid and address == ray.util.get_node_ip_address():  # type: ignore[no-untyped-call]
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _key(trial: Trial) -> str:
    return str(trial.config["key"])
