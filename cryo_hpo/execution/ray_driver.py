"""Start or join a Ray cluster, and run jobs on it through Tune."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.progress_log import opened
from ..errors import StorageError

# Ray and Tune read these when they are imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the study keeps its own records
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")  # a diverged trial has none
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # the study handles it, see signals.py
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "86400")  # Optuna's storage has the trials
os.environ.setdefault("TUNE_FORCE_TRIAL_CLEANUP_S", "60")  # a worker that hangs keeps its resources
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "1024")  # `JobSearcher`: no more than fit
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
from ray import tune

from ..search.jobs import Source
from .attempts import Attempts
from .environment import MAX_SOCKET, SOCKET, raise_open_files
from .packs import Packs
from .positions import WorkerPositions
from .ray_hanging import HangCallback
from .ray_start import end_dead_cluster, own_processes, servers, start_ray
from .ray_tune import (
    RESET_S,
    FirstErrorKept,
    JobSearcher,
    OutcomeCallback,
    RungScheduler,
    dirname_of,
    key_of,
)
from .ray_watch import JOINED, LOCAL, probes_of, watching
from .ray_worker import work
from .scratch import private_folder
from .slots import SlotBudget, registered_study, requested_capacity
from .slots import slots_for as slots_for  # Ray must find the environment set above

if TYPE_CHECKING:
    from ..config import Site
    from .executor import TrialResources

log = logging.getLogger(__name__)

SCRATCH, SESSION = ".tune-", "cryo-"  # beginnings of the names of scratch folders
SHORT = Path("/tmp")
POLL_S = 0.2  # between two checks for a request to stop
OBJECT_STORE = 100 * 2**20  # bytes: pixels are shared through the page cache, not through Ray
WORKER_ENV = {
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": str(RESET_S),
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
        probes = probes_of(*((own_processes(), {}) if not joins else ({}, servers())))
        with watching(probes, patience=JOINED if joins else LOCAL) as watch:
            try:
                with registered_study():
                    yield
            except KeyboardInterrupt:
                watch.raise_if_dead()  # the watch itself requested the stop
                raise
            finally:
                if watch.problem:
                    end_dead_cluster()
                else:
                    watch.close()  # else Ray's own shutdown would look like a death
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
        slots: Resources of each pack of jobs, and how many run at a time.
        train: Function that a worker runs; a simulation replays curves instead.

    Raises:
        StorageError: The scratch folder of Tune cannot be written.
        CryoError: The source raised it.
    """
    kept = FirstErrorKept(Packs(Attempts(source), most=slots.pack))
    positions = WorkerPositions()
    trainable = tune.with_resources(
        tune.with_parameters(
            train, site=site.model_copy(update={"optuna": None}), cpus=slots.cpus, gpus=slots.gpus
        ),
        {"cpu": slots.cpus, "gpu": slots.gpus},
    )
    searcher, scheduler = JobSearcher(kept, budget=SlotBudget(slots)), RungScheduler(kept)
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
                search_alg=searcher,
                scheduler=scheduler,
                trial_name_creator=key_of,
                trial_dirname_creator=dirname_of,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(scratch),
                verbose=0,
                callbacks=[
                    OutcomeCallback(kept, searcher),
                    HangCallback(slots, scheduler.actor_of, positions),
                ],
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
