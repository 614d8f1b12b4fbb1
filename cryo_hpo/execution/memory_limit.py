"""Read how much memory this process may use: the machine's, or what its cgroup allows of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
MOUNTS = {"": "sys/fs/cgroup", "memory": "sys/fs/cgroup/memory"}
"""Controller in /proc/self/cgroup -> its folder; the empty name is that of cgroup v2."""
FILES = {"": "memory.max", "memory": "memory.limit_in_bytes"}


def memory_limit(root: Path = ROOT) -> int:
    """Return the memory that this process may use, bytes.

    Containers and jobs of Slurm limit it below the machine's. The limit of a group holds for all
    groups in it, so that the lowest on the way up counts.

    Args:
        root: Folder in which /proc and /sys lie, for tests.

    Source: Linux, admin-guide/cgroup-v1/memory.rst and admin-guide/cgroup-v2.rst, cgroups(7).
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits(root)])


def _limits(root: Path) -> Iterator[int]:
    """Yield the limits of the groups of this process; "max" is none."""
    for controller, group in _groups(root):
        mount = root / MOUNTS[controller]
        folder = mount / group.strip("/")
        # In a container the group's path may be the host's, which is not seen: the mount counts.
        for level in (folder, *folder.parents):
            if level.is_relative_to(mount):
                with contextlib.suppress(OSError, ValueError):
                    yield int((level / FILES[controller]).read_text(encoding="ascii"))


def _groups(root: Path) -> Iterator[tuple[str, str]]:
    """Yield controller and path of each group of this process that may limit its memory."""
    with contextlib.suppress(OSError, ValueError):
        text = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape")
        for line in text.splitlines():
            _, controllers, group = line.split(":", 2)
            for controller in MOUNTS:
                if controller in controllers.split(","):
                    yield controller, group
