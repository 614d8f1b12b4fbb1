"""Let Tune run a source's jobs: hand them out, record epochs, decide, report how they end."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ray import cloudpickle, tune
from ray.exceptions import RayTaskError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from ..errors import StorageError
from ..results.epochs import EPOCH, MIOU_SCORE, SCORE, TOGETHER
from ..search.jobs import MESSAGE, OUTCOME, Job
from ..storage.no_room import is_no_room
from .packs import Attempt, Pack, Packs
from .ray_start import raise_if_failed
from .ray_watch import raise_if_dead
from .ray_worker import JOBS, KEY, NOTES
from .signals import raise_if_asked

if TYPE_CHECKING:
    from ray.actor import ActorHandle

RESET_S = 60  # a trial that was stopped may take so long to write its checkpoint

log = logging.getLogger(__name__)


def config_of(pack: Pack) -> dict[str, Any]:
    """Return the config of a pack's trial: the fields of its job, or those of each of several."""
    if pack.is_single:
        return asdict(pack.jobs[0])
    folder = pack.jobs[0].workdir
    return {"key": pack.name, "workdir": folder, JOBS: [asdict(job) for job in pack.jobs]}


def _pack(trial: Trial) -> Pack:
    return Pack(tuple(Job(**fields) for fields in trial.config.get(JOBS, [trial.config])))


def key_of(trial: Trial) -> str:
    """Return the key of a trial's job, or the name of its pack."""
    return str(trial.config["key"])


def dirname_of(trial: Trial) -> str:
    """Return the name of Tune's own folder of a trial."""
    return f"{key_of(trial)}-{trial.trial_id}"


class FirstErrorKept:
    """Keep the first error of a source: Tune would raise its own error instead."""

    def __init__(self, packs: Packs) -> None:
        self._packs = packs
        self._error: Exception | None = None

    def next(self) -> Pack | Literal["wait"] | None:
        """See `Packs`."""
        with self._keeping():
            return self._packs.next()

    def report(self, pack: Pack, key: str, report: Mapping[str, Any]) -> bool:
        """See `Packs`."""
        with self._keeping():
            return self._packs.report(pack, key, report)

    def ended(self, pack: Pack, outcome: Attempt, message: str) -> None:
        """See `Packs`."""
        with self._keeping():
            self._packs.ended(pack, outcome, message)

    def raise_kept(self) -> None:
        """Raise the first error again: Tune takes one that a trial's end raises for that trial's."""
        if self._error is not None:
            raise self._error

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Raise the source's own error in place of Tune's.

        Raises:
            StorageError: Tune has no room for its own files.
        """
        try:
            yield
        except Exception as error:
            if self._error is not None:
                raise self._error from None
            raise_if_failed(error)
            if is_no_room(error):
                message = (
                    f"CRYO_STORAGE cannot be written ({error}). Free space or make it writable, "
                    "then run the same command again: it resumes from the last checkpoint."
                )
                raise StorageError(message) from error
            raise

    @contextlib.contextmanager
    def _keeping(self) -> Iterator[None]:
        self.raise_kept()
        try:
            yield
        except Exception as error:
            self._error = self._error or error
            raise


class _Stateless:
    """Keep the study out of Tune's snapshots, which are never read."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class JobSearcher(_Stateless, Searcher):
    """Hand the source's packs to Tune."""

    def __init__(self, packs: FirstErrorKept, *, budget: Callable[[], int]) -> None:
        super().__init__(metric=MIOU_SCORE, mode="max")
        self._packs, self._budget = packs, budget
        self._running: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        """Return a config, None or "FINISHED".

        No job is taken from the source before a trial fits: a later proposal has seen more
        results. Tune's own limit is fixed when it starts, and nodes come and go.
        """
        if len(self._running) >= self._budget():
            return None
        pack = self._packs.next()
        if pack == "wait":
            return None
        if pack is None:
            return str(Searcher.FINISHED)
        self._running.add(trial_id)
        return config_of(pack)

    def on_trial_complete(self, trial_id: str, *_: Any, **__: Any) -> None:
        """Free the slot; `OutcomeCallback` reports the outcome, since it has the job."""
        self._running.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the state of a search is in Optuna's storage."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: a study resumes in a fresh Tuner."""


