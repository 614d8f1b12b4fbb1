"""What a person sees while a study runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from ..config import Recipe

SETTLED = 8  # epochs before the time left is told: the first ones hold the start of the workers
ROWS = 24  # a terminal's height: older trials scroll out of the live table


@dataclass(slots=True)
class _Row:
    """One training as the table shows it."""

    lr: float
    epochs: int
    epoch: int = 0
    miou: float = float("nan")
    state: str = "running"


class Progress:
    """Shows trainings as they run.

    Attributes:
        console: Where to write; a live table if it is a terminal.
    """

    def __init__(self, *, console: Console, epochs_expected: int) -> None:
        self.console = console
        self._rows: dict[str, _Row] = {}
        self._expected = epochs_expected
        self._done, self._began = 0, time.monotonic()
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def leave_out(self, epochs: int) -> None:
        """Take epochs that an earlier run of the study has done off what is to come."""
        self._expected -= epochs

    def say(self, text: str) -> None:
        """Write one line above the table."""
        with _nobody_need_read():
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def started(self, key: str, recipe: Recipe, *, kind: str) -> None:  # noqa: ARG002
        """Show that a training begins, or resumes where it was paused."""
        row = self._rows.get(key)
        if row is None:
            self._rows[key] = _Row(lr=recipe.optim.lr, epochs=recipe.epochs)
            self._tell(f"{key}  lr {recipe.optim.lr:.3g}  started")
        else:
            row.state = "running"
            self._tell(f"{key}  lr {row.lr:.3g}  resumed after epoch {row.epoch}")

    def epoch(self, key: str, metrics: Mapping[str, float]) -> None:
        """Show an epoch."""
        row = self._rows[key]
        row.epoch, row.miou = int(metrics["epoch"]), metrics["best_val_miou"]
        self._done += 1
        val = metrics.get("val_miou")  # not every protocol scores every epoch
        self._tell(
            f"{key}  lr {row.lr:.3g}  epoch {row.epoch}/{row.epochs}"
            f"  val mIoU {'not scored' if val is None else f'{100 * val:.2f}'}"
            f"  best {100 * row.miou:.2f}"
            f"  loss {metrics['train_loss']:.4f}  {self._eta()}"
        )

    def paused(self, key: str, epoch: int) -> None:
        """Show that a trial is paused at a rung."""
        self._end(key, "paused", f"paused at epoch {epoch}")

    def ended(self, key: str, state: str, message: str) -> None:
        """Show how a training ended."""
        self._end(key, state, f"{state}  {message}".rstrip())

    def _end(self, key: str, state: str, text: str) -> None:
        row = self._rows.get(key)
        if row is None:
            return
        row.state = state
        self._tell(f"{key}  lr {row.lr:.3g}  {text}")

    def _eta(self) -> str:
        """Time left if the rest of the expected epochs run as the ones so far."""
        if self._done < SETTLED:
            return "time left not known yet"
        left = max(self._expected - self._done, 0)
        seconds = (time.monotonic() - self._began) / max(self._done, 1) * left
        return (
            f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"
        )

    def _tell(self, line: str) -> None:
        if self._live is None:
            self.say(line)
        else:
            with _nobody_need_read():
                self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        table = Table(title=f"{self._done} epochs done, {self._eta()}", title_justify="left")
        for name in ("trial", "lr", "epoch", "best val mIoU", "state"):
            table.add_column(name, justify="left" if name in ("trial", "state") else "right")
        for key, row in list(self._rows.items())[-ROWS:]:
            miou = f"{100 * row.miou:.2f}" if row.epoch else ""
            table.add_row(key, f"{row.lr:.2e}", f"{row.epoch}/{row.epochs}", miou, row.state)
        return table


@contextlib.contextmanager
def _nobody_need_read() -> Iterator[None]:
    """Go on when the terminal or the pipe is gone: a study outlives whoever watches it."""
    try:
        yield
    except (OSError, SystemExit):  # rich exits on a broken pipe
        return
