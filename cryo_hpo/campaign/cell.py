"""One cell at work: its study, its records, and its trainings as a source of jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..monitoring.recorder import Records
from ..search.queue import Phases
from ..study import folder as folders
from ..study import run as studies
from ..training.build import band_plan

if TYPE_CHECKING:
    from ..config import Cell, Recipe, Site, Study
    from ..monitoring.terminal import Progress
    from ..search.jobs import Source
    from ..search.trials import Record
    from ..tracking import Tracker


class CellRun:
    """A cell from its first trial to the last training of its final comparison.

    Attributes:
        cell: Its place in the matrix.
        study: Its study; with what finished cells offer, once it has begun.
        path: The study's folder.
        trials: Of its search, once that is over.
        source: Its jobs.
        records: Who hears its trainings; None: it has not begun.
    """

    def __init__(
        self,
        cell: Cell,
        study: Study,
        site: Site,
        *,
        tell: tuple[Tracker, Progress, str],
        informed: Callable[[CellRun], Study],
    ) -> None:
        """Prepare a cell; nothing is read or written before its first job is asked for.

        Args:
            cell: Its place in the matrix.
            study: Its study, as the matrix says.
            site: Where things are.
            tell: Tracker, progress, and the key of the campaign's own run.
            informed: Returns the study with what finished cells offer to it.
        """
        self.cell, self.study, self._site = cell, study, site
        self.path = folders.of(study, site)
        self.trials: list[Record] = []
        self.records: Records | None = None
        self._tell, self._informed = tell, informed
        self.source = Phases(self._phases())

    def _phases(self) -> Iterator[Source]:
        self.study = self._informed(self)
        folders.claim(self.study, self._site)
        folders.keep_spec(self.study, self.path)
        tracker, progress, parent = self._tell
        shown: Any = _Shown(progress, self.study.name.removeprefix(f"{parent}."))
        self.records = Records(
            self.study, self.path, tracker=tracker, progress=shown, bands=band_plan
        )
        studies.open_run(
            self.study,
            self._site,
            self.path,
            records=self.records,
            tracker=tracker,
            parent=parent,
        )
        assert self.study.search is not None, "a campaign has a search"
        search = studies.search_source(
            self.study,
            self.study.search,
            self.path,
            site=self._site,
            listener=self.records,
        )
        yield search
        search.raise_if_hopeless()
        self.trials = search.records
        confirm = studies.confirm_source(self.study, self.trials, self.path, listener=self.records)
        yield confirm
        confirm.raise_if_lost()


class _Shown:
    """A cell's lines in the progress of the whole campaign."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name = progress, name

    def leave_out(self, epochs: int) -> None:
        """Take epochs of an earlier run off what is to come."""
        self._progress.leave_out(epochs)

    def say(self, text: str) -> None:
        """Write one line."""
        self._progress.say(f"{self._name}  {text}")

    def started(self, key: str, recipe: Recipe, *, kind: str) -> None:
        """Show that a training begins, or goes on."""
        self._progress.started(f"{self._name} {key}", recipe, kind=kind)

    def epoch(self, key: str, metrics: Mapping[str, float]) -> None:
        """Show an epoch."""
        self._progress.epoch(f"{self._name} {key}", metrics)

    def paused(self, key: str, epoch: int) -> None:
        """Show that a trial waits at a rung."""
        self._progress.paused(f"{self._name} {key}", epoch)

    def ended(self, key: str, state: str, message: str) -> None:
        """Show how a training ended."""
        self._progress.ended(f"{self._name} {key}", state, message)