class RungScheduler(_Stateless, FIFOScheduler):
    """Let the source decide after every epoch whether the trial continues.

    A trial that is paused at a rung ends for Tune and restarts from its own checkpoint when it is
    promoted. Tune's PAUSE would hold the trial in Tune's memory, which a crash loses.
    """

    def __init__(self, packs: FirstErrorKept) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._packs = packs
        self._controller: Any = None

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002
        """Keep Tune's controller, which knows the actors."""
        self._controller = getattr(tune_controller, "_tune_controller", None)

    def actor_of(self, trial: Trial) -> ActorHandle[Any] | None:
        """Return a trial's actor; None: it waits for resources.

        Tune shows an actor only once it has answered; one that hangs before is in its own tables.
        """
        if trial.temporary_state.ray_actor is not None:
            return trial.temporary_state.ray_actor
        with contextlib.suppress(AttributeError, KeyError):
            actor = self._controller._trial_to_actor[trial]
            live = self._controller._actor_manager._live_actors_to_ray_actors_resources
            return live[actor][0]  # type: ignore[no-any-return]
        return None

    def on_trial_result(self, _: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        """Return whether the trial continues."""
        for note in result.get(NOTES, ()):
            log.warning("%s: %s", key_of(trial), note)
        key, report = result.get(KEY, key_of(trial)), _numbers(result)
        if OUTCOME in result:
            report = {OUTCOME: result[OUTCOME], MESSAGE: result[MESSAGE]}
        continues = self._packs.report(_pack(trial), key, report)
        ends_itself = OUTCOME in result or JOBS in trial.config
        return str(TrialScheduler.CONTINUE if continues or ends_itself else TrialScheduler.STOP)


class OutcomeCallback(_Stateless, tune.Callback):
    """Report how a pack ended to the source."""

    def __init__(self, packs: FirstErrorKept, searcher: JobSearcher) -> None:
        self._packs, self._searcher = packs, searcher
        self._failed: set[str] = set()

    def on_step_begin(self, *_: Any, trials: list[Trial], **__: Any) -> None:  # type: ignore[override]
        """Raise on a request to stop, or what Tune took for a trial's error.

        Tune calls this ten times a second, between its events.
        """
        raise_if_dead()
        raise_if_asked()
        self._packs.raise_kept()
        for trial in trials:  # Tune calls nothing for a trial whose worker could not be reset
            if trial.status == Trial.ERROR and trial.trial_id not in self._failed:
                self._failed.add(trial.trial_id)
                self._searcher.on_trial_complete(trial.trial_id)
                why = f"it had not ended its training before within {RESET_S} s"
                self._packs.ended(_pack(trial), "died", why)

    def on_trial_complete(self, *_: Any, trial: Trial, **__: Any) -> None:  # type: ignore[override]
        """Report a trial that ended by itself, or was stopped by the scheduler."""
        self._packs.ended(_pack(trial), "done", "")

    def on_trial_error(self, *_: Any, trial: Trial, **__: Any) -> None:  # type: ignore[override]
        """Report an attempt that failed: its training crashed, or its worker died."""
        self._failed.add(trial.trial_id)
        self._packs.ended(_pack(trial), *_cause(trial))


def _cause(trial: Trial) -> tuple[Literal["crashed", "died"], str]:
    """Return whether a failed attempt raised an error itself or its worker died, and the message."""
    error: object = None
    if trial.pickled_error_file and Path(trial.pickled_error_file).exists():
        try:
            error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        except Exception:  # the error's class is missing here: its text is in the other file
            log.debug("%s: its error cannot be unpickled", key_of(trial), exc_info=True)
    if isinstance(error, RayTaskError):
        cause = error.cause if isinstance(error.cause, BaseException) else error
        return "crashed", traceback.format_exception_only(cause)[-1].strip()
    if error is None and trial.error_file and Path(trial.error_file).exists():
        error = Path(trial.error_file).read_text(encoding="utf-8").strip()
        lines = str(error).splitlines()
        return "died", lines[-1] if lines else "no message"
    return "died", str(error).strip().partition("\n")[0] or type(error).__name__


def _numbers(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the training's own metrics among those that Tune adds, with its node and process."""
    ours = {EPOCH, "train_loss", "lr", "seconds", "data_seconds", "peak_gib", "collapsed"}
    ours |= {MIOU_SCORE, SCORE, TOGETHER, "micro_batch"}
    kept = {k: v for k, v in result.items() if k in ours or k.startswith("val_")}
    return {**kept, "node": result.get("node_ip"), "pid": result.get("pid")}
