"""Budget the trials of a study that may run now: the study's share of the cluster.

Nodes join and leave while a study runs, and other studies come and go, so the budget is recomputed
all the time. Every driver on a shared cluster keeps a named actor of no resources; the number of
actors is the number of studies, and each study takes its share. An actor dies with its driver.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import ray
from ray.autoscaler.sdk import request_resources

from .executor import TrialResources, fit_resources

if TYPE_CHECKING:
    from ..config import Resources

NAMESPACE = "cryo_hpo"
LOOK_S = 1.0  # between two queries of the cluster; each is a call to the head


def slots_for(resources: Resources, parallel: int | None) -> TrialResources:
    """Return the resources of each trial on the cluster.

    Raises:
        SpecError: One trial requests more than any node has.
    """
    return fit_resources(resources, parallel, _nodes(), where="the cluster's nodes have")


class SlotBudget:
    """Count the packs of trials that may run now; each takes the resources of one trial."""

    def __init__(self, slots: TrialResources) -> None:
        self._slots = slots
        self._num_packs, self._until = 1, 0.0

    def __call__(self) -> int:
        """Return the number of packs, at least 1, as it was at most `LOOK_S` ago."""
        if time.monotonic() >= self._until:
            fits = sum(trials_fitting(node, self._slots) for node in _nodes())
            self._num_packs = fair_share(
                fits, studies=max(1, _num_studies()), parallel=self._slots.packs
            )
            self._until = time.monotonic() + LOOK_S
        return self._num_packs


def trials_fitting(node: dict[str, float], slots: TrialResources) -> int:
    """Return the number of trials that fit on a node; a trial lies on one node."""
    by_cpu = int(node.get("CPU", 0)) // slots.cpus
    if not slots.gpus:
        return by_cpu
    # A share lies on one card: three of 0.3 fit on each. A tolerance, since 0.1 is not exact.
    return min(by_cpu, int(node.get("GPU", 0.0)) * int(1 / slots.gpus + 1e-9))


def fair_share(fits: int, *, studies: int, parallel: int | None) -> int:
    """Return a study's part of the trials that fit: equal parts, rounded up, at least one."""
    part = max(1, -(-fits // studies))
    return part if parallel is None else min(part, parallel)


@contextlib.contextmanager
def registered_study() -> Iterator[None]:
    """Count this study among those of a shared cluster; a local cluster has only one."""
    if not os.environ.get("RAY_ADDRESS"):
        yield
        return
    remote: Any = ray.remote
    name = f"study-{secrets.token_hex(8)}"
    sign = remote(_StudyPresence).options(num_cpus=0, namespace=NAMESPACE, name=name).remote()
    ray.get(sign.ping.remote())
    try:
        yield
    finally:
        with contextlib.suppress(Exception):  # the cluster may be gone already
            ray.kill(sign)


@contextlib.contextmanager
def requested_capacity(slots: TrialResources) -> Iterator[None]:
    """Request capacity for all parallel trials from a cluster that can grow.

    Nothing is queued in Ray that does not fit (see `SlotBudget`), so its autoscaler would never
    see the demand. A cluster of a fixed size ignores the request.
    """
    if slots.packs is None or not os.environ.get("RAY_ADDRESS"):
        yield
        return
    trial = {"CPU": slots.cpus, **({"GPU": slots.gpus} if slots.gpus else {})}
    request_resources(bundles=[trial] * slots.packs)
    try:
        yield
    finally:
        with contextlib.suppress(Exception):  # the cluster may be gone already
            request_resources(bundles=[])


class _StudyPresence:
    """Mark a running study by existing."""

    def ping(self) -> bool:
        return True


def _num_studies() -> int:
    if not os.environ.get("RAY_ADDRESS"):
        return 1
    named = ray.util.list_named_actors(all_namespaces=True)
    return sum(actor["namespace"] == NAMESPACE for actor in named)


def _nodes() -> list[dict[str, float]]:
    """Return the resources of every node that is alive."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["Resources"] for node in nodes if node["Alive"]]
