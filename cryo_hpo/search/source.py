"""Hand out the jobs of a search: baseline first, then new configurations and promotions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import CryoError, StorageError
from ..results.epochs import EPOCH, score_of
from ..results.study import Decision
from . import rungs as rules
from .budget import Budget, budget_of, fix_trials
from .halton import known_point
from .hopeless import Failures, why_hopeless
from .jobs import Job, Outcome
from .known_start import Judgment, KnownStart, judge, passes_for_start
from .replay import Suggest, replayed
from .rungs import Ladder, Promotion, ladder_of, rungs_of
from .sampler import Memory, propose
from .trials import BASELINE as BASELINE
from .trials import key as key
from .trials import winner as winner

if TYPE_CHECKING:
    from ..config import Study
    from ..config.space import Scalar
    from .journal import Journal
    from .listener import Listener
    from .trials import Record

log = logging.getLogger(__name__)


class SearchSource:
    """Hand out the trials of a search, whose whole state is in the journal."""

    def __init__(  # noqa: PLR0913 (what a search is made of)
        self,
        study: Study,
        *,
        suggest: Suggest,
        journal: Journal,
        folder: Path,
        listener: Listener,
        budget: Callable[[], Budget] | None = None,
        start: KnownStart | None = None,
    ) -> None:
        """Read the state of a search.

        Args:
            study: The study.
            suggest: Draws the values of a trial.
            journal: Holds the trials.
            folder: Folder of the trainings.
            listener: Receives their events.
            budget: Returns what the search may still train; None: as the study has it.
            start: Known points at which the search starts; None: it starts evenly.
        """
        assert study.search is not None, "a study without a search has no trials"
        self.start = start or KnownStart()
        self._study, self._suggest = study, suggest
        self._read_budget = budget or partial(budget_of, study.search, study.base.epochs)
        self._search = fix_trials(study.search, study.base.epochs, whole=self.start.whole)
        self._journal, self._folder, self._listener = journal, folder, listener
        self._records = {record.number: record for record in journal.records()}
        self._rule = getattr(self._search.scheduler, "rule", "none")
        self._rungs = rungs_of(self._search, study.base.epochs)
        self._at_work: set[int] = set()
        self._finishing: set[int] = set()  # leaders that train to full length without a pause
        # A trial that was running when the driver died resumes from its own checkpoint.
        self._interrupted = [n for n, r in self._records.items() if self._was_cut(r)]
        self._interrupted += self._reopen()
        self._failures = Failures()
        self._shown: Memory = {}
        self._reconcile()

    @property
    def ladder(self) -> Ladder | None:
        """The rungs of the pause-and-promote rule; None under any other rule."""
        return ladder_of(self._search, self._study.base.epochs)

    @property
    def _budget(self) -> Budget | None:
        return self._read_budget()

    @property
    def records(self) -> list[Record]:
        """All trials so far."""
        return list(self._records.values())

    def next(self) -> Job | Literal["wait"] | None:
        """Return the next job, "wait" or None; see `Source`."""
        if self._failures.end_search:
            return "wait" if self._at_work else None
        if self._interrupted:
            return self._job(self._interrupted.pop(0), cleared=0)
        waits = bool(self._at_work) or self._may_begin_known()
        judgment = judge(self.start, self._records, waits=waits)
        job = self._start_next(judgment)
        if job is not None or (judgment.leaders and not self.start.goes_on):
            return job or self._end()  # known points that hold end the search
        promotion = self._promotion()
        if promotion is not None and self._affords(promotion.trial):
            self._note(promotion.trial, promotion.rung, "promoted")
            return self._job(promotion.trial, cleared=promotion.rung)
        if self._may_begin():
            return self._job(self._begin(), cleared=0)
        return self._end()

    def _end(self) -> Job | Literal["wait"] | None:
        """Return the last job of the search, "wait" or None; see `Source`."""
        if self._at_work:
            return "wait"
        job = self._finish()
        if job is None:
            self._close_failed()
        return job

    def _may_begin_known(self) -> bool:
        return len(self._records) <= len(self.start.points) and self._may_begin()

    def _start_next(self, judgment: Judgment) -> Job | Literal["wait"] | None:
        """Return the next job of a start at known points, "wait", or None: it has no more."""
        if judgment.stage == "open":
            return self._job(self._begin(), cleared=0) if self._may_begin_known() else "wait"
        for number in filter(self._waiting().__contains__, judgment.leaders):
            if number == judgment.leaders[0] or self._holds(number):
                return self._to_full_length(Promotion(number, self.start.rung))
        return None

    def epoch(self, job: Job, metrics: Mapping[str, float]) -> bool:
        """Record an epoch; return whether the job continues."""
        number, epoch = _number(job), int(metrics[EPOCH])
        record = self._records[number]
        self._listener.epoch(job.key, metrics)
        if epoch in record.curve:
            return self._passed(number, epoch)
        self._journal.report(number, epoch, score_of(metrics))
        record.curve[epoch] = score_of(metrics)
        return epoch not in self._rungs or epoch <= job.cleared or self._decide(number, epoch)

    def ended(self, job: Job, outcome: Outcome, message: str) -> None:
        """Record how a job ended."""
        number = _number(job)
        self._at_work.discard(number)
        if outcome == "unwritable":
            raise StorageError(message)
        record = self._records[number]
        self._failures.add(outcome, message)
        if outcome == "diverged":
            self._close(number, "diverged", message)
        elif outcome in ("refused", "crashed"):
            self._close(number, "failed", message)
        elif record.epochs >= self._study.base.epochs:
            self._close(number, "complete", "")
        elif self._rule == "stop":
            self._close(number, "pruned", str(record.steps[-1]))
        else:
            self._listener.paused(job.key, record.epochs)

    def raise_if_hopeless(self) -> None:
        """Raise if refused trials ended the search, or no trial can win.

        Raises:
            CryoError: Trials in a row failed alike, or none reached full length; the
                message quotes a trial's own.
        """
        message = why_hopeless(self.records, refused=self._failures.count)
        if message:
            raise CryoError(message)

    def _reopen(self) -> list[int]:
        """Reopen the failed trials of an earlier run, since their cause may be gone."""
        numbers = self._journal.failed()
        for number in numbers:
            why = self._records[number].message
            log.warning("%s failed before, and runs again (%s).", key(number), why)
            self._journal.reopen(number)
            self._records[number] = self._journal.record(number)
        return numbers

    def _close_failed(self) -> None:
        """Close failed trials for good, once the search has a winner."""
        if any(record.state == "complete" for record in self.records):
            self._journal.close_failed()

    def _reconcile(self) -> None:
        """Record what the study's log has lost of earlier trials."""
        for number, record in self._records.items():
            if number not in self._interrupted:  # those report again what they have
                self._listener.reconcile(
                    key(number),
                    self._study.recipe(record.params),
                    kind="baseline" if number == BASELINE else "search",
                    epochs=record.epochs,
                    state=None if record.state == "running" else record.state,
                    message=record.message,
                )

    def _passed(self, number: int, epoch: int) -> bool:
        """Return whether a trial that reports an epoch again continues; a past decision stands.

        Under the stop rule a driver may have died between recording the epoch and deciding.
        """
        if self._rule != "stop" or epoch not in self._rungs:
            return True  # a trial that was not to continue would not have been restarted
        past = [s.decision for s in self._records[number].steps if s.rung == epoch]
        return past[-1] != "pruned" if past else self._decide(number, epoch)

    def _decide(self, number: int, rung: int) -> bool:
        """Decide whether a trial passes the rung it has just reached, and record the decision."""
        if self._rule == "stop":
            survives = self._survives(number, rung)
        else:
            assert self.ladder is not None, "there are rungs only on a ladder"
            lost = self._diverged()
            if (passes := passes_for_start(self.start, number, rung, self._records)) is None:
                passes = rules.passes_rung(self._curves(), self.ladder, number, rung, diverged=lost)
            survives = passes and self._affords(number)
        no: Decision = "pruned" if self._rule == "stop" else "paused"
        self._note(number, rung, "continued" if survives else no)
        return survives

    def _survives(self, number: int, rung: int) -> bool:
        """Return whether the stop rule lets a trial continue; the baseline always continues."""
        rule, curves = self._search.scheduler, self._curves()
        assert rule.kind == "asha", "without rungs nothing is compared"
        earlier = [c[rung] for n, c in curves.items() if n != number and rung in c]
        score = curves[number][rung]
        return number == BASELINE or not rules.stops(score, earlier, reduction=rule.reduction)

    def _was_cut(self, record: Record) -> bool:
        """Return whether a trial was running, not paused at a rung, when the driver ended."""
        rungs = () if self.ladder is None else self.ladder.rungs
        return record.state == "running" and record.epochs not in rungs

    def _curves(self) -> dict[int, dict[int, float]]:
        return {n: r.curve for n, r in self._records.items()}

    def _diverged(self) -> set[int]:
        return {n for n, r in self._records.items() if r.state == "diverged"}

    def _waiting(self) -> set[int]:
        return {
            n
            for n, r in self._records.items()
            if r.state == "running" and r.curve and n not in self._at_work
        }

    def _promotion(self) -> Promotion | None:
        if self.ladder is None:
            return None
        return rules.promotable(
            self._curves(), self.ladder, self._waiting(), diverged=self._diverged()
        )

    def _may_begin(self) -> bool:
        """Return whether a new trial may begin: there are trials left, or the budget allows it."""
        if self._budget is None:
            assert self._search.trials is not None, "a search has trials or a budget"
            return len(self._records) < self._search.trials
        return self._affords(len(self._records))

    def _affords(self, number: int) -> bool:
        """Return whether the budget allows a trial to train until its next rung; see `Budget`."""
        if self._budget is None:
            return True
        others = [record for n, record in self._records.items() if n != number]
        spent = sum(map(self._committed, others))
        if not self._pausing:
            return self._budget.allows_whole(others=spent)
        record = self._records.get(number)
        return self._budget.allows(
            self._next_stop(record.epochs if record else 0),
            others=spent,
            paused=[r.epochs for r in others if r.number in self._waiting()],
            has_candidate=any(r.state == "complete" for r in others if r.number != BASELINE),
        )

    @property
    def _pausing(self) -> tuple[int, ...]:
        """The rungs at which trials pause."""
        return () if self.ladder is None else self.ladder.rungs

    def _next_stop(self, epoch: int) -> int:
        """Return the epoch above one at which a trial pauses or is complete."""
        return min(e for e in (*self._pausing, self._study.base.epochs) if e > epoch)

    def _committed(self, record: Record) -> int:
        """Return the epochs that a trial has trained, or trains before it can be paused."""
        if record.number in self._finishing and record.number in self._at_work:
            return self._study.base.epochs
        runs = record.number in self._at_work or self._was_cut(record)
        open_ended = record.state == "running" and record.epochs < self._study.base.epochs
        return self._next_stop(record.epochs) if runs and open_ended else record.epochs

    def _note(self, number: int, rung: int, decision: Decision) -> str:
        """Record a decision about a trial at a rung with the trial's rank; return it as text."""
        rule = self._search.scheduler
        assert rule.kind == "asha", "nobody is compared without rungs"
        steps = Ladder.of(
            grace_epochs=rule.grace_epochs, reduction=rule.reduction, epochs=self._study.base.epochs
        )
        lost = self._diverged()
        decided = rules.decision_at(
            decision, number, rung, curves=self._curves(), ladder=steps, diverged=lost
        )
        self._journal.note(number, decided)
        self._records[number] = self._journal.record(number)
        return str(decided)

    def _finish(self) -> Job | None:
        """Promote one candidate to full length if none is complete, then prune the paused."""
        if self.ladder is None:
            return None
        winners = [n for n, r in self._records.items() if r.state == "complete" and n != BASELINE]
        leader = rules.finalist(self._curves(), self.ladder, self._waiting())
        if leader is not None and not winners and self._may_finish(leader.trial):
            return self._to_full_length(leader)
        for number in sorted(self._waiting()):
            why = self._note(number, self._records[number].epochs, "pruned")
            self._close(number, "pruned", why)
        return None

    def _to_full_length(self, leader: Promotion) -> Job:
        """Promote a trial that trains to full length without another pause."""
        self._note(leader.trial, leader.rung, "promoted")
        self._finishing.add(leader.trial)
        return self._job(leader.trial, cleared=self._study.base.epochs)

    def _may_finish(self, number: int) -> bool:
        """Return whether a leader may train to full length: the budget allows it, or none is."""
        return self._holds(number) or not any(r.state == "complete" for r in self.records)

    def _holds(self, number: int) -> bool:
        """Return whether the budget holds the full length of a trial."""
        spent = sum(self._committed(r) for n, r in self._records.items() if n != number)
        return self._budget is None or self._budget.allows_whole(others=spent)

    def _begin(self) -> int:
        number = len(self._records)
        drawn = self._propose(number)
        replay = replayed(self._suggest, drawn) if drawn else None
        if replay:  # an invalid recipe raises before the journal holds it
            self._study.recipe(replay.params)
        begun = self._journal.begin(drawn, self._suggest if drawn else None)
        assert begun == number, "one driver writes to a journal"
        self._records[number] = self._journal.record(number)
        return number

    def _propose(self, number: int) -> dict[str, Scalar]:
        """Return the values of a new trial.

        The baseline gets its own values if the space holds them, so that the sampler learns from
        them; else none.
        """
        if number == BASELINE:
            base = {k: v for k, v in self._study.base.flat().items() if v is not None}
            inside = replayed(self._suggest, base)
            same = inside and all(base.get(k) == v for k, v in inside.params.items())
            return dict(inside.trial.params) if inside and same else {}
        if (point := self.start.point(number)) is not None:
            return known_point(self._suggest, point, seed=self._search.seed, index=number - 1)
        even = number - len(self.start.points)
        return propose(
            self._suggest, self.records, search=self._search, number=even, memory=self._shown
        )

    def _job(self, number: int, *, cleared: int) -> Job:
        self._at_work.add(number)
        recipe = self._study.recipe(self._records[number].params)
        job = Job(
            key=key(number),
            recipe=recipe.model_dump_json(),
            workdir=str(self._folder / key(number)),
            keep_best=True,  # any trial may reach full length, at whatever epoch it is best
            cleared=cleared,
            metric=self._search.metric,
            recorded=self._records[number].unbroken,
            decisions=self._rungs,
        )
        self._listener.started(job.key, recipe, kind="baseline" if number == BASELINE else "search")
        return job

    def _close(
        self, number: int, state: Literal["complete", "pruned", "diverged", "failed"], message: str
    ) -> None:
        self._listener.ended(key(number), state, message)
        self._journal.end(number, state, message)
        self._records[number] = self._journal.record(number)


def _number(job: Job) -> int:
    return int(job.key.rpartition("-")[2])
