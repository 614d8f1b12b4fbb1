"""Define `campaign-result.json`: the results of all cells of a campaign, and their summary."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, TypeAdapter

from ..config.frozen import Frozen
from ..errors import StorageError
from .improvement import StoredImprovement, StoredInterval
from .load import load_json, write_json
from .version_1 import upgrade_campaign

VERSION: Literal[2] = 2
NAME = "campaign-result.json"


class Offer(Frozen):
    """Hold the parameters that a finished cell offered to a later search as a start."""

    study: str = Field(description="The finished cell")
    params: dict[str, str | bool | int | float] = Field(description="Its winner, path -> value")


_OFFERS = TypeAdapter(dict[str, list[Offer]])


class CellResult(Frozen):
    """Hold the summary of one cell; the cell's result.json has the details."""

    study: str = Field(description="Name of its study, and of its folder beside the campaign's")
    row: str = Field(description="Encoder, and regime and share where the campaign has several")
    encoder: str
    dataset: str
    regime: Literal["full", "frozen", "lora"]
    label_fraction: float
    baseline_lr: float
    tuned_lr: float = Field(description="Of the winner, which may be the baseline")
    winner: int | None = Field(description="Trial number")
    winner_is_baseline: bool
    seeds: tuple[int, ...]
    baseline: tuple[float, ...] = Field(description="Test mIoU by seed, fractions")
    tuned: tuple[float, ...] = Field(description="Likewise; the baseline's own if it won")
    baseline_collapsed: int = Field(description="Seeds that diverged or map one class")
    tuned_collapsed: int
    improvement: StoredImprovement
    epochs_search: int
    epochs_confirm: int
    epochs_full_grid: int
    epochs_reused: int = Field(
        default=0, description="Taken from earlier trainings, in no other count"
    )
    seconds: float = Field(description="Sum over trainings, not wall clock")
    offers: tuple[Offer, ...] = Field(description="What finished cells offered to its search")
    is_rival: bool = Field(default=False, description="A model that the others are compared with")


class OverallResult(Frozen):
    """Hold the comparison of tuned and fixed learning rates over all cells."""

    relative_pct: StoredInterval | None = Field(
        description="Mean over cells of the relative improvement; null: no cell counts"
    )
    num_cells: int = Field(description="Cells that count")
    undefined: int = Field(description="Cells whose baseline scored 0")
    improved: int
    not_shown: int
    worse: int


class RivalComparison(Frozen):
    """Hold the comparison of a tuned cell with a tuned rival on the same data and seeds."""

    rival: str = Field(description="The rival's name, such as unet")
    study: str = Field(description="Study of the cell")
    rival_study: str = Field(description="Study of the rival")
    row: str
    dataset: str
    seeds: tuple[int, ...] = Field(description="Seeds that both have")
    improvement: StoredImprovement | None = Field(
        description="The rival is the baseline in it; null: the two saw other files"
    )


class RivalSummary(Frozen):
    """Hold the comparison of one row of cells, or of all rows, with a rival."""

    rival: str
    row: str | None = Field(description="null: all rows")
    datasets: tuple[str, ...] = Field(description="Datasets of the cells that count")
    relative_pct: StoredInterval | None = Field(
        description="Mean over cells of the relative difference; null: no cell counts"
    )
    ahead: int
    not_shown: int
    behind: int
    verdict: Literal["improved", "not shown", "worse"] = Field(
        description="From the interval with four datasets or more, else as all cells say"
    )


class CampaignResult(Frozen):
    """Hold the results of a finished campaign."""

    version: Literal[2] = VERSION
    campaign: str
    project: str
    spec: dict[str, Any] = Field(description="The campaign as it was resolved")
    cells: tuple[CellResult, ...]
    overall: OverallResult
    rivals: tuple[RivalComparison, ...] = ()
    rival_summaries: tuple[RivalSummary, ...] = Field(
        default=(), description="Of all rows together first, if there are several"
    )
    transfer: bool
    provenance: dict[str, Any] = Field(description="Code, versions, machine")
    mlflow_experiment: str
    mlflow_run_id: str | None
    mlflow_pending: int = Field(description="Records not yet delivered; 0 is all of them")

    @property
    def digest(self) -> str:
        """sha256 of the result without its delivery to MLflow; it identifies what was published."""
        text = self.model_dump_json(exclude={"mlflow_run_id", "mlflow_pending"})
        return hashlib.sha256(text.encode()).hexdigest()


def write(result: CampaignResult, folder: Path) -> Path:
    """Write `campaign-result.json`, whole or not at all, and return its path."""
    return write_json(result, folder / NAME)


def load_campaign_result(path: Path | str) -> CampaignResult:
    """Read the result of a finished campaign.

    Args:
        path: The campaign's folder, or its `campaign-result.json`.

    Raises:
        CryoError: The file is missing, damaged, or of another version.
    """
    return load_json(CampaignResult, path, name=NAME, what="campaign", upgrade=upgrade_campaign)


def load_offers(file: Path) -> dict[str, list[Offer]]:
    """Read the offers of a campaign that has begun: cell's study -> offers; none without a file.

    Raises:
        StorageError: The file is damaged.
    """
    if not file.exists():
        return {}
    try:
        return _OFFERS.validate_json(file.read_bytes())
    except ValueError as error:
        message = (
            f"'{file}' is damaged: it holds what finished cells offered to later ones, without which "
            "these would search otherwise. Restore it from a backup, or remove "
            f"'{file.parent}' and the folders '{file.parent.name}.*' beside it to begin anew."
        )
        raise StorageError(message) from error
