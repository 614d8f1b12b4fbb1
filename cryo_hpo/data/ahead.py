"""Gather batches in threads and copy them to a GPU while it computes the steps before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import islice
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
U = TypeVar("U")
THREADS = 2  # that gather batches for a GPU
AHEAD = 3  # batches that are gathered or wait while the GPU has one


def run_ahead(gathers: Iterator[Callable[[], T]], start: Callable[[T], U]) -> Generator[U]:
    """Yield what is started with the results of calls, in order.

    Threads run the next calls while one result is in use. If the next of them has returned, it is
    started before the one to use is yielded; a call that still runs is not waited for, and the error
    of a call is raised in its turn.

    Args:
        gathers: Calls that threads run.
        start: Called with each result, by the caller's thread, in order.
    """
    with ThreadPoolExecutor(THREADS, thread_name_prefix="batches") as pool:
        coming: deque[Future[T]] = deque(pool.submit(gather) for gather in islice(gathers, AHEAD))
        started: deque[U] = deque()

        def start_next() -> None:
            started.append(start(coming.popleft().result()))
            coming.extend(pool.submit(gather) for gather in islice(gathers, 1))

        try:
            while coming or started:
                if not started:
                    start_next()
                if coming and _has_result(coming[0]):
                    start_next()
                yield started.popleft()
        finally:
            for unused in coming:
                unused.cancel()


def _has_result(future: Future[T]) -> bool:
    return future.done() and future.exception() is None


class DeviceCopy(NamedTuple):
    """Hold tensors that are on their way to a GPU."""

    tensors: tuple[Tensor, ...]
    arrived: torch.cuda.Event


def start_copy(*pinned: Tensor, device: torch.device) -> DeviceCopy:
    """Start to copy tensors to a GPU on a stream of their own, beside what it computes.

    Args:
        pinned: Tensors in pinned memory; torch uses the memory again once the copy is over.
        device: The GPU.
    """
    stream = _copy_stream(device)
    with torch.cuda.stream(stream):
        tensors = tuple(x.to(device, non_blocking=True) for x in pinned)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(stream)
    return DeviceCopy(tensors, arrived)


def wait_for_copy(copy: DeviceCopy) -> tuple[Tensor, ...]:
    """Return copied tensors, for kernels that are launched from now on; the host does not wait.

    The GPU waits for the copy before it runs those kernels, and the memory of the tensors is not
    used for another copy before they have run.
    """
    current = torch.cuda.current_stream(copy.tensors[0].device)
    current.wait_event(copy.arrived)
    for tensor in copy.tensors:
        tensor.record_stream(current)
    return copy.tensors


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream of this process for copies: torch keeps the freed memory of each stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
