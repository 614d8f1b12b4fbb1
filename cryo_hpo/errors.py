"""Define this package's errors as one tree.

CryoError
  SpecError (also ValueError)   a study, space, recipe or site is wrong; nothing has run
    UnknownName                 a name is in no table
    BandMismatch                the encoder needs bands that the dataset lacks
  DataError                     files are missing, or contradict the dataset's card
  WeightsError                  a checkpoint does not fit its encoder, or its checksum differs
  FetchError                    a download failed, or its checksum does not match
  StorageError                  a folder cannot be written, or belongs to another study
  TrackingError                 MLflow does not answer
  OutOfMemory                   a single sample does not fit into memory
  ClusterDied                   Ray has died, or did not start; the study resumes
  Diverged                      loss or gradient is no longer finite, or the loss has exploded

Messages lead with what failed, then the value, then the remedy; file and line stand before them.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Sequence


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun for a message: 1 seed, 2 seeds, 3 groups of scenes."""
    head, _, rest = noun.partition(" of ")
    plural = head if number == 1 else f"{head}s"
    return f"{number} {plural}{rest and f' of {rest}'}"


class CryoError(Exception):
    """Base of this package's errors; the message is written for the user.

    Attributes:
        key: Key of the study that is wrong, part by part; its line is put before the message.
        parts: The errors that `combine` merged into it.
    """

    key: tuple[str, ...] = ()
    parts: tuple[CryoError, ...] = ()


class SpecError(CryoError, ValueError):
    """A study, space, recipe or site is wrong; nothing has run."""


class UnknownName(SpecError):
    """A name is in no table."""

    def __init__(self, name: str, valid: Iterable[str], *, what: str) -> None:
        names = sorted(valid)
        near = did_you_mean(name, names)
        super().__init__(f"No {what} named '{name}'.{near} Known: {', '.join(names)}.")


class BandMismatch(SpecError):
    """The encoder needs bands that the dataset lacks."""


class DataError(CryoError):
    """Files are missing, or contradict the dataset's card."""


class WeightsError(CryoError):
    """A checkpoint does not fit its encoder, or its checksum differs."""


class FetchError(CryoError):
    """A download failed, or its checksum does not match."""


class StorageError(CryoError):
    """A folder cannot be written, or belongs to another study."""


class TrackingError(CryoError):
    """MLflow does not answer."""


class OutOfMemory(CryoError):
    """A single sample does not fit into memory."""


class ClusterDied(CryoError):
    """Ray has died, or did not start; the study resumes."""


class Diverged(CryoError):
    """Loss or gradient is no longer finite, or the loss has exploded."""


@contextlib.contextmanager
def concerning(*key: str) -> Iterator[None]:
    """Mark every spec error raised inside with the key of the study that is wrong."""
    try:
        yield
    except SpecError as error:
        error.key = error.key or key
        raise


def combine(errors: Sequence[CryoError]) -> CryoError:
    """Merge several errors into one, a line for each; a SpecError if one of them is."""
    if len(errors) == 1:
        return errors[0]
    kind = SpecError if any(isinstance(error, SpecError) for error in errors) else CryoError
    whole = kind("\n".join(map(str, errors)))
    whole.parts = tuple(errors)
    return whole


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest known name, or "" if none is near."""
    near = difflib.get_close_matches(name, list(valid), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
