from __future__ import annotations

import os

import pytest

from cryo_hpo.execution.memory_limit import memory_limit

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
GIB = 2**30
NONE = 9223372036854771712  # what cgroup v1 writes where there is no limit

CASES = {
    "no cgroups": ({}, MACHINE),
    "v2, a container": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{GIB}\n"},
        GIB,
    ),
    "v2, no limit": (
        {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"},
        MACHINE,
    ),
    "v2, the limit of a group above": (
        {
            "proc/self/cgroup": "0::/slurm/job/step\n",
            "sys/fs/cgroup/slurm/job/step/memory.max": "max\n",
            "sys/fs/cgroup/slurm/job/memory.max": f"{GIB}\n",
            "sys/fs/cgroup/slurm/memory.max": f"{3 * GIB}\n",
        },
        GIB,
    ),
    "v1": (
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/job\n0::/\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{GIB}\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{NONE}\n",
        },
        GIB,
    ),
    "v1, the path is the host's": (
        {
            "proc/self/cgroup": "4:memory:/docker/abc\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GIB}\n",
        },
        GIB,
    ),
    "another controller": (
        {"proc/self/cgroup": "4:pids:/job\n", "sys/fs/cgroup/job/memory.max": f"{GIB}\n"},
        MACHINE,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_lowest_limit_on_the_way_up_counts(tmp_path, case):
    files, limit = CASES[case]
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert memory_limit(tmp_path) == limit


def test_this_process_may_use_some_of_the_machines_memory():
    assert 2**20 < memory_limit() <= MACHINE
