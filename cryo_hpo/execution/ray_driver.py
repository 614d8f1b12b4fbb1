"""Start or join a Ray cluster, and run jobs on it through Tune."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..data.progress_log import opened
from ..errors import ClusterDied, StorageError

# Ray and Tune read these when they are imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the study keeps its own records
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")  # a diverged trial has none
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # the study handles it, see signals.py
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "86400")  # Optuna's storage has the trials
os.environ.setdefault(
    "TUNE_MAX_PENDING_TRIALS_PG", "1024"
)  # `_JobSearcher` submits no more than fit
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")  # a job may set what WORKER_ENV sets

if not os.environ.get("RAY_ADDRESS"):
    # The local cluster requires a token made for this process: no other user of the machine can run
    # code through it, and nothing is written to the home directory.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # Ray's name for "this node stays 127.0.0.1": else its ports listen on every interface.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

import ray
from ray import cloudpickle, tune
from ray.exceptions import RayTaskError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from ..results.epochs import EPOCH, MIOU_SCORE, SCORE
from ..search.jobs import MESSAGE, OUTCOME, Job, Outcome, Source
from .attempts import Attempts
from .environment import MAX_SOCKET, SOCKET, raise_open_files
from .executor import RETRIES as RETRIES
from .positions import WorkerPositions
from .ray_hanging import HangCallback
from .ray_start import end_dead_cluster, own_processes, start_ray
from .ray_watch import RESUMES, raise_if_dead, watching
from .ray_worker import NOTES, work
from .scratch import private_folder
from .signals import raise_if_asked
from .slots import SlotBudget, registered_study, requested_capacity
from .slots import slots_for as slots_for  # Ray must find the environment set above

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from ..config import Site
    from .executor import TrialResources

log = logging.getLogger(__name__)

SCRATCH, SESSION = ".tune-", "cryo-"  # beginnings of the names of scratch folders
SHORT = Path("/tmp")
POLL_S = 0.2  # between two checks for a request to stop
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
OBJECT_STORE = 100 * 2**20  # bytes: pixels are shared through the page cache, not through Ray
WORKER_ENV = {
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",  # a trial may take this long to write its checkpoint
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


@contextlib.contextmanager
def cluster() -> Iterator[None]:
    """Join the cluster of RAY_ADDRESS, or start a local one that ends with this process."""
    local: dict[str, Any] = {
        "address": "local",  # else Ray would join any cluster that runs on this machine
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE,
    }
    joins = bool(os.environ.get("RAY_ADDRESS"))
    raise_open_files()
    with contextlib.nullcontext() if joins else _private_session():
        start_ray(joins=joins, runtime_env={"env_vars": WORKER_ENV}, **({} if joins else local))
        # Tune prints the traceback of every failed attempt; the study reports how a trial ended.
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        with watching({} if joins else own_processes()) as watch:
            try:
                with registered_study():
                    yield
            finally:
                if watch.problem:
                    end_dead_cluster()
                else:
                    ray.shutdown()


def run(
    source: Source,
    *,
    site: Site,
    slots: TrialResources,
    train: Callable[..., None] = work,
) -> None:
    """Run the jobs of a source until it has no more.

    Args:
        source: Hands out jobs, records every epoch, and decides (see `jobs.Source`).
        site: Locations of data, weights and cache for the workers.
        slots: Resources of each job, and how many run at a time.
        train: Function that a worker runs; a simulation replays curves instead.

    Raises:
        StorageError: The scratch folder of Tune cannot be written.
        CryoError: The source raised it.
    """
    kept, positions = _FirstErrorKept(Attempts(source)), WorkerPositions()
    trainable = tune.with_resources(
        tune.with_parameters(
            train, site=site.model_copy(update={"optuna": None}), cpus=slots.cpus, gpus=slots.gpus
        ),
        {"cpu": slots.cpus, "gpu": slots.gpus},
    )
    with (
        _scratch(site.storage) as scratch,
        kept.raising(),
        requested_capacity(slots),
        opened(positions),
    ):
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                num_samples=-1,
                reuse_actors=True,
                search_alg=_JobSearcher(kept, budget=SlotBudget(slots)),
                scheduler=_RungScheduler(kept),
                trial_name_creator=_key,
                trial_dirname_creator=_dirname,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(scratch),
                verbose=0,
                callbacks=[_OutcomeCallback(kept), HangCallback(slots, positions)],
                failure_config=tune.FailureConfig(max_failures=0),  # `Attempts` retries
            ),
        ).fit()


@contextlib.contextmanager
def _scratch(storage: Path) -> Iterator[Path]:
    """Make a folder for Tune's own files, which is removed afterwards."""
    with contextlib.ExitStack() as stack:
        try:
            storage.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(private_folder(storage, SCRATCH))
        except OSError as error:
            message = (
                f"CRYO_STORAGE: cannot write to '{storage}': {error}. "
                "Set it to a folder that can be written."
            )
            raise StorageError(message) from error
        yield folder


@contextlib.contextmanager
def _private_session() -> Iterator[None]:
    """Let Ray's local cluster keep its session in a folder that only this user can enter.

    Ray's own folder below the temporary files is open to all users. A folder that RAY_TMPDIR names
    is used as it is.
    """
    if os.environ.get("RAY_TMPDIR"):
        yield
        return
    with private_folder(session_parent(Path(tempfile.gettempdir())), SESSION) as folder:
        os.environ["RAY_TMPDIR"] = str(folder)
        try:
            yield
        finally:
            os.environ.pop("RAY_TMPDIR", None)


def session_parent(folder: Path) -> Path:
    """Return the folder of Ray's session; /tmp where the paths of its sockets would be too long."""
    too_long = len(os.fsencode(folder)) + len(SESSION) + SOCKET > MAX_SOCKET
    return SHORT if too_long and os.access(SHORT, os.W_OK) else folder


