"""Long steps report how far they are: in the log, or wherever the process says."""

from __future__ import annotations

import logging

import pytest

from cryo_hpo.data import progress_log
from cryo_hpo.data.progress_log import ProgressLog, position, reporting_to


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("cryo_hpo.data.progress_log.time.monotonic", lambda: now[0])
    return now


def test_a_long_step_logs_its_share_every_few_seconds(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with ProgressLog("decoding 2 scenes of 'mine'", 2) as step:
        for clock[0] in (101.0, 106.0, 107.0, 112.0):
            step.advance(0.5)
    assert [record.message for record in caplog.records] == [
        "decoding 2 scenes of 'mine': 50 %",
        "decoding 2 scenes of 'mine': 100 %",
    ]


def test_a_short_step_after_a_long_silence_logs_nothing(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for clock[0] in (200.0, 300.0):
        with ProgressLog("hashing files", 1) as step:
            step.advance()
    assert not caplog.records


def test_open_steps_are_reported_together_outermost_first(clock: list[float]) -> None:
    texts: list[str] = []
    with reporting_to(texts.append), ProgressLog("epoch 3 of 10"):
        with ProgressLog("step", 4000, counted=True) as step:
            for clock[0] in (102.0, 105.0, 111.0):
                step.advance(1000)
        with ProgressLog("validation"), ProgressLog("window", 8, counted=True) as window:
            clock[0] = 120.0
            window.advance(2)
    assert texts == [
        "epoch 3 of 10, step 2,000 of 4,000",
        "epoch 3 of 10, step 3,000 of 4,000",
        "epoch 3 of 10, validation, window 2 of 8",
        "",
    ]
    assert position() == ""
    assert progress_log._report == []


def test_an_error_closes_the_step() -> None:
    with pytest.raises(ZeroDivisionError), ProgressLog("step", 2):
        _ = 1 // 0
    assert position() == ""
