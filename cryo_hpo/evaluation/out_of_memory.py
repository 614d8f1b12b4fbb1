"""Recover from out-of-memory errors: recognize them, halve batches, report what did not fit."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from ..errors import OutOfMemory

T = TypeVar("T")

# How allocators report that memory is too small, where torch has no error class for it: on a CPU;
# and on a GPU that another process fills, where the driver or a library fails first.
MESSAGES = (
    "DefaultCPUAllocator",
    "can't allocate memory",
    "not enough memory",
    "CUDA error: out of memory",
    "CUDA out of memory",
    "HIP error: out of memory",
    "HIP out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUFFT_ALLOC_FAILED",
)
# For a training; who only maps with a trained model can change none of this.
REMEDY = "Lower data.crop, choose a smaller model, or give each trial more memory."

log = logging.getLogger(__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory, the GPU's or the machine's, is too small."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in MESSAGES)


def with_halving_batch(
    work: Callable[[int], T], batch: int, *, what: str, remedy: str = REMEDY
) -> tuple[T, int]:
    """Run work with a batch size that fits into memory: halve the size until it does.

    Args:
        work: (batch size) -> result; restarted with half the size when memory is too small.
        batch: Batch size to start with.
        what: Name of one item of a batch, for messages.
        remedy: What helps who runs the work where a single item does not fit.

    Returns:
        The result of the work, and the batch size that fits.

    Raises:
        OutOfMemory: A single item does not fit.
    """
    while True:
        try:
            return work(batch), batch
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            reason = _first_line(error)
        # Outside `except` the error is gone, and with it the frames that held the tensors.
        if batch == 1:
            raise OutOfMemory(f"Out of memory even with a single {what} ({reason}). {remedy}")
        log.warning("out of memory with %d %ss at a time, trying %d", batch, what, batch // 2)
        batch //= 2
        _release()


@contextlib.contextmanager
def reporting_out_of_memory(doing: str, *, remedy: str = REMEDY) -> Iterator[None]:
    """Report work that does not fit into memory, where no smaller batch would help.

    Args:
        doing: What the block does, such as "building the model".
        remedy: What helps, for the message.

    Raises:
        OutOfMemory: The block does not fit into memory.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        _release()
        message = f"Out of memory while {doing} ({_first_line(error)}). {remedy}"
        raise OutOfMemory(message) from error


def _first_line(error: RuntimeError) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
