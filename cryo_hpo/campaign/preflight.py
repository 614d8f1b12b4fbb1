"""Check that every cell of a campaign can run before any does, and estimate their cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config import cell_studies, locate_in_campaign
from ..errors import BandMismatch, CryoError, SpecError, combine
from ..report.table import align_columns
from ..study.folder import refuse_another
from ..study.plan import Plan, plan
from ..study.preflight import check
from .transfer import Transfer

if TYPE_CHECKING:
    from ..config import Campaign, Cell, Site


def check_campaign(campaign: Campaign, *, site: Site) -> None:
    """Refuse a campaign with a cell that cannot train, with all problems at once.

    Raises:
        CryoError: A cell cannot train; one line per problem, with the cells that have it.
    """
    refuse_another(campaign, site)
    transfer = Transfer(campaign, site.storage / campaign.name)
    causes: dict[tuple[str, tuple[str, ...], type[CryoError]], list[Cell]] = {}
    for cell, study in cell_studies(campaign).items():
        try:
            check(transfer.as_begun(study), site=site)
        except CryoError as error:
            for part in error.parts or (error,):
                place = tuple(map(str, locate_in_campaign(campaign, cell, part.key)))
                causes.setdefault((str(part), place, type(part)), []).append(cell)
    errors = [_error(campaign, *what, cells) for what, cells in causes.items()]
    if errors:
        raise combine(errors)


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
    """Hold the expected size of a campaign: the plan of every cell, by the name of its study."""

    cells: dict[str, Plan]

    @property
    def epochs(self) -> int:
        """Epochs expected in all."""
        return sum(p.epochs_expected + p.epochs_confirm for p in self.cells.values())

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
            )
            for name, p in self.cells.items()
        ]
        head = ("cell", "parameters", "trials", "epochs of search", "of retraining")
        yield from align_columns(head, rows).splitlines()
        grid = sum(p.epochs_most for p in self.cells.values())
        yield f"cells: {len(self.cells)}"
        yield f"epochs in all: about {self.epochs}; a grid of full trainings: {grid} before any retraining"
        yield f"checkpoints: at most {self.disk_gib:.2f} GiB"


def plan_campaign(campaign: Campaign, *, site: Site) -> CampaignPlan:
    """Return the size of a campaign; builds models without weights, reads no data."""
    studies = cell_studies(campaign).values()
    return CampaignPlan({study.name: plan(study, site=site) for study in studies})