def _job(trial: Trial) -> Job:
    return Job(**trial.config)


def _key(trial: Trial) -> str:
    return str(trial.config["key"])


def _dirname(trial: Trial) -> str:
    return f"{_key(trial)}-{trial.trial_id}"


class _FirstErrorKept:
    """Keep the first error of a source: Tune would raise its own error instead."""

    def __init__(self, source: Attempts) -> None:
        self._source = source
        self._error: Exception | None = None

    def next(self) -> Job | Literal["wait"] | None:
        """See `Source`."""
        with self._keeping():
            return self._source.next()

    def epoch(self, job: Job, metrics: Mapping[str, float]) -> bool:
        """See `Source`."""
        with self._keeping():
            return self._source.epoch(job, metrics)

    def ended(self, job: Job, outcome: Outcome | Literal["died"], message: str) -> None:
        """See `Attempts`."""
        with self._keeping():
            self._source.ended(job, outcome, message)

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
            raise_if_dead()
            if isinstance(error, (ray.exceptions.RayError, ConnectionError)):
                text = str(error).strip().partition("\n")[0] or type(error).__name__
                raise ClusterDied(f"Ray failed: {text.rstrip('.')}. {RESUMES}") from error
            if getattr(error, "errno", None) in NO_ROOM:
                message = (
                    f"CRYO_STORAGE has no room left ({error}). Free space, then run the same "
                    "command again: it resumes from the last checkpoint."
                )
                raise StorageError(message) from error
            raise

    @contextlib.contextmanager
    def _keeping(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._error = self._error or error
            raise


class _Stateless:
    """Keep the study out of Tune's snapshots, which are never read."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _JobSearcher(_Stateless, Searcher):
    """Hand the source's jobs to Tune."""

    def __init__(self, source: Source, *, budget: Callable[[], int]) -> None:
        super().__init__(metric=MIOU_SCORE, mode="max")
        self._source, self._budget = source, budget
        self._running: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        """Return a config, None or "FINISHED".

        No job is taken from the source before a trial fits: a later proposal has seen more
        results. Tune's own limit is fixed when it starts, and nodes come and go.
        """
        if len(self._running) >= self._budget():
            return None
        job = self._source.next()
        if job == "wait":
            return None
        if job is None:
            return str(Searcher.FINISHED)
        self._running.add(trial_id)
        return asdict(job)

    def on_trial_complete(self, trial_id: str, *_: Any, **__: Any) -> None:
        """Free the slot; `_OutcomeCallback` reports the outcome, since it has the job."""
        self._running.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the state of a search is in Optuna's storage."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: a study resumes in a fresh Tuner."""


class _RungScheduler(_Stateless, FIFOScheduler):
    """Let the source decide after every epoch whether the trial continues.

    A trial that is paused at a rung ends for Tune and restarts from its own checkpoint when it is
    promoted. Tune's PAUSE would hold the trial in Tune's memory, which a crash loses.
    """

    def __init__(self, source: Source) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._source = source

    def on_trial_result(self, _: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        for note in result.get(NOTES, ()):
            log.warning("%s: %s", _key(trial), note)
        if OUTCOME in result:
            return str(TrialScheduler.CONTINUE)
        continues = self._source.epoch(_job(trial), _numbers(result))
        return str(TrialScheduler.CONTINUE if continues else TrialScheduler.STOP)


class _OutcomeCallback(_Stateless, tune.Callback):
    """Report a job's outcome to the source."""

    def __init__(self, source: _FirstErrorKept) -> None:
        self._source = source

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Raise on a request to stop; Tune calls this ten times a second, between its events."""
        raise_if_dead()
        raise_if_asked()

    def on_trial_complete(self, *_: Any, trial: Trial, **__: Any) -> None:  # type: ignore[override]
        """Report a trial that ended by itself, or was stopped by the scheduler."""
        last = trial.last_result or {}
        self._source.ended(_job(trial), last.get(OUTCOME, "done"), last.get(MESSAGE, ""))

    def on_trial_error(self, *_: Any, trial: Trial, **__: Any) -> None:  # type: ignore[override]
        """Report an attempt that failed: its training crashed, or its worker died."""
        self._source.ended(_job(trial), *_cause(trial))


def _cause(trial: Trial) -> tuple[Literal["crashed", "died"], str]:
    """Return whether a failed attempt raised an error itself or its worker died, and the message."""
    error: object = None
    if trial.pickled_error_file and Path(trial.pickled_error_file).exists():
        try:
            error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        except Exception:  # the error's class is missing here: its text is in the other file
            log.debug("%s: its error cannot be unpickled", _key(trial), exc_info=True)
    if isinstance(error, RayTaskError):
        cause = error.cause if isinstance(error.cause, BaseException) else error
        return "crashed", traceback.format_exception_only(cause)[-1].strip()
    if error is None and trial.error_file and Path(trial.error_file).exists():
        error = Path(trial.error_file).read_text(encoding="utf-8").strip()
        lines = str(error).splitlines()
        return "died", lines[-1] if lines else "no message"
    return "died", str(error).strip().partition("\n")[0] or type(error).__name__


def _numbers(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the training's own metrics among those that Tune adds, with its node and process."""
    ours = {EPOCH, "train_loss", "lr", "seconds", "data_seconds", "peak_gib", "collapsed"}
    ours |= {MIOU_SCORE, SCORE, "micro_batch"}
    kept = {k: v for k, v in result.items() if k in ours or k.startswith("val_")}
    return {**kept, "node": result.get("node_ip"), "pid": result.get("pid")}
