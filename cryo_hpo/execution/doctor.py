"""Examine every node of the cluster."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import ray_driver as driver  # first: it sets what Ray reads when it is imported

# isort: split
import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..errors import SpecError
from ..training.build import refuse_old_card
from ..training.checkpoint_store import probe_store
from .node import Node, examine

if TYPE_CHECKING:
    from ..config import Site

WAIT_S = 60.0  # a node that does not answer within this is reported as silent


def examined(site: Site) -> tuple[list[Node], list[str]]:
    """Return the facts of every node, and the addresses of the nodes that do not answer.

    Without a RAY_ADDRESS only this machine is examined, and no Ray is started for it.
    """
    with _mark(site.storage) as mark:
        if not os.environ.get("RAY_ADDRESS"):
            return [_corrected(_look("here", site, mark), sent_at=time.time(), gpus=0.0)], []
        with driver.cluster():
            return _ask_all(site, mark)


def _ask_all(site: Site, mark: str) -> tuple[list[Node], list[str]]:
    remote: Any = ray.remote(num_cpus=0)
    task = remote(_look)
    nodes, silent = [], []
    for member in _alive():
        address = member["NodeManagerAddress"]
        where = NodeAffinitySchedulingStrategy(member["NodeID"], soft=False)
        sent_at = time.time()
        try:
            node = ray.get(
                task.options(scheduling_strategy=where).remote(address, site, mark), timeout=WAIT_S
            )
        except ray.exceptions.RayError:
            silent.append(address)
            continue
        nodes.append(_corrected(node, sent_at=sent_at, gpus=member["Resources"].get("GPU", 0.0)))
    return nodes, silent


def _look(address: str, site: Site, mark: str) -> Node:
    site = site.on_node(os.environ)
    gpus = tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    node = examine(
        address=address,
        storage=site.storage,
        cache=site.cache,
        data=site.data,
        mark=mark,
        gpus=gpus,
    )
    problem = _card_problem() if gpus else ""
    supported = torch.cuda.is_bf16_supported
    return replace(
        node,
        store_problem=probe_store(site),
        card_problem=problem,
        emulates_bf16=bool(gpus) and not problem and not supported(including_emulation=False),
    )


def _card_problem() -> str:
    """Return why torch cannot compute on this node's GPU; empty if it can."""
    if not torch.cuda.is_available():
        return (
            f"torch names a GPU and cannot use it: its driver is too old for this torch (CUDA "
            f"{torch.version.cuda}), or broken. Update the driver."
        )
    try:
        refuse_old_card()
    except SpecError as error:
        return str(error)
    return ""


def _corrected(node: Node, *, sent_at: float, gpus: float) -> Node:
    """Fill in the promised GPUs and the clock skew, 0 if the call's own duration explains it."""
    clock, now = node.skew_s, time.time()
    skew = 0.0 if sent_at <= clock <= now else clock - (sent_at if clock < sent_at else now)
    return replace(node, skew_s=skew, promised_gpus=float(gpus))


def _alive() -> list[dict[str, Any]]:
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    alive = [node for node in nodes if node["Alive"]]
    own = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return sorted(alive, key=lambda n: (n["NodeManagerAddress"] != own, n["NodeManagerAddress"]))


@contextlib.contextmanager
def _mark(storage: Path) -> Iterator[str]:
    """Keep a mark file on the storage while the nodes are examined."""
    path = storage / f".doctor-{secrets.token_hex(8)}"
    with contextlib.suppress(OSError):  # each node reports its own storage problem
        storage.mkdir(parents=True, exist_ok=True)
        path.write_text("mark", encoding="utf-8")
    try:
        yield path.name
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
