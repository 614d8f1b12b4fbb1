from __future__ import annotations

import io

import pytest
from rich.console import Console

from cryo_hpo.monitoring.terminal import SETTLED, Progress

from ..support.pool import a_study

BASE = a_study().base


def _metrics(epoch: int) -> dict[str, float]:
    return {"epoch": epoch, "val_miou": 0.5, "best_val_miou": 0.625, "train_loss": 0.25}


def _play(progress: Progress, epochs: int = 2) -> None:
    with progress:
        progress.started("trial-0000", BASE, kind="baseline")
        for epoch in range(1, epochs + 1):
            progress.epoch("trial-0000", _metrics(epoch))
        progress.started("trial-0001", BASE.replace({"optim.lr": 0.01}), kind="search")
        progress.paused("trial-0001", 1)
        progress.started("trial-0001", BASE, kind="search")
        progress.ended("trial-0001", "diverged", "Loss became nan")
        progress.ended("trial-0007", "pruned", "closed by a run that never showed it")


def test_plain_lines_where_there_is_no_terminal():
    out = io.StringIO()
    _play(Progress(console=Console(file=out, width=40), epochs_expected=20))
    assert out.getvalue().splitlines() == [
        "trial-0000  lr 0.0001  started",
        *(
            f"trial-0000  lr 0.0001  epoch {e}/9  val mIoU 50.00  best 62.50  loss 0.2500"
            "  time left not known yet"
            for e in (1, 2)
        ),
        "trial-0001  lr 0.01  started",
        "trial-0001  lr 0.01  paused at epoch 1",
        "trial-0001  lr 0.01  resumed after epoch 0",
        "trial-0001  lr 0.01  diverged  Loss became nan",
    ]


def test_a_live_table_on_a_terminal():
    console = Console(file=io.StringIO(), force_terminal=True, record=True, width=80)
    _play(Progress(console=console, epochs_expected=20))
    last = console.export_text().rsplit("epochs done", 1)[1]
    rows = [line.split("│")[1:-1] for line in last.splitlines() if "trial-" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["trial-0000", "1.00e-04", "2/9", "62.50", "running"],
        ["trial-0001", "1.00e-02", "0/9", "", "diverged"],
    ]


@pytest.mark.parametrize(("before", "expected"), [(0, 24), (10, 20), (40, 20)])
def test_the_time_left_is_of_what_is_left(before, expected):
    out = io.StringIO()
    progress = Progress(console=Console(file=out, width=200), epochs_expected=expected)
    progress.leave_out(before)
    progress._began -= 1000
    _play(progress, epochs=SETTLED)
    left = max(expected - before - SETTLED, 0)
    lines = [line for line in out.getvalue().splitlines() if "epoch" in line and "loss" in line]
    assert "not known" in lines[SETTLED - 2]
    seconds = 1000 / SETTLED * left
    shown = f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"
    assert lines[SETTLED - 1].endswith(shown)


class Gone(io.StringIO):
    """A terminal that was closed, or a pipe nobody reads."""

    def __init__(self, error: type[OSError]) -> None:
        super().__init__()
        self.error, self.tried = error, 0

    def write(self, _: str) -> int:
        self.tried += 1
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError, OSError])
def test_a_study_outlives_its_terminal(error, monkeypatch):
    monkeypatch.setattr(Console, "on_broken_pipe", _exit)  # rich would close pytest's own output
    out = Gone(error)
    _play(Progress(console=Console(file=out), epochs_expected=20))
    assert out.tried


def _exit(_: Console) -> None:
    raise SystemExit(1)
