"""Choose where a study's search starts, once: a resumed study starts where it did."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.start import kind_of
from ..errors import StorageError
from ..search.calibrated import calibrated_of
from ..search.known_start import KnownStart
from ..search.portfolio import choose_start, portfolio_of
from ..search.rungs import rungs_of
from ..storage.atomic import write_text
from .start_words import describe, describe_outcome
from .timing import measure_epoch

if TYPE_CHECKING:
    from ..config import Site, Study
    from ..search.trials import Record

log = logging.getLogger(__name__)

NAME = "start.json"  # in the study's folder


def start_of(study: Study, path: Path, *, site: Site) -> KnownStart:
    """Return the start of a study's search, from its folder or chosen now.

    Args:
        study: Study with a search.
        path: The study's folder.
        site: Locations of the data, whose steps per epoch are counted.

    Raises:
        SpecError: The study's own portfolio cannot be read.
        StorageError: The start that the folder keeps is damaged, or of an earlier version.
    """
    assert study.search is not None, "a search starts somewhere"
    if study.search.start == "even":
        return KnownStart()
    file = path / NAME
    if file.exists():
        return _read(file)
    start = choose(study, site=site)
    write_text(file, start.model_dump_json(indent=1) + "\n")
    log.warning("%s", describe(start))
    return start


def choose(study: Study, *, site: Site) -> KnownStart:
    """Return the start of a study's search by what other data have taught; see `start_of`."""
    assert study.search is not None, "a search starts somewhere"
    if kind_of(study.search.start) == "calibrated":
        return calibrated_of(study)
    steps = study.base.epochs * measure_epoch(study.base, site).steps
    rungs = rungs_of(study.search, study.base.epochs)
    return choose_start(portfolio_of(study), study, rungs, steps=steps)


def describe_kept(path: Path, records: Iterable[Record] = ()) -> str:
    """Return in words where a study's search started; empty where it was even by choice.

    Args:
        path: The study's folder.
        records: The trials of the search once it is over, which say whether a calibrated default held.

    Raises:
        StorageError: The start that the folder keeps is damaged, or of an earlier version.
    """
    file = path / NAME
    if not file.exists():
        return ""
    start = _read(file)
    return f"{describe(start)}{describe_outcome(start, records)}"


def _read(file: Path) -> KnownStart:
    try:
        return KnownStart.model_validate_json(file.read_bytes())
    except ValueError as error:  # pydantic's
        reason = str(error).splitlines()[0]
        message = (
            f"'{file}', which keeps where the search started, is damaged or of an earlier version "
            f"({reason}). Restore it from a backup, or remove the folder '{file.parent}' and run the "
            "same command again: the study then starts from the beginning."
        )
        raise StorageError(message) from error
