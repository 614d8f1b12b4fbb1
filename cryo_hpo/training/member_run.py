"""Hold one of several trainings that take their steps in turns: its state, random draws, error."""

# B batch, C bands, H W pixels

from __future__ import annotations

import bdb
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import Diverged
from .checkpoint_writer import CheckpointWriter
from .epoch import Epoch
from .keeping import Keeping
from .loop import cuda_of, seed_of_epoch
from .run import Run, complete_best
from .schedule_free import hold_trained_weights
from .step import check_steps, take_step


@dataclass(slots=True)
class MemberRun:
    """Hold a member that trains."""

    number: int
    run: Run
    keeping: Keeping
    writer: CheckpointWriter
    until: int
    random: RandomState
    error: Exception | None = None
    loss: float = 0.0
    improved: bool = False

    def begin_epoch(self, number: int) -> None:
        """Set model and random state to the start of an epoch."""
        self.run.model.train()
        hold_trained_weights(self.run.optimizer)
        self.random.seed(seed_of_epoch(self.run.recipe, number))
        self.loss, self.improved = 0.0, False

    def step(self, x_BCHW: Tensor, y_BHW: Tensor, *, position: int) -> None:
        """Take one optimizer step."""
        with self.guarded():
            loss, norm = take_step(self.run, x_BCHW, y_BHW, position=position)
            self.loss += check_steps(self.run, self.run.readout.push(position, loss, norm))

    def end_steps(self) -> None:
        """Check the step that is still in flight, before anything of the epoch is kept."""
        with self.guarded():
            self.loss += check_steps(self.run, self.run.readout.flush())

    @property
    def ended(self) -> bool:
        """Whether it takes no more steps here."""
        return self.error is not None or len(self.run.history) >= self.until

    def error_or(self, epoch: Epoch) -> Epoch | Exception:
        """Return what ended the training, or an epoch where nothing did."""
        return epoch if self.error is None else self.error

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Run a block with the member's random state; an error is the member's own, and ends it."""
        try:
            with self.random.current():
                yield
        except bdb.BdbQuit:
            raise  # left in the debugger: that ends the study
        except Exception as error:
            self.error = error
            if isinstance(error, Diverged):
                self.writer.settle()  # it may be writing the best model now
                complete_best(self.run, self.keeping.best)


class RandomState:
    """Hold the random state of one training while others draw."""

    def __init__(self, device: torch.device) -> None:
        self._devices = cuda_of(device)
        self._states: list[Tensor] = []

    def seed(self, seed: int) -> None:
        """Start anew from a seed."""
        with torch.random.fork_rng(devices=self._devices):
            torch.manual_seed(seed)
            self._keep()

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Let a block draw from this state."""
        with torch.random.fork_rng(devices=self._devices):
            if self._states:
                torch.set_rng_state(self._states[0])
                for device, state in zip(self._devices, self._states[1:], strict=True):
                    torch.cuda.set_rng_state(state, device)
            yield
            self._keep()

    def _keep(self) -> None:
        own = [torch.cuda.get_rng_state(device) for device in self._devices]
        self._states = [torch.get_rng_state(), *own]
