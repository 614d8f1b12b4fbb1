"""Run a campaign from its spec to its result: one queue, one tracker, one table."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ..config import Campaign, Site, cell_studies, load_campaign
from ..config.seeds import format_seeds
from ..config.study import format_length
from ..errors import CryoError
from ..execution import executor_for
from ..execution.signals import raise_if_asked
from ..monitoring.heartbeat import phase
from ..monitoring.terminal import Progress
from ..results.campaign import NAME, CampaignResult
from ..results.study import Result
from ..search.queue import Queue
from ..study import folder as folders
from ..study import frame
from ..study import run as studies
from ..study.own_result import own_result
from ..study.packing import with_packs
from ..study.timing import workload_of
from ..tracking import Tracker
from .cell import CellRun
from .preflight import check_campaign, plan_campaign
from .publish import complete, experiment, publication, publish
from .repeats import SharedRepeats, gains_of
from .transfer import Transfer
from .verdict import outcome

if TYPE_CHECKING:
    from ..config import Cell, Study
    from ..execution.executor import Executor, TrialResources
    from ..monitoring.recorder import Records
    from ..stats.shared_repeats import Gains
    from .preflight import CampaignPlan


def run_campaign(
    campaign: Campaign | Path | str,
    site: Site | None = None,
    *,
    console: Console | None = None,
    inline: bool = False,
) -> CampaignResult:
    """Run a campaign to its table, resume it, or return the result it already has.

    Every cell is checked before anything runs. Trials of all cells share one queue.

    Args:
        campaign: The campaign, or the path of its YAML file.
        site: Locations of data, weights, storage, cache and MLflow; None: from the environment.
        console: Console for progress; None: standard output.
        inline: Train in this process, one training after another, without Ray: a breakpoint in
            the training loop works, and RAY_ADDRESS is not used.

    Raises:
        CryoError: The campaign failed; the message gives the remedy. Computed results are kept;
            cells that could be finished are.
        Stopped: A signal requested a stop.
    """
    campaign = campaign if isinstance(campaign, Campaign) else load_campaign(campaign)
    site = site or Site.from_env(os.environ)
    console, executor = console or Console(), executor_for(inline=inline)
    path = folders.claim(campaign, site)
    with folders.driving(path), frame.heartbeat(console) as beat:
        if (path / NAME).exists():
            console.print(f"Campaign '{campaign.name}' has finished; its result is in {path}.")
            return complete(campaign, site, path, console=console)
        with phase("checking data and models"):
            check_campaign(campaign, site=site)
        with phase("planning"):
            size = plan_campaign(campaign, site=site)
        with phase("connecting to MLflow"):
            tracker = frame.begin(
                campaign, site, path, experiment=experiment(campaign), disk_gib=size.disk_gib
            )
        progress = Progress(console=console, on_print=beat.reset)
        cells = _Cells(campaign, site, path, tracker=tracker, progress=progress)
        cells.expect_work(size)
        with (
            cells.held(),
            frame.running(
                tracker, executor, console, unfinished=cells.unfinished, own_run=campaign.name
            ),
        ):
            _open(campaign, path, tracker)
            slots = executor.slots(campaign.resources, campaign.search.parallel)
            slots = with_packs(slots, cell_studies(campaign).values(), site)
            with progress, beat.through(progress.still), phase("training"):
                queue: Queue | None = cells.queue(slots)
                while queue is not None:
                    executor.run(queue, site=site, slots=slots)
                    raise_if_asked()
                    queue = cells.next_pairs(slots, executor)
            with phase("writing results and reports"):
                results = cells.conclude(slots, executor)
            return _finish(campaign, site, path, results, cells=cells, console=console)


class _Cells:
    """Hold the cells of a campaign: those that run, and those that have finished."""

    def __init__(
        self, campaign: Campaign, site: Site, path: Path, *, tracker: Tracker, progress: Progress
    ) -> None:
        self._site, self.tracker, self._progress = site, tracker, progress
        self.transfer, self._repeats = Transfer(campaign, path), SharedRepeats(campaign)
        self.results: dict[Cell, tuple[Study, Result]] = {}
        self._runs: dict[str, CellRun] = {}
        for cell, study in cell_studies(campaign).items():
            folder = folders.of(study, site)
            if (folder / "result.json").exists():
                self.results[cell] = (study, own_result(study, folder))
                self.transfer.finished(cell, study, self.results[cell][1])
                continue
            reporting = (tracker, progress, campaign.name)
            run = CellRun(
                cell,
                study,
                site,
                reporting=reporting,
                informed=self.transfer.informed,
                begun=self._repeats.begin,
            )
            self._runs[study.name.removeprefix(f"{campaign.name}.")] = run

    def expect_work(self, size: CampaignPlan) -> None:
        """Count the cells without a result towards the time left."""
        for name, run in self._runs.items():
            run.work = workload_of(run.study, size.cells[run.study.name], self._site)
            self._progress.expect(run.work, name=name)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folders of the cells, so that none is run as a study meanwhile."""
        with contextlib.ExitStack() as stack:
            for run in self._runs.values():
                stack.enter_context(folders.driving(folders.make(run.path)))
            yield

    def queue(self, slots: TrialResources) -> Queue:
        """Return the jobs of all cells, each with these resources."""
        for run in self._runs.values():
            run.slots = slots
        return Queue(
            {name: run.source for name, run in self._runs.items()},
            finished=lambda name: self.transfer.searched(self._runs[name]),
        )

    def next_pairs(self, slots: TrialResources, executor: Executor) -> Queue | None:
        """Score the pairs so far; return the next ones of undecided cells, None if all are over."""
        for run in self._runs.values():
            run.score(slots, executor)
        self._share_repeats()
        sources = {name: run.source for name, run in self._runs.items() if run.prove_further()}
        return Queue(sources) if sources else None

    def _share_repeats(self) -> None:
        gains: dict[Cell, Gains] = {
            cell: gains_of(result) for cell, (_, result) in self.results.items()
        }
        gains |= {run.cell: run.gains for run in self._runs.values()}
        places = {
            cell: folders.of(study, self._site) for cell, (study, _) in self.results.items()
        } | {run.cell: run.path for run in self._runs.values()}
        hopeless = [run.cell for run in self._runs.values() if run.is_hopeless]
        self._repeats.postpone(hopeless, places)
        self._repeats.share(gains, places, open_=[run.cell for run in self._runs.values()])

    def conclude(
        self, slots: TrialResources, executor: Executor
    ) -> dict[Cell, tuple[Study, Result]]:
        """Score the test splits of the cells whose trainings are over, and publish their results.

        Raises:
            CryoError: Cells could not be finished; the message names each with its error.
        """
        for run in self._runs.values():
            if run.source.error is None and not run.is_waiting:
                result = studies.conclude(
                    run.study,
                    self._site,
                    run.path,
                    trials=run.trials,
                    slots=slots,
                    executor=executor,
                )
                studies.publish(result, run.study, self._site, run.path, tracker=run.tracker)
                self.results[run.cell] = (run.study, result)
        failed = {name: run.source.error for name, run in self._runs.items() if run.source.error}
        if failed:
            raise CryoError(self._describe_failed(failed))
        return self.results

    def _describe_failed(self, failed: Mapping[str, CryoError]) -> str:
        runs = {name: run for name, run in self._runs.items() if run.cell not in self.results}
        waiting = [name for name in runs if name not in failed]
        why = "; ".join(f"{name}: {error}" for name, error in failed.items())
        others = (
            f"Undecided cells that share their repeats with them wait: {', '.join(waiting)}. "
            "The same command tries these again and goes on."
            if waiting
            else "The others are; the same command tries these again."
        )
        number = len(runs) + len(self.results)
        return f"{len(failed)} of {number} cells could not be finished: {why} {others}"

    def unfinished(self) -> list[Records]:
        """Return the records of the cells that have begun and have no result."""
        runs = (run for run in self._runs.values() if run.cell not in self.results)
        return [run.records for run in runs if run.records is not None]


