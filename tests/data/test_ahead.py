"""Batches come in order, gathered by threads, and copied before their turn where that costs no wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from cryo_hpo.data.ahead import AHEAD, run_ahead


def _same(number: int) -> int:
    return number


def test_looking_ahead_changes_nothing_and_stops_early() -> None:
    made: list[int] = []

    def make(number: int) -> int:
        time.sleep(0.005 * (number % 2))  # a later batch may be there first
        made.append(number)
        return number

    assert list(run_ahead((partial(make, n) for n in range(10)), _same)) == list(range(10))
    made.clear()
    ahead = run_ahead((partial(make, n) for n in range(100)), _same)
    assert next(ahead) == 0
    ahead.close()
    assert len(made) <= 2 + AHEAD


def test_several_threads_gather() -> None:
    both = threading.Barrier(2, timeout=5)  # passes when two batches are gathered at a time
    assert len(list(run_ahead((both.wait for _ in range(4)), _same))) == 4


@pytest.mark.parametrize("slow", [False, True])
def test_an_error_is_raised_in_its_turn(slow: bool) -> None:
    failed = threading.Event()

    def fail() -> int:
        failed.set()
        raise OSError("gone")

    def succeed() -> int:
        assert slow or failed.wait(5)  # the error is there before the first result is used
        return 1

    ahead = run_ahead(iter([succeed, fail, lambda: 3]), _same)
    assert next(ahead) == 1
    with pytest.raises(OSError, match="gone"):
        next(ahead)


def _gathers(
    gathered: list[threading.Event], waits_for: dict[int, threading.Event]
) -> list[Callable[[], int]]:
    """Return calls of which some wait for an event, and each sets one when it is nearly over."""

    def gather(number: int) -> int:
        if number in waits_for:
            assert waits_for[number].wait(5)
        gathered[number].set()
        return number

    return [partial(gather, number) for number in range(len(gathered))]


def test_the_copy_of_the_next_batch_begins_before_the_step_of_this_one() -> None:
    begun: list[int] = []
    gathered = [threading.Event() for _ in range(5)]
    ahead = run_ahead(iter(_gathers(gathered, {0: gathered[1]})), begun.append)
    next(ahead)
    for number in range(1, 4):
        assert gathered[number + 1].wait(5)
        time.sleep(0.05)  # until the thread has returned
        next(ahead)
        assert begun == list(range(number + 2)), "its own, and the next one"
    next(ahead)
    assert next(ahead, "end") == "end"
    assert begun == list(range(5)), "each once"


def test_a_batch_that_is_not_gathered_yet_keeps_no_step_waiting() -> None:
    begun: list[int] = []
    gathered, late = [threading.Event() for _ in range(3)], threading.Event()
    ahead = run_ahead(iter(_gathers(gathered, {1: late})), begun.append)
    next(ahead)
    assert begun == [0]
    late.set()
    assert len(list(ahead)) == 2
    assert begun == [0, 1, 2]
