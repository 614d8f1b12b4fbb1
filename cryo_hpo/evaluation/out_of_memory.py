"""Batches that do not fit: found out by trying, halved until they do."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from ..errors import OutOfMemory

T = TypeVar("T")

# What torch says on CPU, where it has no error of its own for this.
CPU_SAYS = ("DefaultCPUAllocator", "can't allocate memory", "not enough memory")

log = logging.getLogger(__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory, the GPU's or the machine's, is too small."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in CPU_SAYS)


def fitting(work: Callable[[int], T], batch: int, *, what: str) -> tuple[T, int]:
    """Do work in batches that memory holds: halve them until it does.

    Args:
        work: Takes the size of a batch; begun again with half of it when memory is too small.
        batch: Size to begin with.
        what: A batch of what, for messages.

    Returns:
        What the work gave, and the size it was done with.

    Raises:
        OutOfMemory: One at a time does not fit.
    """
    while True:
        try:
            return work(batch), batch
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            said = str(error).splitlines()[0][:200]
        # Out here the error is gone, and with it the frames that held the tensors.
        if batch == 1:
            message = (
                f"One {what} at a time must fit into memory, it does not ({said}). Lower "
                "data.crop, take a smaller model, or give a trial more memory."
            )
            raise OutOfMemory(message)
        log.warning("%d %ss at a time do not fit into memory, trying %d", batch, what, batch // 2)
        batch //= 2
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