def _experiment(campaign: Campaign) -> str:
    return f"cryo/{campaign.project}"


def _open(campaign: Campaign, path: Path, tracker: Tracker) -> None:
    """Open the campaign's own MLflow run."""
    tracker.start(
        campaign.name,
        name=campaign.name,
        tags={"cryo.kind": "campaign", "cryo.campaign": campaign.name},
        params={
            "encoders": ", ".join(campaign.matrix.encoders),
            "datasets": ", ".join(campaign.matrix.datasets),
            "regimes": ", ".join(campaign.matrix.regimes),
            "label_fractions": ", ".join(map(str, campaign.matrix.label_fractions)),
            "cells": len(campaign.cells()),
            "trials": format_length(campaign.search),
            "seeds": format_seeds(campaign.seeds),
        },
    )
    tracker.artifact(campaign.name, path / folders.CAMPAIGN)


def _finish(
    campaign: Campaign,
    site: Site,
    path: Path,
    results: dict[Cell, tuple[Study, Result]],
    *,
    cells: _Cells,
    console: Console,
) -> CampaignResult:
    """Write the campaign's result and report, log both, and wait for their delivery."""
    tracker = cells.tracker
    result = outcome(campaign, results, transfer=cells.transfer)
    publish(result, path, tracker=tracker)
    pending = tracker.close()
    frame.print_pending(pending, console)
    for study, study_result in results.values():
        folder = folders.of(study, site)
        if study_result.mlflow_run_id is None:
            cell = studies.publication(study, site, folder)
            cell.record_delivery(study_result, site, pending=pending)
    return publication(campaign, path).record_delivery(result, site, pending=pending)
