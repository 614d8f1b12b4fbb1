"""Read the energy that this machine has used, where it tells: RAPL for processors, NVML for GPUs.

Sources:
    RAPL: the kernel's power capping framework, /sys/class/powercap (energy_uj, which wraps at
    max_energy_range_uj). NVML: nvmlDeviceGetTotalEnergyConsumption, in mJ since the driver loaded.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

RAPL = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"
J_PER_KWH = 3.6e6


class Counter(NamedTuple):
    """Hold the state of one energy counter."""

    joules: float
    wraps_at: float | None
    """Joules at which the counter begins anew; None: it does not."""


def read_counters(rapl: Path = RAPL) -> dict[str, Counter]:
    """Return the energy counters of this machine by name; empty where it has none to read."""
    return {**dict(_processors(rapl)), **dict(_gpus())}


def used_joules(before: Mapping[str, Counter], after: Mapping[str, Counter]) -> float | None:
    """Return the energy between two readings; None where there is no counter.

    A counter that wraps more than once between the readings counts too little: those of processors
    take an hour or more under full load.
    """
    names = before.keys() & after.keys()
    if not names:
        return None
    return sum(_difference(before[name], after[name]) for name in names)


def _difference(before: Counter, after: Counter) -> float:
    difference = after.joules - before.joules
    return difference + (after.wraps_at or 0.0) if difference < 0 else difference


def _processors(root: Path) -> Iterator[tuple[str, Counter]]:
    """Yield the counters of the packages; their parts (intel-rapl:0:0) are in them."""
    for folder in sorted(root.glob("intel-rapl:*")):
        if folder.name.count(":") > 1:
            continue
        try:
            joules = int((folder / "energy_uj").read_text(encoding="utf-8")) / 1e6
            wraps_at = int((folder / "max_energy_range_uj").read_text(encoding="utf-8")) / 1e6
        except (OSError, ValueError):  # most systems let only root read it
            continue
        yield folder.name, Counter(joules, wraps_at)


def _gpus() -> Iterator[tuple[str, Counter]]:
    """Yield the counters of the GPUs, of Volta and later."""
    try:
        nvml = ctypes.CDLL(NVML)
    except OSError:
        return
    if nvml.nvmlInit_v2():
        return
    try:
        number = ctypes.c_uint()
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(number)):
            return
        for index in range(number.value):
            device, mj = ctypes.c_void_p(), ctypes.c_ulonglong()
            if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)):
                continue
            if not nvml.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(mj)):
                yield f"gpu:{index}", Counter(mj.value / 1e3, None)
    finally:
        nvml.nvmlShutdown()
