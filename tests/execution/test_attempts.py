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


def test_deaths_are_not_counted_as_crashes_and_never_end_a_job() -> None:
    source = Jobs(1)
    attempts = Attempts(source)
    for epoch in range(1, 3 * DEATHS):
        job = _job(attempts)
        attempts.epoch(job, {"epoch": epoch, "best_val_miou": 0.5})
        attempts.ended(job, "died", "killed by signal 9")
    for _ in range(RETRIES):
        attempts.ended(_job(attempts), "crashed", "ValueError")
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
