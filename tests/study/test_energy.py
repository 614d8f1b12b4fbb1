"""The energy of a study is that of all its sessions, or it is absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cryo_hpo.execution.energy import Counter
from cryo_hpo.report.costs import cost_line
from cryo_hpo.results.files import EVENTS
from cryo_hpo.storage.event_log import EventLog
from cryo_hpo.study import energy
from cryo_hpo.study.energy import meter_of, read_energy

from ..support.results import a_result


@pytest.fixture(name="joules")
def _joules(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the state of the machine's only counter, to be changed."""
    state = [1000.0]
    monkeypatch.setattr(energy, "read_counters", lambda: {"package": Counter(state[0], None)})
    return state


def _session(log: EventLog, joules: list[float], used: float, *, ends: bool = True) -> None:
    meter = meter_of(log, {})
    assert meter is not None
    joules[0] += used
    log.append("epoch", key="trial-0000", epoch=1)
    if ends:
        meter.end()


def test_sessions_add_up(tmp_path: Path, joules: list[float]) -> None:
    log = EventLog(tmp_path / EVENTS)
    _session(log, joules, 1.8e6)
    joules[0] += 9e6  # between them
    _session(log, joules, 3.6e6)
    log.close()
    assert read_energy(tmp_path) == pytest.approx(1.5)


def test_a_session_that_was_killed_leaves_the_energy_unknown(
    tmp_path: Path, joules: list[float]
) -> None:
    log = EventLog(tmp_path / EVENTS)
    _session(log, joules, 1.8e6, ends=False)
    _session(log, joules, 1.8e6)
    log.close()
    assert read_energy(tmp_path) is None


def test_what_is_not_measured_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog(tmp_path / EVENTS)
    assert meter_of(log, {"RAY_ADDRESS": "ray://head"}) is None
    monkeypatch.setattr(energy, "read_counters", dict)
    _session(log, [0.0], 5.0)
    log.close()
    assert read_energy(tmp_path) is None
    assert "kWh" not in cost_line(a_result())


def test_epochs_of_a_version_that_measured_nothing_leave_it_unknown(
    tmp_path: Path, joules: list[float]
) -> None:
    log = EventLog(tmp_path / EVENTS)
    log.append("epoch", key="trial-0000", epoch=1)
    _session(log, joules, 1.8e6)
    log.close()
    assert read_energy(tmp_path) is None


def test_the_costs_say_it() -> None:
    result = a_result()
    costs: dict[str, Any] = {"costs": result.costs.model_copy(update={"energy_kwh": 0.4217})}
    line = cost_line(result.model_copy(update=costs))
    assert "processors and GPUs meanwhile: 0.422 kWh, other programs included" in line
    assert json.loads(result.model_dump_json())["costs"]["energy_kwh"] is None
