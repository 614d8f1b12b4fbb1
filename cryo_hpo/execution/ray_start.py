"""Start Ray, and end what is left of a local cluster that died."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import logging
import os
import sys
from typing import Any

import ray
from ray import tune

from ..errors import ClusterDied
from .ray_watch import RESUMES, children, kill_rays_children, raise_if_dead

VITAL = ("raylet", "gcs_server")

_died = False  # whether a cluster of this process has died


def start_ray(*, joins: bool, **settings: Any) -> None:
    """Start or join Ray.

    Args:
        joins: Whether the cluster of RAY_ADDRESS is joined, not a local one started.
        settings: Arguments of `ray.init`.

    Raises:
        ClusterDied: Ray did not start, or the cluster does not answer.
    """
    if _died:
        message = (
            "Ray died in this process and cannot start in it again. Start a new one (in a notebook: restart "
            "its kernel), or train without Ray: `inline=True`. Nothing is lost."
        )
        raise ClusterDied(message)
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, **settings)
    except Exception as error:  # Ray raises a bare Exception where its processes do not come up
        text = (str(error) or type(error).__name__).strip().splitlines()[0].rstrip(".")
        remedy = (
            "Check RAY_ADDRESS and `ray status` there."
            if joins
            else "The machine may be overloaded, or have too little memory, shared memory or open files: "
            "`cryo-hpo doctor` checks them; `--inline` trains without Ray."
        )
        raise ClusterDied(f"Ray did not start: {text}. {remedy} Nothing is lost.") from error


def raise_if_failed(error: Exception) -> None:
    """Raise if an error is Ray's own, not one that a task raised.

    Raises:
        ClusterDied: It is, or a process of the local cluster has died.
    """
    raise_if_dead()
    if isinstance(error, ray.exceptions.RayTaskError):
        return
    if isinstance(error, (ray.exceptions.RayError, ConnectionError)):
        text = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ClusterDied(f"Ray failed: {text.rstrip('.')}. {RESUMES}") from error


def own_processes() -> dict[str, int]:
    """Return name -> number of the local cluster's processes without which nothing runs."""
    return {
        name: pid
        for pid, command in children(os.getpid()).items()
        for name in VITAL
        if f"/{name}" in command.partition(" ")[0]
    }


def servers() -> dict[str, str]:
    """Return name -> address of the servers of a joined cluster without which nothing runs.

    Ray itself ends a driver without a word if its head is away for a minute.
    """
    if os.environ.get("RAY_ADDRESS", "").startswith("ray://"):
        return {}  # a client's only server is the one it connects to
    context = ray.get_runtime_context()
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    own = next((node for node in nodes if node["NodeID"] == context.get_node_id()), None)
    raylet = f"{own['NodeManagerAddress']}:{own['NodeManagerPort']}" if own else ""
    gcs = {"gcs_server": str(context.gcs_address)}
    return {**gcs, "raylet": raylet} if raylet else gcs


def end_dead_cluster() -> None:
    """End what is left of a cluster that died, and let this process end without Ray.

    Ray's own shutdown, and what Ray does at the end of a process, wait for the dead.
    """
    kill_rays_children()
    global _died
    _died = True
    atexit.unregister(ray.shutdown)
    with contextlib.suppress(AttributeError):  # it would take Tune's names from a dead store
        atexit.unregister(tune.registry._unregister_all)
    with contextlib.suppress(AttributeError):  # Ray's own: it would report the error to the dead
        worker = ray._private.worker
        if sys.excepthook is worker.custom_excepthook:
            sys.excepthook = worker.normal_excepthook
    with contextlib.suppress(AttributeError, OSError):  # only glibc has it
        libc = ctypes.CDLL(None)
        # Python has ended by then; destructors of Ray's library would wait for its threads.
        libc.on_exit(ctypes.cast(libc._exit, ctypes.c_void_p), None)
