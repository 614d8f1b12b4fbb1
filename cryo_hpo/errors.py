"""What can be wrong, as one tree.

CryoError
  SpecError (also ValueError)   the study, space, recipe or site is wrong; nothing has run
    UnknownName                 a name is in no table
    BandMismatch                the encoder needs bands the dataset lacks
  DataError                     files are missing, or hold what the dataset says they cannot
  WeightsError                  a checkpoint does not fit, or its hash differs
  FetchError                    a file of the web cannot be had, or is another one
  StorageError                  a folder cannot be written, or belongs to someone else
  TrackingError                 MLflow does not answer
  OutOfMemory                   one sample at a time does not fit
  Diverged                      loss or gradient is no longer finite, or the loss has exploded

Messages state the law, the value and the remedy, in that order, with the file (and line) first.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Sequence


class CryoError(Exception):
    """Anything this package refuses, with a message meant for its user.

    Attributes:
        about: The key of the study it concerns, part by part; its line stands before the message.
        parts: The errors it was made of, where several things are wrong.
    """

    about: tuple[str, ...] = ()
    parts: tuple[CryoError, ...] = ()


class SpecError(CryoError, ValueError):
    """The study, space, recipe or site is wrong; nothing has run."""


class UnknownName(SpecError):
    """A name is in no table."""

    def __init__(self, name: str, known: Iterable[str], *, what: str) -> None:
        names = sorted(known)
        near = did_you_mean(name, names)
        super().__init__(f"No {what} named '{name}'.{near} Known: {', '.join(names)}.")


class BandMismatch(SpecError):
    """The encoder needs bands the dataset lacks."""


class DataError(CryoError):
    """Files are missing, or hold what the dataset says they cannot."""


class WeightsError(CryoError):
    """A checkpoint does not fit, or its hash differs."""


class FetchError(CryoError):
    """A file of the web cannot be had, or is another one."""


class StorageError(CryoError):
    """A folder cannot be written, or belongs to someone else."""


class TrackingError(CryoError):
    """MLflow does not answer."""


class OutOfMemory(CryoError):
    """One sample at a time does not fit into memory."""


class Diverged(CryoError):
    """Loss or gradient is no longer finite, or the loss has exploded."""


@contextlib.contextmanager
def about(*key: str) -> Iterator[None]:
    """Say of every spec error that is raised inside which key of the study it concerns."""
    try:
        yield
    except SpecError as error:
        error.about = error.about or key
        raise


def together(errors: Sequence[CryoError]) -> CryoError:
    """Return errors as one, a line for each; it is a SpecError if one of them is."""
    if len(errors) == 1:
        return errors[0]
    kind = SpecError if any(isinstance(error, SpecError) for error in errors) else CryoError
    whole = kind("\n".join(map(str, errors)))
    whole.parts = tuple(errors)
    return whole


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest known name, or nothing if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
