"""Attempts are counted by cause: a crash is the recipe's, a death is not."""

from __future__ import annotations

import pytest

from cryo_hpo.errors import CryoError
from cryo_hpo.execution.attempts import CRASHES, DEATHS, Attempts
from cryo_hpo.search.jobs import Job

from .test_inline import Jobs


def _job(attempts: Attempts) -> Job:
    job = attempts.next()
    assert isinstance(job, Job)
    return job


def _crash(attempts: Attempts, *, epochs: int, message: str = "KeyError: 'x'") -> None:
    job = _job(attempts)
    for epoch in range(1, epochs + 1):
        attempts.epoch(job, {"epoch": epoch, "best_val_miou": 0.5})
    attempts.ended(job, "crashed", message)


@pytest.mark.parametrize("epochs", [(1, 1, 1), (1, 2, 3)])
@pytest.mark.parametrize("messages", [("KeyError: 'x'",) * 3, ("E: 1", "E: 2", "E: 3")])
def test_a_job_that_crashes_three_times_ends_with_its_last_line(messages, epochs, caplog) -> None:
    source = Jobs(2)
    attempts = Attempts(source)
    for message, reached in zip(messages, epochs, strict=True):
        assert source.ends == []
        _crash(attempts, epochs=reached, message=message)
    assert source.ends == [("0", "crashed", messages[-1])]
    assert f"0 crashed, attempt {CRASHES} of {CRASHES}: {messages[-1]}" in caplog.text
    _crash(attempts, epochs=2)
    assert len(source.ends) == 1, "another trial's crash is none of this one's"


def test_a_worker_that_dies_between_two_crashes_is_no_crash() -> None:
    source = Jobs(1)
    attempts = Attempts(source)
    for _ in range(CRASHES):
        assert source.ends == []
        attempts.ended(_job(attempts), "died", "killed by signal 9")
        _crash(attempts, epochs=1)
    assert source.ends == [("0", "crashed", "KeyError: 'x'")]


def test_a_job_that_is_promoted_begins_to_count_anew() -> None:
    source = Jobs(1)
    attempts = Attempts(source)
    promoted = _job(attempts)
    for _ in range(CRASHES - 1):
        attempts.ended(promoted, "crashed", "KeyError: 'x'")
        assert _job(attempts) == promoted
    attempts.ended(promoted, "done", "")
    for _ in range(CRASHES - 1):
        attempts.ended(promoted, "crashed", "KeyError: 'x'")
        assert _job(attempts) == promoted
    assert source.ends == [("0", "done", "")]


def test_deaths_are_not_counted_as_crashes_and_never_end_a_job() -> None:
    source = Jobs(1)
    attempts = Attempts(source)
    for epoch in range(1, 3 * DEATHS):
        job = _job(attempts)
        attempts.epoch(job, {"epoch": epoch, "best_val_miou": 0.5})
        attempts.ended(job, "died", "killed by signal 9")
    for number in range(CRASHES - 1):
        attempts.ended(_job(attempts), "crashed", f"ValueError: {number}")
    attempts.ended(_job(attempts), "done", "")
    assert source.ends == [("0", "done", "")]
    assert attempts.next() is None


def test_deaths_in_a_row_without_an_epoch_stop_the_study_and_cost_no_trial() -> None:
    source = Jobs(1)
    attempts = Attempts(source)
    for _ in range(DEATHS - 1):
        job = _job(attempts)
        attempts.epoch(job, {"epoch": 1, "best_val_miou": 0.5})
        attempts.ended(job, "died", "killed")
    job = _job(attempts)
    with pytest.raises(CryoError, match=r"died .* times in a row.*same command"):
        attempts.ended(job, "died", "killed")
    assert source.ends == []
