"""Train one job, or a pack of jobs, as a Ray Tune trainable, and report each epoch to Tune."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from .one_thread import OneThread
from .packs import keyed
from .positions import writing_position
from .worker import Report, train_job, train_pack

if TYPE_CHECKING:
    from ..config import Site

NOTES = "notes"  # key of a report: warnings since the report before
KEY = "job"  # key of a pack's report: the job that it is of
JOBS = "jobs"  # key of a pack's config: the fields of each job
LOGGER = "cryo_hpo"
# Tune runs every trial in a new thread, and torch keeps the kernels that it chose for convolutions
# for each thread: on an H100, the first epoch of each trial took 12 seconds longer
# (docs/performance.md).
ON_GPU = OneThread("trainings")


def work(config: dict[str, Any], *, site: Site, cpus: int, gpus: float) -> None:
    """Train one job or a pack; after an exception the driver starts its jobs again."""
    reports = _reports(config, site=site, cpus=cpus, gpus=gpus)
    if gpus:
        reports = ON_GPU.advance(reports)
    with (
        writing_position(Path(config["workdir"])),
        _collected_warnings() as notes,
        closing(reports),
    ):
        for key, report in reports:
            of_pack = {KEY: key} if JOBS in config else {}
            tune.report({**report, **of_pack, **({NOTES: list(notes)} if notes else {})})
            notes.clear()


def _reports(config: dict[str, Any], **given: Any) -> Generator[tuple[str, Report], None, None]:
    if JOBS in config:
        return train_pack(config[JOBS], **given)
    return keyed(str(config["key"]), train_job(config, **given))


@contextmanager
def _collected_warnings() -> Iterator[list[str]]:
    """Collect the package's warnings, which nobody reads in a worker's own log."""
    notes: list[str] = []
    handler = _Collector(notes)
    logging.getLogger(LOGGER).addHandler(handler)
    try:
        yield notes
    finally:
        logging.getLogger(LOGGER).removeHandler(handler)


class _Collector(logging.Handler):
    """Append the text of every warning to a list."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        """Append the text of a record."""
        self._notes.append(record.getMessage())
