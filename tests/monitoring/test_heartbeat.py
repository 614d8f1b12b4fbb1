"""No phase of a study is silent for more than ten seconds."""

from __future__ import annotations

import io
import threading
import time

import pytest
from rich.console import Console

from cryo_hpo.data.progress_log import ProgressLog
from cryo_hpo.monitoring import heartbeat
from cryo_hpo.monitoring.heartbeat import POLL_S, QUIET_S, Heartbeat, phase
from cryo_hpo.monitoring.terminal import Progress


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_silent_phase_is_named_with_its_duration(clock: list[float]) -> None:
    lines: list[str] = []
    beat = Heartbeat(lines.append)
    with phase("checking data"):
        for _ in range(40):
            clock[0] += 1
            beat.look()
        with phase("scoring the test split"):
            clock[0] += 130
            beat.look()
    assert lines == [
        *(f"Still checking data ({seconds} s)." for seconds in (9, 18, 27, 36)),
        "Still scoring the test split (2 min).",
    ]
    assert QUIET_S + POLL_S < 10


def test_the_line_names_epoch_and_step_which_are_not_logged_too(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    lines: list[str] = []
    with (
        Heartbeat(lines.append, quiet_s=1e9) as beat,
        phase("training"),
        ProgressLog("epoch 3 of 10"),
        ProgressLog("step", 4000, counted=True) as step,
    ):
        beat._quiet_s = 9.0
        clock[0] += 10
        step.advance(120)
        beat.look()
    assert lines == ["Still training (10 s): epoch 3 of 10, step 120 of 4,000."]
    assert not caplog.records


def test_what_is_printed_meanwhile_ends_the_silence(clock: list[float]) -> None:
    lines: list[str] = []
    beat = Heartbeat(lines.append)
    for _ in range(40):
        clock[0] += 5
        beat.reset()
        beat.look()
    assert lines == []


def test_the_thread_prints_while_the_study_works_and_ends_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "POLL_S", 0.001)
    printed = threading.Event()
    with Heartbeat(lambda _: printed.set(), quiet_s=0) as beat:
        assert printed.wait(10)
    assert not beat._thread.is_alive()


def test_a_closed_output_neither_ends_the_thread_nor_leaves_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "POLL_S", 0.001)
    tried = threading.Semaphore(0)

    def say(_: str) -> None:
        tried.release()
        raise BrokenPipeError

    with Heartbeat(say, quiet_s=0):
        assert all(tried.acquire(timeout=10) for _ in range(2))


def test_a_terminal_shows_it_below_the_table_and_a_file_as_a_line() -> None:
    out = io.StringIO()
    plain = Progress(console=Console(file=out, width=80))
    beat = Heartbeat(print, quiet_s=0)
    with plain, beat.through(plain.still), phase("training"):
        beat.look()
    assert out.getvalue() == "Still training (0 s).\n"
    console = Console(file=io.StringIO(), force_terminal=True, record=True, width=80)
    live = Progress(console=console)
    with live:
        live.still("Still training (9 s).")
    assert "Still training (9 s)." in console.export_text()


def test_progress_that_is_printed_is_a_sign_of_life() -> None:
    printed: list[bool] = []
    progress = Progress(
        console=Console(file=io.StringIO()),
        on_print=lambda: printed.append(True),
    )
    progress._show("", {"event": "started", "key": "trial-0000", "lr": 1e-4, "epochs": 2})
    assert printed == [True]


def test_without_a_phase_the_time_since_the_start_is_printed(clock: list[float]) -> None:
    lines: list[str] = []
    beat = Heartbeat(lines.append)
    for _ in range(20):
        clock[0] += 1
        beat.look()
    assert lines == ["Still running (9 s).", "Still running (18 s)."]
