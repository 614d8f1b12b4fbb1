"""The energy counters of a machine, where it has any."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryo_hpo.execution import energy
from cryo_hpo.execution.energy import Counter, read_counters, used_joules


def _package(root: Path, name: str, *, joules: float, most: float = 262_143.0) -> None:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{int(1e6 * joules)}\n")
    (folder / "max_energy_range_uj").write_text(f"{int(1e6 * most)}\n")


@pytest.fixture(autouse=True)
def _without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "NVML", "libno-such-library.so")


def test_packages_are_counted_and_their_parts_are_not_counted_twice(tmp_path: Path) -> None:
    for name, joules in {"intel-rapl:0": 10.0, "intel-rapl:0:0": 7.0, "intel-rapl:1": 5.0}.items():
        _package(tmp_path, name, joules=joules)
    before = read_counters(tmp_path)
    assert set(before) == {"intel-rapl:0", "intel-rapl:1"}
    _package(tmp_path, "intel-rapl:0", joules=110.0)
    _package(tmp_path, "intel-rapl:1", joules=25.0)
    assert used_joules(before, read_counters(tmp_path)) == pytest.approx(120)


def test_a_counter_that_begins_anew_is_carried_on() -> None:
    before, after = {"p": Counter(990.0, 1000.0)}, {"p": Counter(30.0, 1000.0)}
    assert used_joules(before, after) == pytest.approx(40)


def test_a_machine_without_counters_has_no_energy(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl:0").mkdir()
    assert read_counters(tmp_path) == {}
    assert used_joules({}, {}) is None
