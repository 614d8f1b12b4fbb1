"""Write checkpoints in the background, from a copy of the state on the host."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from torch import Tensor

log = logging.getLogger(__name__)


class CheckpointWriter:
    """Run one write at a time in a thread, while the training continues.

    A write that fails raises where the next one starts, or where it is waited for. Leaving the
    context waits for the write in flight: no write outlives its training.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._write: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait()
            else:
                self.settle()
        finally:
            self._pool.shutdown()

    def start(self, write: Callable[[], None]) -> None:
        """Start a write, after the one before has ended.

        Raises:
            CryoError: The write before failed.
        """
        self.wait()
        self._write = self._pool.submit(write)

    def wait(self) -> None:
        """Wait for the write in flight, if any.

        Raises:
            CryoError: The write failed.
        """
        if self._write is not None:
            write, self._write = self._write, None
            write.result()

    def settle(self) -> None:
        """Wait for the write in flight of a training that ends with an error; warn if it fails."""
        try:
            self.wait()
        except Exception as failed:
            log.warning(
                "The newest checkpoint was not written: %s. The training resumes from the one "
                "before it.",
                failed,
            )


def copy_to_host(value: Any) -> Any:
    """Return a copy of a training's state, which further steps do not change, on the host.

    Args:
        value: Tensors in dictionaries and lists, of any depth, and plain values.
    """
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        copied = copy.copy(
            value
        )  # a state dict carries the versions of its modules as an attribute
        for key, inner in value.items():
            copied[key] = copy_to_host(inner)
        return copied
    if isinstance(value, list):
        return [copy_to_host(inner) for inner in value]
    return value
