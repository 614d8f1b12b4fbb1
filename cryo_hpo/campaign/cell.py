"""Run one cell of a campaign: its study, its records, and its trainings as a job source."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..search.queue import Phases
from ..study import folder as folders
from ..study import run as studies
from ..study.data_guard import DataGuard, GuardedSource
from ..study.proof import Proof
from ..study.trainings import search_source
from ..study.winner import doubt_winner, keep_winner

if TYPE_CHECKING:
    from ..config import Cell, Site, Study
    from ..execution.executor import Executor, TrialResources
    from ..monitoring.recorder import Records
    from ..monitoring.terminal import Progress
    from ..monitoring.workload import Workload
    from ..search.jobs import Source
    from ..search.trials import Record
    from ..stats.shared_repeats import Gains
    from ..tracking import Tracker

log = logging.getLogger(__name__)


class CellRun:
    """Hold a cell's run, from its first trial to the last training of its final comparison.

    Attributes:
        cell: The cell's place in the matrix.
        study: The cell's study; with the offers of finished cells, once the cell has begun.
        path: The study's folder.
        trials: Trials of the search, once the search is over.
        source: Job source of the cell: the search and the first pairs, later the next pairs.
        records: Records of the trainings; None: the cell has not begun.
        tracker: Tracker of the cell's own log, once the cell has begun.
        slots: Resources of a training, once the queue is made.
        work: What the cell still has to do; None: it is not counted.
        is_hopeless: Whether the search is over and no trial can win.
    """

    def __init__(
        self,
        cell: Cell,
        study: Study,
        site: Site,
        *,
        reporting: tuple[Tracker, Progress, str],
        informed: Callable[[CellRun], Study],
        begun: Callable[[Path], None],
    ) -> None:
        """Prepare a cell; nothing is read or written before its first job is requested.

        Args:
            cell: The cell's place in the matrix.
            study: The cell's study, as the matrix defines it.
            site: Locations of data and storage.
            reporting: Tracker, progress, and the key of the campaign's own run.
            informed: Returns the study with the offers of finished cells.
            begun: Called with the cell's folder once it holds the study.
        """
        self.cell, self.study, self._site = cell, study, site
        self.path = folders.of(study, site)
        self.trials: list[Record] = []
        self.records: Records | None = None
        self.tracker = reporting[0]
        self.slots: TrialResources | None = None
        self.work: Workload | None = None
        self.is_hopeless = False
        self._reporting, self._informed, self._begun = reporting, informed, begun
        self.source = Phases(self._phases())

    def _phases(self) -> Iterator[Source]:
        self.study = self._informed(self)
        folders.claim(self.study, self._site)
        folders.keep_spec(self.study, self.path)
        self._begun(self.path)
        tracker, progress, parent = self._reporting
        self.tracker = tracker.beside(self.path / folders.EVENTS)
        self.records = studies.open_records(self.study, self.tracker, self._site, self.path)
        shown = self.study.name.removeprefix(f"{parent}.")
        progress.follow(self.tracker.events, name=shown)
        studies.open_run(self.study, self._site, self.path, tracker=self.tracker, parent=parent)
        assert self.study.search is not None, "a campaign has a search"
        search = search_source(
            self.study,
            self.study.search,
            self.path,
            site=self._site,
            listener=self.records,
        )
        guard = DataGuard(self.study.base, self._site, self.path)
        yield GuardedSource(search, guard)
        self.is_hopeless = True
        search.raise_if_hopeless()
        self.is_hopeless = False
        self.trials = search.records
        won = keep_winner(self.study, self._site, self.path, self.trials)
        if doubt := doubt_winner(self.study, self._site, won):
            log.warning("%s", doubt)
        yield from self._pairs()

    def prove_further(self) -> bool:
        """Take the next pairs of the final comparison as the cell's source; False if it is over."""
        if self.source.error is not None or self._proof.is_over:
            return False
        self.source = Phases(self._pairs())
        return True

    def score(self, slots: TrialResources, executor: Executor) -> None:
        """Score the pairs that are trained on the test split, unless the cell has failed."""
        if self.source.error is None:
            self._proof.score(self._site, slots=slots, executor=executor)

    @property
    def gains(self) -> Gains:
        """Relative gains of the scored pairs in percent, in the order of seeds; None: the baseline won."""
        return self._proof.shared_gains if self.trials else []

    @property
    def is_waiting(self) -> bool:
        """True if the cell is undecided, and may get more of the repeats that the cells share."""
        return self._proof.is_waiting

    @property
    def _proof(self) -> Proof:
        return Proof.of(self.study, self.path, self.trials)

    def _pairs(self) -> Iterator[Source]:
        assert self.records is not None, "a cell's comparison follows its search"
        assert self.slots is not None, "a cell's trainings have resources"
        if self.work is not None:
            arms = self._proof.arms
            self.work.expect_proof(sum(len(arm.seeds) for arm in arms) * self.study.base.epochs)
        pairs = self._proof.source(self._site, self.records, self.slots)
        yield GuardedSource(pairs, DataGuard(self.study.base, self._site, self.path))
        pairs.raise_if_lost()
