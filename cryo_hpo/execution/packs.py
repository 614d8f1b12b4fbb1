"""Pack trainings that share a frozen encoder, for one worker that trains them together."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ..config import Recipe
from ..results.epochs import EPOCH
from ..search.jobs import MESSAGE, OUTCOME, Job, Outcome
from ..training.sharing import shared_key

if TYPE_CHECKING:
    from .attempts import Attempts

AHEAD = 2  # packs of jobs that are taken from the source at most, to find some that fit together
DEATHS = 2  # of a training's workers in packs, after which it is trained alone

Attempt = Outcome | Literal["died"]
Likeness = tuple[str, int, int]  # key of what is shared, recorded epochs, next stop

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pack:
    """Hold the jobs of one worker: one training, or several that are trained together."""

    jobs: tuple[Job, ...]

    @property
    def name(self) -> str:
        """Key of the first training, and how many are trained with it: "trial-0003+2"."""
        more = len(self.jobs) - 1
        return f"{self.jobs[0].key}+{more}" if more else self.jobs[0].key

    @property
    def is_single(self) -> bool:
        """True if it is one training."""
        return len(self.jobs) == 1


def keyed(
    key: str, reports: Generator[Mapping[str, Any], None, None]
) -> Generator[tuple[str, Mapping[str, Any]], None, None]:
    """Yield the reports of a single training as those of a pack are, with its key."""
    with contextlib.closing(reports):
        for report in reports:
            yield key, report


@dataclass(slots=True)
class _Member:
    """Hold how far a training of a running pack is.

    Attributes:
        job: The job.
        end: How it ended in this pack: its outcome, or "stopped" at a rung that it has passed.
        message: Message of the outcome.
        is_told: Whether the source has the outcome.
    """

    job: Job
    end: Attempt | Literal["stopped"] | None = None
    message: str = ""
    is_told: bool = False


class Packs:
    """Hand out a source's jobs in packs, and give their epochs and outcomes back one by one.

    A pack holds jobs whose recipes have one key of `shared_key` and which are at the same epoch and
    stop at the same next one: a rung, or the end. One that may pass the rung goes back to the
    queue, where the others that may are too; the source sees no end of it. What fails in a pack is
    tried alone before it is an outcome, since the others may have caused it.

    A job that fits no other is a pack by itself: it passes rungs without a new start.
    """

    def __init__(
        self,
        source: Attempts,
        *,
        most: int,
        share: Callable[[Recipe], str | None] = shared_key,
    ) -> None:
        """Set the size of a pack.

        Args:
            source: Hands out jobs.
            most: The most jobs of a pack.
            share: Returns a key that is equal for recipes that can be trained together; None: the
                recipe is trained alone.
        """
        self._source, self._most, self._share = source, most, share
        self._held: list[Job] = []
        self._running: dict[str, dict[str, _Member]] = {}
        self._alone: set[str] = set()
        self._deaths: Counter[str] = Counter()
        self._shared: dict[str, tuple[str | None, int]] = {}

    def next(self) -> Pack | Literal["wait"] | None:
        """Return the next pack, "wait" or None; see `Source`."""
        answer = self._pull()
        if not self._held:
            open_ended = any(len(members) > 1 for members in self._running.values())
            return "wait" if answer is None and open_ended else answer
        pack = Pack(tuple(self._first_group()))
        self._held = [job for job in self._held if job not in pack.jobs]
        self._running[pack.name] = {job.key: _Member(job) for job in pack.jobs}
        return pack

    def report(self, pack: Pack, key: str, report: Mapping[str, Any]) -> bool:
        """Record a report of a training: an epoch, or its outcome; return whether the pack continues."""
        members = self._running[pack.name]
        member = members[key]
        if OUTCOME in report:
            member.end, member.message = report[OUTCOME], report[MESSAGE]
            if not pack.is_single and member.end in ("diverged", "unwritable"):
                member.is_told = True
                self._source.ended(member.job, member.end, member.message)
        elif member.end is None:
            member.end = self._epoch(pack, member.job, report)
        return any(each.end is None for each in members.values())

    def ended(self, pack: Pack, outcome: Attempt, message: str) -> None:
        """Record how the attempt at a pack ended: the outcome of all its trainings without their own."""
        members = self._running.pop(pack.name).values()
        if outcome == "done" and not pack.is_single:
            outcome, message = "crashed", "its worker ended without a report of it"
        back = []
        for member in members:
            if member.end is None:
                member.end, member.message = outcome, message
            if not member.is_told and (job := self._returned(pack, member)) is not None:
                back.append(job)
        self._held = back + self._held

    def _pull(self) -> Literal["wait"] | None:
        """Take jobs until the oldest has enough others; return the source's answer if it has no more."""
        while len(self._held) < AHEAD * self._most and not self._is_full(self._first_group()):
            job = self._source.next()
            if job is None or job == "wait":
                return job
            self._held.append(job)
        return "wait"

    def _is_full(self, group: list[Job]) -> bool:
        return bool(group) and (len(group) == self._most or self._likeness_of(group[0]) is None)

    def _first_group(self) -> list[Job]:
        """Return the oldest job that waits, and the next that can be trained with it."""
        if not self._held:
            return []
        first, *others = self._held
        likeness = self._likeness_of(first)
        if likeness is None:
            return [first]
        alike = [job for job in others if self._likeness_of(job) == likeness]
        return [first, *alike[: self._most - 1]]

    def _likeness_of(self, job: Job) -> Likeness | None:
        """Return what jobs of a pack have in common; None: the job is trained alone.

        A decision that an earlier driver has left open is the source's: it may stop the job before
        its first epoch.
        """
        if self._most == 1 or job.key in self._alone:
            return None
        shared, _ = self._read(job)
        is_undecided = job.recorded in job.decisions and job.recorded > job.cleared
        return None if shared is None or is_undecided else (shared, job.recorded, self._stop(job))

    def _read(self, job: Job) -> tuple[str | None, int]:
        """Return the key of what a job shares, and the epochs of its recipe."""
        if job.key not in self._shared:
            recipe = Recipe.model_validate_json(job.recipe)
            self._shared[job.key] = self._share(recipe), recipe.epochs
        return self._shared[job.key]

    def _stop(self, job: Job) -> int:
        """Return the epoch after which a job stops in a pack."""
        later = (e for e in job.decisions if e > max(job.cleared, job.recorded))
        return min((*later, self._read(job)[1]))

    def _epoch(
        self, pack: Pack, job: Job, metrics: Mapping[str, Any]
    ) -> Literal["done", "stopped"] | None:
        """Record an epoch; return how the job ends in this pack, None: it continues."""
        if not self._source.epoch(job, metrics):
            return "done"
        if pack.is_single or metrics[EPOCH] < self._stop(job):
            return None
        return "done" if metrics[EPOCH] >= self._read(job)[1] else "stopped"

    def _returned(self, pack: Pack, member: _Member) -> Job | None:
        """Report how a training ended, unless it goes on: then return its job, to be handed out."""
        job, end = member.job, member.end
        assert end is not None, "the attempt is over"
        if end == "stopped":
            rung = self._stop(job)
            return replace(job, cleared=rung, recorded=rung)
        if not pack.is_single:
            self._note_failure(job, end)
            if end == "refused":
                log.info("%s is trained alone: %s", job.key, member.message)
                return job
        self._source.ended(job, end, member.message)
        return None

    def _note_failure(self, job: Job, end: Attempt) -> None:
        """Let a training that failed in a pack be trained alone from now on."""
        self._deaths[job.key] += end == "died"
        if end in ("crashed", "refused") or self._deaths[job.key] >= DEATHS:
            self._alone.add(job.key)
