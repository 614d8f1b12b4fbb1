"""Merge several studies into one job source, so that a cluster is full while any has work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Literal

from ..errors import CryoError, StorageError
from .jobs import Job, Outcome, Source


class Phases:
    """Chain sources: the next is made when the one before has no more jobs.

    Attributes:
        over: True once the last source has no more jobs, or a source could not be made.
        error: The error that ended the chain: a source could not be made, or the one before failed.
    """

    def __init__(self, phases: Iterator[Source]) -> None:
        self._phases = phases
        self._now: Source | None = None
        self.over = False
        self.error: CryoError | None = None

    def next(self) -> Job | Literal["wait"] | None:
        """Return the next job, "wait" or None; see `Source`.

        Raises:
            StorageError: A disk is full, which does not concern only this study.
        """
        while not self.over:
            job = None if self._now is None else self._now.next()
            if job is not None:
                return job
            self._advance()
        return None

    def epoch(self, job: Job, metrics: Mapping[str, float]) -> bool:
        """Record an epoch; return whether the job continues."""
        assert self._now is not None, "a job that runs came from a source"
        return self._now.epoch(job, metrics)

    def ended(self, job: Job, outcome: Outcome, message: str) -> None:
        """Record how a job ended."""
        assert self._now is not None, "a job that runs came from a source"
        self._now.ended(job, outcome, message)

    def _advance(self) -> None:
        try:
            self._now = next(self._phases)
        except StopIteration:
            self.over = True
        except StorageError:
            raise
        except CryoError as error:
            self.over, self.error = True, error


class Queue:
    """Queue sources by priority: a later source gets the capacity that earlier ones leave.

    The first sources finish early, and their results can serve those that begin later.
    """

    def __init__(
        self, sources: Mapping[str, Source], *, finished: Callable[[str], None] | None = None
    ) -> None:
        """Queue up sources.

        Args:
            sources: Name -> source; the name becomes a prefix of its jobs' keys.
            finished: Called with the name of a source that has no more jobs.
        """
        self._sources, self._left = sources, list(sources)
        self._jobs: dict[str, tuple[str, Job]] = {}
        self._finished = finished

    def next(self) -> Job | Literal["wait"] | None:
        """Return the next job, "wait" or None; see `Source`."""
        for name in tuple(self._left):
            job = self._sources[name].next()
            if job is None:
                self._left.remove(name)
                if self._finished is not None:
                    self._finished(name)
            elif job != "wait":
                outer = replace(job, key=f"{name}.{job.key}")
                self._jobs[outer.key] = (name, job)
                return outer
        return "wait" if self._left else None

    def epoch(self, job: Job, metrics: Mapping[str, float]) -> bool:
        """Record an epoch; return whether the job continues."""
        name, inner = self._jobs[job.key]
        return self._sources[name].epoch(inner, metrics)

    def ended(self, job: Job, outcome: Outcome, message: str) -> None:
        """Record how a job ended."""
        name, inner = self._jobs[job.key]
        self._sources[name].ended(inner, outcome, message)
