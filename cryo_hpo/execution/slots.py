"""How many trials of a study may run now: what the cluster has, shared among its studies.

Nodes join and leave while a study runs, and other studies come and go, so the answer is asked for
again and again. Every driver on a shared cluster keeps a named actor of no resources; their number
is the number of studies, and each takes its part of the room. An actor dies with its driver.
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

from .executor import Slots, fit_resources

if TYPE_CHECKING:
    from ..config import Resources

NAMESPACE = "cryo_hpo"
LOOK_S = 1.0  # between two looks at the cluster; each is a call to the head


def slots_for(resources: Resources, parallel: int | None) -> Slots:
    """Fit the study's wishes to the cluster that is there.

    Raises:
        SpecError: One trial asks for more than any node has.
    """
    return fit_resources(resources, parallel, _nodes(), where="the cluster's nodes have")


class Room:
    """How many trials may run now."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._known, self._until = 1, 0.0

    def __call__(self) -> int:
        """Return the number, at least 1, as it was at most `LOOK_S` ago."""
        if time.monotonic() >= self._until:
            fits = sum(fit(node, self._slots) for node in _nodes())
            self._known = share(fits, studies=max(1, _num_studies()), parallel=self._slots.parallel)
            self._until = time.monotonic() + LOOK_S
        return self._known


def fit(node: dict[str, float], slots: Slots) -> int:
    """Return how many trials fit on a node; a trial lies on one node."""
    by_cpu = int(node.get("CPU", 0)) // slots.cpus
    # a hair more, since shares like 0.1 are not exact
    by_gpu = int(node.get("GPU", 0.0) / slots.gpus + 1e-9) if slots.gpus else by_cpu
    return min(by_cpu, by_gpu)


def share(fits: int, *, studies: int, parallel: int | None) -> int:
    """Return a study's part of the trials that fit: equal parts, rounded up, at least one."""
    part = max(1, -(-fits // studies))
    return part if parallel is None else min(part, parallel)


@contextlib.contextmanager
def present() -> Iterator[None]:
    """Be counted among the studies of a shared cluster; a local one is ours alone."""
    if not os.environ.get("RAY_ADDRESS"):
        yield
        return
    remote: Any = ray.remote
    name = f"study-{secrets.token_hex(8)}"
    sign = remote(_Sign).options(num_cpus=0, namespace=NAMESPACE, name=name).remote()
    ray.get(sign.here.remote())
    try:
        yield
    finally:
        with contextlib.suppress(Exception):  # the cluster may have gone before us
            ray.kill(sign)


@contextlib.contextmanager
def asked(slots: Slots) -> Iterator[None]:
    """Ask a cluster that grows for as many trials as the study wants at a time.

    Nothing waits in Ray's queue that there is no room for (see `Room`), so its autoscaler would
    never see that more is wanted. On a cluster of a fixed size nobody hears this.
    """
    if slots.parallel is None or not os.environ.get("RAY_ADDRESS"):
        yield
        return
    trial = {"CPU": slots.cpus, **({"GPU": slots.gpus} if slots.gpus else {})}
    request_resources(bundles=[trial] * slots.parallel)
    try:
        yield
    finally:
        with contextlib.suppress(Exception):  # the cluster may have gone before us
            request_resources(bundles=[])


class _Sign:
    """Says that a study is at work, by being there."""

    def here(self) -> bool:
        return True


def _num_studies() -> int:
    if not os.environ.get("RAY_ADDRESS"):
        return 1
    named = ray.util.list_named_actors(all_namespaces=True)
    return sum(actor["namespace"] == NAMESPACE for actor in named)


def _nodes() -> list[dict[str, float]]:
    """The resources of every node that is alive."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["Resources"] for node in nodes if node["Alive"]]
