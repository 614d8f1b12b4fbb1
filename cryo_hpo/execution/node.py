"""Diagnose the nodes of a cluster before a study runs: facts of each node, and their problems.

Pure except for `examine`, which inspects the machine it is called on; `doctor` calls it on all.
"""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..results.provenance import environment
from .environment import environment_problems

SKEW_S = 2.0  # clocks further apart than this put events of one study into a wrong order
STORAGE_GIB, CACHE_GIB, SHM_GIB = 5.0, 5.0, 0.1  # below this a study is likely to run out
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Node:
    """Hold the facts of one node.

    Attributes:
        address: Address in the cluster; "here" without a cluster.
        host: Host name of the node.
        versions: Versions of Python and the packages that a study uses.
        gpus: Names of the GPUs that torch sees.
        promised_gpus: Number of GPUs that the cluster reports for the node.
        sees_mark: True if the node sees the file that the driver has just written to CRYO_STORAGE.
        storage_problem: Reason the node cannot write to CRYO_STORAGE; empty if it can.
        data_problem: Reason the node cannot read CRYO_DATA; empty if it can.
        lacks_data: True if there is no CRYO_DATA at all.
        free_gib: Free space of "storage", "cache" and "shared memory", GiB.
        skew_s: The node's clock minus the driver's, seconds.
        store_problem: Reason the node cannot use CRYO_CHECKPOINTS; None: that is not set, and
            nodes share CRYO_STORAGE.
        environment: Problems of limits, temporary files, clock and encoding.
        card_problem: Reason that torch cannot compute on the node's GPU; empty if it can.
        emulates_bf16: True if its GPU only emulates bf16.
    """

    address: str
    host: str
    versions: Mapping[str, str | None]
    gpus: tuple[str, ...]
    promised_gpus: float
    sees_mark: bool
    storage_problem: str
    data_problem: str
    free_gib: Mapping[str, float]
    skew_s: float
    store_problem: str | None = None
    environment: tuple[str, ...] = ()
    lacks_data: bool = False
    card_problem: str = ""
    emulates_bf16: bool = False


def examine(
    *,
    address: str,
    storage: Path,
    cache: Path,
    data: Path,
    mark: str,
    gpus: tuple[str, ...],
) -> Node:
    """Collect the facts of this machine, with its clock as `skew_s` and no promised GPUs.

    Args:
        address: Address in the cluster.
        storage: CRYO_STORAGE.
        cache: CRYO_CACHE of this node.
        data: CRYO_DATA.
        mark: Name of a file below `storage` that the driver has just written.
        gpus: Names of the GPUs that torch sees here.
    """
    packages = environment()["packages"]
    assert isinstance(packages, dict), "provenance says so"
    return Node(
        address=address,
        host=socket.gethostname(),
        versions={"python": platform.python_version(), **packages},
        gpus=gpus,
        promised_gpus=0.0,
        sees_mark=(storage / mark).exists(),
        storage_problem=_unwritable(storage),
        data_problem="" if os.access(data, os.R_OK | os.X_OK) else f"'{data}' cannot be read",
        free_gib={
            "storage": _free(storage),
            "cache": _free(cache),
            "shared memory": _free(Path("/dev/shm")),
        },
        skew_s=time.time(),
        lacks_data=not data.exists(),
        environment=tuple(environment_problems(os.environ, cache=cache)),
    )


def problems(nodes: Sequence[Node], *, needs_gpus: bool) -> list[str]:
    """Return the problems of the nodes, each with law, value and remedy; empty if there are none.

    Args:
        nodes: At least one; the first is where the driver runs.
        needs_gpus: True if a node without a GPU is a problem.
    """
    faults = list(_versions(nodes))
    if _has_no_data_yet(nodes):
        nodes = [replace(nodes[0], data_problem="")]
    for node in nodes:
        faults += [f"{node.address}: {text}" for text in _of(node, needs_gpus=needs_gpus)]
    return faults


def hints(nodes: Sequence[Node]) -> list[str]:
    """Return what is no problem and good to know: no data yet, and what a GPU only emulates."""
    texts = [
        f"{node.address}: {node.gpus[0]} only emulates bf16. `precision: auto` is fp32 there, and on "
        "newer GPUs bf16: a study should run on one kind, or set precision."
        for node in nodes
        if node.emulates_bf16
    ]
    if _has_no_data_yet(nodes):
        texts.append(
            f"There are no data yet: CRYO_DATA, {nodes[0].data_problem.partition(' cannot')[0]}, does not "
            "exist. Put data there, or let `cryo-hpo data generate` make some."
        )
    return texts


def _has_no_data_yet(nodes: Sequence[Node]) -> bool:
    return len(nodes) == 1 and nodes[0].lacks_data


def _versions(nodes: Sequence[Node]) -> Iterator[str]:
    for package in nodes[0].versions:
        seen = Counter(node.versions.get(package) for node in nodes)
        if len(seen) > 1:
            apart = [f"{n.address} {n.versions.get(package) or 'none'}" for n in nodes]
            yield (
                f"All nodes need one version of {package}, they have {', '.join(apart)}. "
                "Install all of them from the same requirements.lock, or the same image."
            )


def _of_storage(node: Node) -> Iterator[str]:
    if node.store_problem is not None:  # nodes share no disk: only the driver writes to its own
        if node.store_problem:
            yield node.store_problem
    elif node.storage_problem:
        yield f"CRYO_STORAGE must be writable from every node: {node.storage_problem}."
    elif not node.sees_mark:
        yield (
            "CRYO_STORAGE must be one disk for all nodes, and what the driver writes there is not "
            "seen here. Mount the same shared folder at the same path, or set CRYO_CHECKPOINTS to "
            "an object store."
        )


def _of(node: Node, *, needs_gpus: bool) -> Iterator[str]:
    yield from _of_storage(node)
    if node.data_problem:
        yield f"CRYO_DATA must be readable from every node: {node.data_problem}. Mount it there."
    if abs(node.skew_s) > SKEW_S:
        yield (
            f"Clocks must agree within {SKEW_S:g} s, this one is {node.skew_s:+.1f} s off the "
            "driver's. Run an NTP service, such as chrony."
        )
    if node.promised_gpus > len(node.gpus):
        yield (
            f"Ray offers {node.promised_gpus:g} GPUs here, torch sees {len(node.gpus)}. Start the "
            "node without --num-gpus, or repair driver and container runtime (`nvidia-smi`)."
        )
    if needs_gpus and not node.gpus:
        yield "A GPU was asked for, torch sees none. Is this the CPU build, or no or an old driver?"
    if node.card_problem:
        yield node.card_problem
    yield from node.environment
    least = {"storage": STORAGE_GIB, "cache": CACHE_GIB, "shared memory": SHM_GIB}
    for place, gib in node.free_gib.items():
        if gib < least[place]:
            yield (
                f"A study wants {least[place]:g} GiB of {place}, {gib:.2f} are free. "
                f"{'Give the container --shm-size=2g.' if place == 'shared memory' else 'Free space.'}"
            )


def _unwritable(folder: Path) -> str:
    """Write and remove a file; return the reason that failed, empty if it worked."""
    probe = folder / f".doctor-{secrets.token_hex(4)}"
    try:
        probe.write_text("x", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        return f"{error.strerror or error} ('{folder}')"
    return ""


def _free(folder: Path) -> float:
    """Return the free space of the disk a folder is on, or will be, GiB."""
    nearest = next((p for p in (folder, *folder.parents) if p.exists()), Path("/"))
    return shutil.disk_usage(nearest).free / GIB
