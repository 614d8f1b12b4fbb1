"""Attempts are counted by cause: a crash is the recipe's, a death is not."""

from __future__ import annotations

import pytest

from cryo_hpo.errors import CryoError
from cryo_hpo.execution.attempts import DEATHS, Attempts
from cryo_hpo.execution.executor import RETRIES
from cryo_hpo.search.jobs import Job

from .test_inline import Jobs


def _job(attempts: Attempts) -> Job:
    job = attempts.next()
    assert isinstance(job, Job)
    return job


def test_a_job_that_crashes_again_and_again_ends_with_its_last_error() -> None:
    source = Jobs(2)
    attempts = Attempts(source)
    for number in range(RETRIES + 1):
        assert source.ends == []
        job = _job(attempts)
        assert job.key == "0"
        attempts.ended(job, "crashed", f"ValueError: {number}")
    assert source.ends == [("0", "crashed", f"ValueError: {RETRIES}")]
    assert _job(attempts).key == "1"


def _crash(attempts: Attempts, *, epochs: int, message: str = "KeyError: 'x'") -> None:
    job = _job(attempts)
    for epoch in range(1, epochs + 1):
        attempts.epoch(job, {"epoch": epoch, "best_val_miou": 0.5})
    attempts.ended(job, "crashed", message)


def test_the_same_error_twice_at_the_same_epoch_is_not_tried_a_third_time(caplog) -> None:
    source = Jobs(2)
    attempts = Attempts(source)
    _crash(attempts, epochs=2)
    assert source.ends == []
    _crash(attempts, epochs=0)  # it resumed, and died in the same epoch again
    assert source.ends == [("0", "crashed", "KeyError: 'x'")]
    assert "0: the same error at the same epoch. It is not tried again" in caplog.text
    _crash(attempts, epochs=2)
    assert len(source.ends) == 1, "another trial's crash is none of this one's"


@pytest.mark.parametrize(
    ("messages", "epochs"),
    [
        (("ValueError: 1", "ValueError: 2", "ValueError: 3"), (1, 1, 1)),
        (("ValueError: 1",) * 3, (1, 2, 3)),
    ],
)
def test_other_errors_and_later_epochs_are_tried_again(messages, epochs) -> None:
    source = Jobs(1)
    attempts = Attempts(source)
    for message, reached in zip(messages, epochs, strict=True):
        _crash(attempts, epochs=reached, message=message)
    assert source.ends == []


def test_a_worker_that_dies_between_two_crashes_is_no_crash() -> None:
    source = Jobs(1)
    attempts = Attempts(source)
    _crash(attempts, epochs=1)
    for _ in range(RETRIES):
        attempts.ended(_job(attempts), "died", "killed by signal 9")
    _crash(attempts, epochs=1)
    assert source.ends == [("0", "crashed", "KeyError: 'x'")]


def test_a_job_that_is_promoted_begins_to_count_anew() -> None:
    source = Jobs(1)
    attempts = Attempts(source)
    promoted = _job(attempts)
    attempts.ended(promoted, "crashed", "KeyError: 'x'")
    attempts.ended(_job(attempts), "done", "")
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
    for number in range(RETRIES):
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
