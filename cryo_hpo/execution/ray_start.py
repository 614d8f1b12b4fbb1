"""Start Ray, and end what is left of a local cluster that died."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from typing import Any

import ray

from ..errors import ClusterDied
from .ray_watch import children

VITAL = ("raylet", "gcs_server")


def start_ray(*, joins: bool, **settings: Any) -> None:
    """Start or join Ray.

    Args:
        joins: Whether the cluster of RAY_ADDRESS is joined, not a local one started.
        settings: Arguments of `ray.init`.

    Raises:
        ClusterDied: Ray did not start, or the cluster does not answer.
    """
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


def own_processes() -> dict[str, int]:
    """Return name -> number of the local cluster's processes without which nothing runs."""
    return {
        name: pid
        for pid, command in children(os.getpid()).items()
        for name in VITAL
        if f"/{name}" in command.partition(" ")[0]
    }


def end_dead_cluster() -> None:
    """End what is left of a cluster that died: Ray's own shutdown would wait for the dead."""
    for pid, command in children(os.getpid()).items():
        if "/ray/" in command:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
