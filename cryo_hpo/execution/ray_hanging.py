"""Report trials of Tune whose worker hangs, and end such workers where the study says so."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune.experiment import Trial

from ..results.epochs import TOGETHER
from .hanging import HangWatch
from .positions import WorkerPositions
from .ray_tune import key_of

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from .executor import TrialResources

log = logging.getLogger(__name__)


class HangCallback(tune.Callback):
    """Watch the trials of a study for silence; see `HangWatch`.

    A stopped process, a stuck GPU or a mount that does not answer raises nothing: only the missing
    epochs show it. An ended worker is a death, which never fails a trial.
    """

    def __init__(
        self,
        slots: TrialResources,
        actor_of: Callable[[Trial], ActorHandle[Any] | None],
        positions: WorkerPositions,
    ) -> None:
        """Set the limit, and how actors are found.

        Args:
            slots: Limit, and whether a worker that hangs is ended.
            actor_of: Returns a trial's actor, from its creation on; None: it waits for resources.
            positions: Where running trials write how far they are.
        """
        self._restart, self._actor_of, self._positions = slots.restart, actor_of, positions
        self._watch = HangWatch(slots.hang_s)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune's snapshots are never read

    def on_step_begin(self, iteration: int, trials: list[Trial], **_: Any) -> None:  # noqa: ARG002
        """Report trials that hang; Tune calls this ten times a second."""
        for trial in trials:  # Tune reports a start only once the actor has answered
            if trial.status == Trial.PENDING and key_of(trial) not in self._watch:
                self._watch_start(trial)
        for key, silent_s in self._watch.newly_silent():
            for trial in trials:
                if key_of(trial) == key and trial.status in (Trial.PENDING, Trial.RUNNING):
                    self._report(key, silent_s, self._actor_of(trial))

    def on_trial_start(self, *_: Any, trial: Trial, **__: Any) -> None:  # type: ignore[override]
        """Give a trial whose actor has answered the time to its first epoch."""
        self._watch.began(key_of(trial))
        self._positions.began(key_of(trial), Path(trial.config["workdir"]))

    def on_trial_result(  # type: ignore[override]
        self, *_: Any, trial: Trial, result: Mapping[str, Any], **__: Any
    ) -> None:
        """Note an epoch; its seconds are a training's share of those of its pack."""
        seconds = float(result.get("seconds") or 0.0) * float(result.get(TOGETHER) or 1)
        self._watch.epoch(key_of(trial), seconds)

    def on_trial_complete(self, *_: Any, trial: Trial, **__: Any) -> None:  # type: ignore[override]
        """Watch a trial no longer."""
        self._forget(key_of(trial))

    def on_trial_error(self, *_: Any, trial: Trial, **__: Any) -> None:  # type: ignore[override]
        """Watch a trial no longer."""
        self._forget(key_of(trial))

    def _forget(self, key: str) -> None:
        self._watch.ended(key)
        self._positions.ended(key)

    def _watch_start(self, trial: Trial) -> None:
        """Watch a trial from the creation or the reset of its actor."""
        if self._actor_of(trial) is not None:
            self._watch.began(key_of(trial))

    def _report(self, key: str, silent_s: float, actor: ActorHandle[Any] | None) -> None:
        remedy = (
            "It is ended, and the training starts again from its last checkpoint."
            if self._restart
            else "Look at its process, its GPU and its disks; with `resources: {hanging: restart}` such "
            "a worker is ended, and its training starts again."
        )
        text = "%s has reported no epoch for %.3g min: its worker%s hangs. %s"
        log.warning(text, key, silent_s / 60, _place(actor), remedy)
        if self._restart and actor is not None:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(actor)  # its node ends a process that does not answer by SIGKILL


def _place(actor: ActorHandle[Any] | None) -> str:
    """Return an actor's process and node as a part of a message; "" where Ray does not answer."""
    with contextlib.suppress(Exception):  # an interface of Ray without a promise
        facts = ray._private.state.actors(actor._actor_id.hex())  # type: ignore[union-attr]
        if pid := int(facts["Pid"]):
            return f", process {pid} on {facts['Address']['IPAddress']},"
    return ""
