"""The frame of a run: phases that are named, energy that is recorded, one lock from start to end."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from rich.console import Console

from cryo_hpo.config import Site
from cryo_hpo.errors import StorageError
from cryo_hpo.execution.energy import Counter
from cryo_hpo.monitoring import heartbeat
from cryo_hpo.monitoring.workload import Workload
from cryo_hpo.results.study import Result
from cryo_hpo.storage.event_log import EventLog
from cryo_hpo.study import energy, frame, run
from cryo_hpo.study import folder as folders

from ..support.pool import a_study
from ..support.results import a_result


def test_a_run_names_its_phases_and_ends_with_its_energy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, site, out = a_study(), Site.from_env({"CRYO_STORAGE": str(tmp_path)}), io.StringIO()
    joules, phases = iter((0.0, 3.6e6)), []
    executor = Mock()
    executor.cluster.return_value = executor.metered.return_value = contextlib.nullcontext()

    def begin(*_: Any, **__: Any) -> Mock:
        log = EventLog(tmp_path / study.name / "events.jsonl")
        return Mock(events=log, close=log.close, closed=False)

    def work(*_: Any, **__: Any) -> Result:
        phases.append(heartbeat._phases[-1][0])
        with pytest.raises(StorageError), folders.driving(tmp_path / study.name):
            pass
        return a_result()

    def look(*_: Any, **__: Any) -> None:
        phases.append(heartbeat._phases[-1][0])

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(energy, "read_counters", lambda: {"p": Counter(next(joules), None)})
    monkeypatch.setattr(frame, "begin", begin)
    stand_ins = {
        "check": look,
        "plan": lambda *_, **__: Mock(disk_gib=0.0),
        "workload_of": lambda *_: Workload(),
        "executor_for": lambda **_: executor,
        "open_records": lambda *_, **__: Mock(epochs=0),
        "open_run": look,
        "_run": work,
        "_finish": lambda result, *_, **__: result,
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(run, name, stand_in)
    result = run.run_study(study, site, console=Console(file=out), inline=True)
    assert result.costs.energy_kwh == pytest.approx(1)
    assert phases == ["checking data and models", "starting workers and MLflow's run", "training"]
    assert heartbeat._phases == []
