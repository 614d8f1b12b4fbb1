"""Check that every cell of a campaign can run before any does, and estimate their cost."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from ..config import cell_studies, locate_in_campaign
from ..config.card_guesses import describe_guesses
from ..config.seeds import SharedSeedLimit
from ..errors import BandMismatch, CryoError, SpecError, combine
from ..report.table import align_columns
from ..report.wording import count_of
from ..stats.shared_repeats import count_first_round
from ..study.folder import refuse_another
from ..study.minutes import UNKNOWN, Clock, Minutes, minutes_line, short_minutes, sum_minutes
from ..study.plan import Plan, plan
from ..study.preflight import check
from .transfer import Transfer

if TYPE_CHECKING:
    from ..config import Campaign, Cell, Site

log = logging.getLogger(__name__)

SHOWN = 3  # cells that a warning names; more are counted


def check_campaign(campaign: Campaign, *, site: Site) -> None:
    """Refuse a campaign with a cell that cannot train, with all problems at once.

    Raises:
        CryoError: A cell cannot train; one line per problem, with the cells that have it.
    """
    refuse_another(campaign, site)
    transfer = Transfer(campaign, site.storage / campaign.name)
    causes: dict[tuple[str, tuple[str, ...], type[CryoError]], list[Cell]] = {}
    warnings: dict[str, list[Cell]] = {}
    for cell, study in cell_studies(campaign).items():
        note = partial(_note, warnings, cell)
        try:
            check(transfer.as_begun(study), site=site, warn=note)
        except CryoError as error:
            for part in error.parts or (error,):
                place = tuple(map(str, locate_in_campaign(campaign, cell, part.key)))
                causes.setdefault((str(part), place, type(part)), []).append(cell)
    for sentence in _describe(campaign, warnings):
        log.warning("%s", sentence)
    errors = [_error(campaign, *what, cells) for what, cells in causes.items()]
    if errors:
        raise combine(errors)


def _note(warnings: dict[str, list[Cell]], cell: Cell, sentence: str) -> None:
    warnings.setdefault(sentence, []).append(cell)


def _describe(campaign: Campaign, warnings: Mapping[str, Sequence[Cell]]) -> Iterator[str]:
    """Yield the guesses in cards, and each warning once, with the cells that it is of."""
    for data in campaign.matrix.datasets.values():
        if data.card is not None and data.card.assumed:
            yield describe_guesses(data.card)
    number = len(list(campaign.cells()))
    for sentence, cells in warnings.items():
        names = [f"{cell.dataset}.{campaign.row(cell)}" for cell in cells]
        shown = ", ".join(names[:SHOWN]) + (
            f" and {len(names) - SHOWN} more" * (len(names) > SHOWN)
        )
        yield f"{sentence} In {f'all {number} cells' if len(cells) == number > 1 else shown}."


def _error(
    campaign: Campaign, text: str, place: tuple[str, ...], kind: type[CryoError], cells: list[Cell]
) -> CryoError:
    names = ", ".join(f"{cell.dataset}.{campaign.row(cell)}" for cell in cells)
    message = f"{text} In {names}."
    if issubclass(kind, BandMismatch):
        first_cell = cells[0]
        message += f" Or leave it out: skip: [{{encoder: {first_cell.encoder}, dataset: {first_cell.dataset}}}]."
    error = (SpecError if issubclass(kind, SpecError) else CryoError)(message)
    error.key = place
    return error


@dataclass(frozen=True, slots=True)
class CampaignPlan:
    """Hold the expected size of a campaign.

    Attributes:
        cells: Plan of every cell, by the name of its study.
        minutes: Minutes of every cell, None where its data are not here; empty: not estimated.
        total: Repeats of all cells together; None: they share none.
    """

    cells: dict[str, Plan]
    minutes: dict[str, Minutes | None] = field(default_factory=dict)
    total: int | None = None

    @property
    def epochs(self) -> int:
        """Epochs expected in all."""
        search = sum(p.epochs_expected for p in self.cells.values())
        return search + round(self._share * self._epochs_confirm)

    @property
    def epochs_shared(self) -> int | None:
        """Epochs of retraining at most, if the cells share a total of repeats: the dearest cells get most."""
        if self.total is None:
            return None
        plans = sorted(self.cells.values(), key=lambda p: p.epochs_confirm_most / p.seeds)
        left, epochs = self.total, 0.0
        for number, p in enumerate(reversed(plans), start=1):
            first = count_first_round(p.seeds)
            repeats = min(p.seeds, left - first * (len(plans) - number))
            epochs, left = epochs + repeats * p.epochs_confirm_most / p.seeds, left - repeats
        return round(epochs)

    @property
    def _epochs_confirm(self) -> int:
        return sum(p.epochs_confirm for p in self.cells.values())

    @property
    def _share(self) -> float:
        """Part of the retraining that is expected of each cell alone which the total pays for."""
        most = self.epochs_shared
        return 1.0 if most is None else min(1.0, most / self._epochs_confirm)

    @property
    def disk_gib(self) -> float:
        """Size of the checkpoints of all cells, at most, GiB."""
        return sum(p.disk_gib for p in self.cells.values())

    def lines(self) -> Iterator[str]:
        """Yield the plan as lines for a terminal."""
        rows = [
            (
                name,
                f"{p.parameters:,}",
                str(p.trials),
                str(p.epochs_expected),
                str(p.epochs_confirm),
                *([_total(self.minutes[name])] if self.minutes else []),
            )
            for name, p in self.cells.items()
        ]
        head = ("cell", "parameters", "trials", "epochs of search", "of retraining", "minutes")
        yield from align_columns(head[: len(head) - (not self.minutes)], rows).splitlines()
        grid = sum(p.epochs_most for p in self.cells.values())
        yield f"cells: {len(self.cells)}"
        yield f"epochs in all: about {self.epochs}; a grid of full trainings: {grid} before any retraining"
        yield from self._total_lines()
        yield f"checkpoints: at most {self.disk_gib:.2f} GiB"
        if self.minutes:
            yield self._minutes_line()

    def _total_lines(self) -> Iterator[str]:
        if self.total is None:
            return
        most = sum(p.seeds for p in self.cells.values())
        if self.total >= most:
            yield f"repeats: a total of {self.total} limits nothing, all cells have at most {most}"
            return
        yield (
            f"repeats: at most {self.total} of all cells together, {self.epochs_shared} epochs of "
            f"retraining at most; without a total {most} repeats at most"
        )

    def _minutes_line(self) -> str:
        each = (minutes for minutes in self.minutes.values() if minutes is not None)
        counted = [minutes._replace(proof=self._share * minutes.proof) for minutes in each]
        if not counted:
            return UNKNOWN
        total = sum_minutes(counted)
        missing = len(self.minutes) - len(counted)
        rest = f"; without {count_of(missing, 'cell')} whose data are not here (`check`)"
        return f"{minutes_line(total)}{rest if missing else ''}"


def _total(minutes: Minutes | None) -> str:
    return "unknown" if minutes is None else short_minutes(minutes.total)


def plan_campaign(campaign: Campaign, *, site: Site) -> CampaignPlan:
    """Return the size of a campaign; builds models without weights, reads no data."""
    studies = cell_studies(campaign).values()
    cells = {study.name: plan(study, site=site) for study in studies}
    seeds = campaign.seeds
    return CampaignPlan(cells, total=seeds.total if isinstance(seeds, SharedSeedLimit) else None)


def time_campaign(campaign: Campaign, size: CampaignPlan, *, site: Site) -> CampaignPlan:
    """Return a plan with the minutes of every cell; times one step per distinct model and batch."""
    clock = Clock(site)
    minutes = {
        study.name: clock.minutes(study, size.cells[study.name])
        for study in cell_studies(campaign).values()
    }
    return replace(size, minutes=minutes)
