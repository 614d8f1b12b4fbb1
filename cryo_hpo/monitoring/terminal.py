"""Show a running study as a live table on a terminal or in a notebook, elsewhere as plain lines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from .notebook import NotebookTable, Side
from .workload import Workload

if TYPE_CHECKING:
    from ..storage.event_log import Event, EventLog

SETTLED = 8  # epochs before the time left is shown; the first ones include worker startup
AFTER_S = 11.0  # report, model and delivery; measured: the quickstart on two cores
ROWS = 24  # rows of the live table, to fit a terminal; older trials scroll out
HEAD: dict[str, Side] = {
    "trial": "left",
    "lr": "right",
    "epoch": "right",
    "best val mIoU": "right",
    "state": "left",
}


@dataclass(slots=True)
class _Row:
    """Hold the table row of one training."""

    lr: float
    epochs: int
    epoch: int = 0
    miou: float = float("nan")
    state: str = "running"


class Progress:
    """Show the progress of the trainings of one or more logs.

    Attributes:
        console: Output; shows a live table if it is a terminal or a notebook.
        on_print: Called whenever progress was printed.
    """

    def __init__(
        self,
        *,
        console: Console,
        on_print: Callable[[], object] = lambda: None,
    ) -> None:
        self.console, self.on_print = console, on_print
        self._rows: dict[str, _Row] = {}
        self._work: dict[str, Workload] = {}  # by the name of a study among several, or ""
        self._done, self._began = 0, time.monotonic()
        self._last = self._began  # end of the last epoch
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._notebook = NotebookTable(HEAD) if console.is_jupyter else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def expect(self, work: Workload, *, name: str = "") -> None:
        """Count the work of a study towards the time left.

        Args:
            work: What the study still has to do.
            name: Its name among several.
        """
        self._work[name] = work

    def follow(self, log: EventLog, *, name: str = "") -> None:
        """Show the events of a log from now on, and count earlier ones as done.

        Args:
            log: Log of a study.
            name: Prefix of the trainings' names, for a study among several.
        """
        if work := self._work.get(name):
            work.replay(event for _, event in log.read())
            log.subscribe(work.see)
        log.subscribe(partial(self._show, f"{name} " if name else ""))

    def say(self, text: str) -> None:
        """Write one line above the table."""
        with _ignoring_closed_output():
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def still(self, text: str) -> None:
        """Show that work continues, and the time left: beside the live table, or as a line."""
        text = f"{text} {self._eta().capitalize()}." if self._has_pace else text
        if self._notebook is not None:
            self._notebook.update(f"{self._title()}. {text}", self._cells())
        elif self._live is None:
            self.say(text)
        else:
            with _ignoring_closed_output():
                self._live.update(self._table(caption=text), refresh=True)

    def _show(self, name: str, event: Event) -> None:
        key = f"{name}{event.get('key', '')}"
        match event["event"]:
            case "started":
                self._started(key, lr=event["lr"], epochs=event["epochs"])
            case "epoch":
                self._epoch(key, event)
            case "paused":
                self._end(key, "paused", f"paused at epoch {event['epoch']}")
            case "ended":
                state, message = event["state"], event["message"]
                said = message.startswith(state)  # "pruned at epoch 2 (3 of 3)"
                self._end(key, state, message if said else f"{state}  {message}".rstrip())

    def _started(self, key: str, *, lr: float, epochs: int) -> None:
        row = self._rows.get(key)
        if row is None:
            self._rows[key] = _Row(lr=lr, epochs=epochs)
            self._print(f"{key}  lr {lr:.3g}  started")
        else:
            row.state = "running"
            self._print(f"{key}  lr {row.lr:.3g}  resumed after epoch {row.epoch}")

    def _epoch(self, key: str, event: Event) -> None:
        row = self._rows[key]
        row.epoch, row.miou = event["epoch"], event["best_val_miou"]
        self._done, self._last = self._done + 1, time.monotonic()
        val, loss = event.get("val_miou"), event.get("train_loss")  # not every epoch is scored
        self._print(
            f"{key}  lr {row.lr:.3g}  epoch {row.epoch}/{row.epochs}"
            f"  val mIoU {'not scored' if val is None else f'{100 * val:.2f}'}"
            f"  best {100 * row.miou:.2f}"
            f"  loss {'not finite' if loss is None else f'{loss:.4f}'}  {self._eta()}"
        )

    def _end(self, key: str, state: str, text: str) -> None:
        row = self._rows.get(key)
        if row is None:
            return
        row.state = state
        self._print(f"{key}  lr {row.lr:.3g}  {text}")

    def _eta(self) -> str:
        """Return the time left as text, estimated from the mean duration of an epoch so far."""
        if not self._has_pace:
            return "time left not known yet"
        seconds = self._seconds_left()
        return (
            f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"
        )

    @property
    def _has_pace(self) -> bool:
        """Whether enough epochs are done to estimate from, and what is left is known."""
        return self._done >= SETTLED and bool(self._work)

    def _seconds_left(self) -> float:
        """Return the time of the epochs that are left, of scoring, and of what follows."""
        epoch_s = (self._last - self._began) / self._done
        epochs = sum(work.epochs_left for work in self._work.values())
        scoring = sum(work.scoring_left for work in self._work.values())
        since = time.monotonic() - self._last  # part of an epoch, or of what follows the last one
        return max(epoch_s * (epochs + scoring) + AFTER_S - since, 0.0)

    def _print(self, line: str) -> None:
        self.on_print()
        if self._notebook is not None:
            self._notebook.update(self._title(), self._cells())
        elif self._live is None:
            self.say(line)
        else:
            with _ignoring_closed_output():
                self._live.update(self._table(), refresh=True)

    def _table(self, caption: str | None = None) -> Table:
        title = self._title()
        table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
        for name, justify in HEAD.items():
            table.add_column(name, justify=justify)
        for cells in self._cells()[-ROWS:]:
            table.add_row(*cells)
        return table

    def _title(self) -> str:
        return f"{self._done} epochs done, {self._eta()}"

    def _cells(self) -> list[tuple[str, ...]]:
        """Return the texts of all rows, in the order of `HEAD`."""
        return [
            (
                key,
                f"{row.lr:.2e}",
                f"{row.epoch}/{row.epochs}",
                f"{100 * row.miou:.2f}" if row.epoch else "",
                row.state,
            )
            for key, row in self._rows.items()
        ]


@contextlib.contextmanager
def _ignoring_closed_output() -> Iterator[None]:
    """Ignore a closed terminal or pipe, so that the study continues without output."""
    try:
        yield
    except (OSError, SystemExit):  # rich exits on a broken pipe
        return
