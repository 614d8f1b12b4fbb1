"""Generators of one process run in one thread, whoever asks for their values."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing

import pytest

from cryo_hpo.execution.one_thread import OneThread


@pytest.fixture
def thread() -> OneThread:
    return OneThread("test")


def _idents(count: int, closed: list[int]) -> Generator[int]:
    try:
        for _ in range(count):
            yield threading.get_ident()
    finally:
        closed.append(threading.get_ident())


def test_all_generators_run_and_are_closed_in_the_same_thread(thread):
    closed: list[int] = []
    found: list[int] = []

    def ask() -> None:
        found.extend(thread.advance(_idents(3, closed)))

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len(found) == 6
    assert len(closed) == 2
    assert len({*found, *closed}) == 1
    assert threading.get_ident() not in found


def test_a_generator_that_is_left_early_is_closed(thread):
    closed: list[int] = []
    with closing(thread.advance(_idents(9, closed))) as steps:
        (here,) = {next(steps), next(steps)}
        assert not closed
    assert closed == [here]


def test_what_a_generator_raises_is_raised_where_its_values_are_asked_for(thread):
    def fails() -> Generator[int]:
        yield 1
        raise ValueError("no kernel")

    steps = thread.advance(fails())
    assert next(steps) == 1
    with pytest.raises(ValueError, match="no kernel"):
        next(steps)
    assert thread.call(lambda: 2) == 2, "the thread lives on"
