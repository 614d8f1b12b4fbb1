"""A training that reports no epoch for far longer than its epochs take is found, once."""

from __future__ import annotations

import pytest

from cryo_hpo.config import Resources
from cryo_hpo.execution.executor import fit_resources
from cryo_hpo.execution.hanging import (
    FIRST_S,
    LEAST_S,
    START_S,
    TIMES,
    HangWatch,
    hang_limit_s,
)


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("own", "others", "given_s", "limit_s"),
    [
        ([], [], None, FIRST_S),
        ([2.0, 30.0], [500.0], None, TIMES * 30),
        ([], [200.0], None, TIMES * 200),
        ([], [2.0], None, START_S),
        ([0.5], [], None, LEAST_S),
        ([30.0], [], 5.0, 5.0),
    ],
)
def test_the_limit_is_ten_of_the_longest_own_epochs_unless_the_study_sets_it(
    own: list[float], others: list[float], given_s: float | None, limit_s: float
) -> None:
    assert hang_limit_s(own, others, given_s=given_s) == limit_s


def test_a_silent_training_is_reported_once_and_again_after_its_next_epoch() -> None:
    clock = Clock()
    watch = HangWatch(None, clock=clock)
    for key in ("a", "b"):
        watch.began(key)
    for clock.now in (20.0, 40.0):
        watch.epoch("a", 20.0)
        watch.epoch("b", 20.0)
    clock.now = 40.0 + 10 * 20
    assert watch.newly_silent() == []
    clock.now += 1
    watch.epoch("b", 20.0)
    assert watch.newly_silent() == [("a", 201.0)]
    assert watch.newly_silent() == []
    watch.epoch("a", 201.0)  # it was held up: that silence is no measure of its epochs
    clock.now += 101
    watch.epoch("b", 20.0)
    clock.now += 101
    assert [key for key, _ in watch.newly_silent()] == ["a"]


def test_a_training_that_ended_or_restarted_is_not_reported() -> None:
    clock = Clock()
    watch = HangWatch(5.0, clock=clock)
    watch.began("a")
    watch.began("b")
    watch.ended("a")
    clock.now = 4.0
    watch.began("b")
    clock.now = 8.0
    assert watch.newly_silent() == []
    clock.now = 10.0
    assert watch.newly_silent() == [("b", 6.0)]


def test_a_start_that_hangs_is_reported_and_the_next_one_gets_twice_as_long() -> None:
    """A limit shorter than a worker's start must not end it again and again."""
    clock = Clock()
    watch = HangWatch(30.0, clock=clock)
    for limit_s in (30.0, 60.0, 120.0):
        watch.began("a")
        clock.now += limit_s
        assert watch.newly_silent() == []
        clock.now += 1
        assert watch.newly_silent() == [("a", limit_s + 1)]
    watch.began("a")
    watch.epoch("a", 5.0)
    clock.now += 31
    assert [key for key, _ in watch.newly_silent()] == ["a"], "it trains, so its start was none"
    watch.began("a")
    clock.now += 31
    assert [key for key, _ in watch.newly_silent()] == ["a"]


def test_the_study_sets_the_time_and_what_is_done() -> None:
    nodes = [{"CPU": 2.0}]
    usual = fit_resources(Resources(), None, nodes, where="here are")
    assert (usual.hang_s, usual.restart) == (None, False)
    own = Resources(hang_minutes=2, hanging="restart")
    slots = fit_resources(own, None, nodes, where="here are")
    assert (slots.hang_s, slots.restart) == (120.0, True)
