"""Keep the newest state and the best model of a training while it continues."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..evaluation.out_of_memory import reporting_out_of_memory
from . import checkpoints
from .checkpoint_writer import CheckpointWriter, copy_to_host
from .history_file import save_history
from .run import Run, best_state, complete_best, last_state


@dataclass(frozen=True, slots=True)
class Keeping:
    """Describe what is kept of a training, where and when.

    Attributes:
        workdir: Folder of the checkpoints.
        keep_best: Whether the best model is kept.
        decisions: Epochs whose checkpoint is on the disk before the training continues.
        saved: Called with the number of an epoch whose checkpoint is on the disk, in the thread that
            wrote it.
    """

    workdir: Path
    keep_best: bool
    decisions: frozenset[int]
    saved: Callable[[int], None]

    @property
    def best(self) -> Path | None:
        """File of the best model; None: it is not kept."""
        return self.workdir / checkpoints.BEST if self.keep_best else None

    def start(self, writer: CheckpointWriter, run: Run, *, improved: bool) -> None:
        """Copy the state after an epoch to the host, and start to write it.

        Waits for the write before, and for this one too if the epoch is the last or a decision.

        Raises:
            StorageError: The write before failed, or this one while it was waited for.
            OutOfMemory: The copy does not fit into memory.
        """
        writer.wait()  # before the copy: two of them would be in memory
        number = len(run.history)
        ends = number == run.recipe.epochs
        with reporting_out_of_memory("copying a checkpoint from the device"):
            state = copy_to_host(last_state(run))
        writer.start(partial(self._write, run, state, improved=improved, ends=ends))
        if ends or number in self.decisions:
            writer.wait()

    def _write(self, run: Run, state: dict[str, Any], *, improved: bool, ends: bool) -> None:
        """Write the best model if this is one, the state that a training resumes from, its metrics."""
        number = len(state["history"])
        with reporting_out_of_memory("writing a checkpoint"):
            if improved and self.best is not None:
                checkpoints.save(self.best, best_state(state))
            if ends:
                complete_best(run, self.best)
            checkpoints.save_last(self.workdir, state)
            save_history(self.workdir, state["recipe"], state["history"])
        self.saved(number)
