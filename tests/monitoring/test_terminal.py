from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from cryo_hpo.monitoring.terminal import AFTER_S, SETTLED, Progress
from cryo_hpo.monitoring.workload import Workload
from cryo_hpo.storage.event_log import Event


def _metrics(epoch: int) -> dict[str, float]:
    return {"epoch": epoch, "val_miou": 0.5, "best_val_miou": 0.625, "train_loss": 0.25}


class Log:
    """Stands for a study's log: passes on what it is given."""

    def __init__(self) -> None:
        self._consumers: list[Callable[[Event], None]] = []
        self._events: list[Event] = []

    def read(self) -> list[tuple[int, Event]]:
        return list(enumerate(self._events))

    def subscribe(self, consumer: Callable[[Event], None]) -> None:
        self._consumers.append(consumer)

    def append(self, event: str, **facts: Any) -> None:
        self._events.append({"event": event, **facts})
        for consumer in self._consumers:
            consumer(self._events[-1])


def _play(progress: Progress, epochs: int = 2, *, name: str = "") -> None:
    log = Log()
    progress.follow(log, name=name)  # type: ignore[arg-type]
    first, second = "trial-0000", "trial-0001"
    with progress:
        log.append("study started", name="s")
        log.append("started", key=first, lr=1e-4, epochs=9)
        for epoch in range(1, epochs + 1):
            log.append("epoch", key=first, **_metrics(epoch))
        log.append("started", key=second, lr=0.01, epochs=9)
        log.append("paused", key=second, epoch=1)
        log.append("started", key=second, lr=1e-4, epochs=9)
        log.append("ended", key=second, state="diverged", message="Loss became nan")
        log.append("ended", key="trial-0007", state="pruned", message="of an earlier run")


def test_plain_lines_where_there_is_no_terminal():
    out = io.StringIO()
    _play(Progress(console=Console(file=out, width=40)))
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


def test_the_end_of_a_trial_is_said_once():
    out, log = io.StringIO(), Log()
    progress = Progress(console=Console(file=out, width=80))
    progress.follow(log)  # type: ignore[arg-type]
    with progress:
        log.append("started", key="trial-0002", lr=1e-4, epochs=9)
        log.append("ended", key="trial-0002", state="pruned", message="pruned at epoch 1 (3 of 3)")
    assert out.getvalue().splitlines()[-1] == "trial-0002  lr 0.0001  pruned at epoch 1 (3 of 3)"


def test_a_live_table_on_a_terminal():
    console = Console(file=io.StringIO(), force_terminal=True, record=True, width=80)
    _play(Progress(console=console))
    last = console.export_text().rsplit("epochs done", 1)[1]
    rows = [line.split("│")[1:-1] for line in last.splitlines() if "trial-" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["trial-0000", "1.00e-04", "2/9", "62.50", "running"],
        ["trial-0001", "1.00e-02", "0/9", "", "diverged"],
    ]


@pytest.mark.parametrize(("proof", "scoring"), [(24, 0.0), (24, 0.25), (SETTLED, 0.5)])
def test_the_time_left_is_of_what_is_left(proof, scoring, monkeypatch):
    """Of the epochs, at their pace so far; of the maps of the test split; of report and delivery."""
    now = [0.0]
    monkeypatch.setattr("cryo_hpo.monitoring.terminal.time.monotonic", lambda: now[0])
    out, log = io.StringIO(), Log()
    progress = Progress(console=Console(file=out, width=200))
    progress.expect(Workload(proof=proof, scoring=scoring))
    progress.follow(log)  # type: ignore[arg-type]
    log.append("started", key="a", kind="confirm", lr=1e-4, epochs=proof)
    for epoch in range(1, SETTLED + 1):
        now[0] += 100.0
        log.append("epoch", key="a", **_metrics(epoch))
    lines = [line for line in out.getvalue().splitlines() if "loss" in line]
    assert "not known" in lines[SETTLED - 2]
    seconds = 100 * (proof - SETTLED + 2 * scoring * proof) + AFTER_S
    shown = f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"
    assert lines[-1].endswith(shown)
    now[0] += 60.0
    progress.still("Still scoring the test split (60 s).")
    later = out.getvalue().splitlines()[-1]
    assert later == (
        f"Still scoring the test split (60 s). About {(seconds - 60) / 60:.0f} min left."
        if seconds - 60 >= 90
        else f"Still scoring the test split (60 s). About {max(seconds - 60, 0):.0f} s left."
    )


def test_what_earlier_runs_have_done_is_not_left():
    out, log = io.StringIO(), Log()
    for epoch in range(1, 10):
        log.append("started", key="a", kind="confirm", lr=1e-4, epochs=9)
        log.append("epoch", key="a", **_metrics(epoch))
    work = Workload(proof=27)
    progress = Progress(console=Console(file=out))
    progress.expect(work, name="lakes")
    progress.follow(log, name="lakes")  # type: ignore[arg-type]
    assert work.epochs_left == 18
    assert out.getvalue() == ""


def test_studies_side_by_side_go_by_their_names():
    out = io.StringIO()
    _play(Progress(console=Console(file=out, width=200)), name="dofa-lakes")
    assert all(line.startswith("dofa-lakes trial-000") for line in out.getvalue().splitlines())


def test_an_epoch_without_score_or_finite_loss_is_shown():
    out, log = io.StringIO(), Log()
    progress = Progress(console=Console(file=out, width=200))
    progress.follow(log)  # type: ignore[arg-type]
    log.append("started", key="a", lr=1e-4, epochs=9)
    log.append("epoch", key="a", epoch=1, best_val_miou=0.5, train_loss=None)
    assert "val mIoU not scored  best 50.00  loss not finite" in out.getvalue()


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
    _play(Progress(console=Console(file=out)))
    assert out.tried


def _exit(_: Console) -> None:
    raise SystemExit(1)
