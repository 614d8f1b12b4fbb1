"""Train what a study needs: its search, then the pairs of its final comparison, on the same workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..execution.signals import raise_if_asked
from ..report.ties import tie_words
from ..search.journal import Journal
from ..search.queue import Phases
from ..search.replay import suggest_of
from ..search.source import SearchSource
from ..search.trials import Record, ties
from . import folder as folders
from .data_guard import DataGuard, GuardedSource
from .hours import open_purse
from .proof import Proof
from .start import start_of
from .winner import doubt_winner, keep_winner

if TYPE_CHECKING:
    from ..config import Search, Site, Study
    from ..execution.executor import Executor, TrialResources
    from ..monitoring.recorder import Records
    from ..monitoring.workload import Workload
    from ..search.budget import Budget
    from ..search.jobs import Source
    from ..search.listener import Listener


class Trainings:
    """Hold the trainings of a study, from the first trial to the last pair.

    Search and first pairs are one run of the executor: workers import and map everything once,
    and those of the search train the pairs too.

    Attributes:
        study: The study; with the shares of a budget of hours, once its search is over.
        trials: Trials of the search, once it is over.
    """

    def __init__(  # noqa: PLR0913 (what trainings are made with)
        self,
        study: Study,
        site: Site,
        path: Path,
        *,
        slots: TrialResources,
        records: Records,
        work: Workload,
        print_line: Callable[[str], None],
    ) -> None:
        """Prepare the trainings; no job is made before `run`.

        Args:
            study: The study.
            site: Locations of data and storage.
            path: The study's folder.
            slots: Resources of each training.
            records: Records of the trainings.
            work: What the study still has to do, for the time left.
            print_line: Prints a line that says what was decided.

        Raises:
            DataError: The data have changed since the study began.
        """
        self.study, self.trials = study, list[Record]()
        self._site, self._path, self._slots, self._records = site, path, slots, records
        self._work, self._print_line = work, print_line
        self._guard = DataGuard(study.base, site, path)

    def run(self, executor: Executor) -> None:
        """Train and score until the comparison is over.

        Raises:
            CryoError: The search found no winner, or a training of the comparison is lost.
            Stopped: A signal requested a stop.
        """
        phases = Phases(self._phases())
        executor.run(phases, site=self._site, slots=self._slots)
        if phases.error is not None:
            raise phases.error
        raise_if_asked()
        for line in self._proof.run(
            self._site,
            slots=self._slots,
            executor=executor,
            listener=self._records,
            first_is_trained=True,
        ):
            self._print_line(line)

    @property
    def _proof(self) -> Proof:
        return Proof.of(self.study, self._path, self.trials)

    def _phases(self) -> Iterator[Source]:
        if self.study.search is not None:
            yield from self._search(self.study.search)
        arms = self._proof.arms
        if self.study.proof == "full":  # a baseline that won has no tuned recipe beside it
            self._work.expect_proof(sum(len(arm.seeds) for arm in arms) * self.study.base.epochs)
        if arms:
            pairs = self._proof.source(self._site, self._records, self._slots)
            yield GuardedSource(pairs, self._guard)
            pairs.raise_if_lost()

    def _search(self, search: Search) -> Iterator[Source]:
        """Yield the search; then keep its winner and settle its budget."""
        purse = open_purse(self.study, self._path, records=self._records, slots=self._slots)
        if purse is not None:
            self._work.limit_search(purse.search_epochs)
        source = search_source(
            self.study,
            search,
            self._path,
            site=self._site,
            listener=self._records,
            budget=None if purse is None else purse.budget,
        )
        yield GuardedSource(source, self._guard)
        source.raise_if_hopeless()
        self.trials = source.records
        won = keep_winner(self.study, self._site, self._path, self.trials)
        self.study = self.study if purse is None else purse.settle(self._path)
        self._print_line(_next_step(self.study, won.trial, ties(self.trials)))
        if doubt := doubt_winner(self.study, self._site, won):
            stop = "" if self.study.proof == "none" else " Ctrl-C ends the final comparison."
            self._print_line(f"{doubt}{stop}")


def _next_step(study: Study, trial: int, equals: list[int]) -> str:
    """Return which trial won, with which others it ties, and whose model can be used meanwhile."""
    until = "" if study.proof == "none" else " until the final comparison is over"
    tie = f" ({tie_words([trial, *equals])})" if equals else ""
    return (
        f"The search is over: trial {trial} won on validation{tie}. `cryo-hpo predict "
        f"{study.name}` and `export` use its model{until}."
    )


def search_source(
    study: Study,
    search: Search,
    path: Path,
    *,
    site: Site,
    listener: Listener,
    budget: Callable[[], Budget] | None = None,
) -> SearchSource:
    """Return the job source of the search, resumed from the study's journal or database."""
    return SearchSource(
        study,
        suggest=suggest_of(search),
        journal=Journal(path / folders.JOURNAL, study=study.name, database=site.optuna),
        folder=path / folders.TRIALS,
        listener=listener,
        budget=budget,
        start=start_of(study, path, site=site),
    )
