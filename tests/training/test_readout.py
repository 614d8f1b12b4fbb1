"""Values of a step come at once from a CPU, and one step late from a GPU."""

from __future__ import annotations

import pytest
import torch

from cryo_hpo.training.readout import StepReadout, StepValues


class _Event:
    """Knows whether a copy is waited for."""

    waited = 0

    def record(self) -> None: ...

    def synchronize(self) -> None:
        _Event.waited += 1


def test_values_on_a_cpu_come_at_once():
    readout = StepReadout(torch.device("cpu"))
    assert readout.push(3, torch.tensor(0.5), torch.tensor(2.0)) == [StepValues(3, 0.5, 2.0)]
    assert readout.flush() == []


def test_values_on_a_gpu_come_once_the_next_step_is_launched(monkeypatch: pytest.MonkeyPatch):
    empty = torch.empty
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(torch, "empty", lambda shape, dtype, **_: empty(shape, dtype=dtype))
    readout = StepReadout(torch.device("cuda"))
    steps: list[StepValues] = []
    for position in range(3):
        assert _Event.waited == len(steps), "no step is waited for before the next one"
        arrived = readout.push(position, torch.tensor(float(position)), torch.tensor(1.0))
        assert [values.position for values in arrived] == ([position - 1] if position else [])
        steps += arrived
    steps += readout.flush()
    assert steps == [StepValues(position, float(position), 1.0) for position in range(3)]
    assert readout.flush() == []
