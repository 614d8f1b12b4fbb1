"""Build the result of a campaign from the results of its cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from statistics import fmean
from typing import TYPE_CHECKING

from ..config.seeds import SeedLimit
from ..results.campaign import CampaignResult, CellResult, OverallResult, RivalSummary
from ..results.provenance import environment
from ..stats.pooled import mean_relative_improvement
from .rivals import compare_with_rivals

if TYPE_CHECKING:
    from ..config import Campaign, Cell, Study
    from ..results.study import ArmResult, Result
    from .transfer import Transfer


def outcome(
    campaign: Campaign, results: Mapping[Cell, tuple[Study, Result]], *, transfer: Transfer
) -> CampaignResult:
    """Assemble the result of a finished campaign."""
    cells = tuple(_cell(campaign, cell, results[cell][1], transfer) for cell in campaign.cells())
    comparisons, summaries = compare_with_rivals(
        cells,
        at_most=campaign.seeds.at_most if isinstance(campaign.seeds, SeedLimit) else None,
        fingerprints={r.study: r.data_fingerprints for _, r in results.values()},
    )
    return CampaignResult(
        campaign=campaign.name,
        project=campaign.project,
        spec=campaign.model_dump(mode="json", exclude_unset=True),
        cells=cells,
        overall=overall(cells),
        rivals=comparisons,
        rival_summaries=summaries,
        transfer=campaign.transfer,
        provenance=environment(),
        mlflow_experiment=f"cryo/{campaign.project}",
        mlflow_run_id=None,
        mlflow_pending=0,
    )


def overall(cells: tuple[CellResult, ...]) -> OverallResult:
    """Compare tuned with fixed over all cells."""
    pooled = mean_relative_improvement([(cell.tuned, cell.baseline) for cell in cells])
    verdicts = Counter(cell.improvement.verdict for cell in cells)
    return OverallResult(
        relative_pct=pooled.relative_pct,
        num_cells=pooled.num_cells,
        undefined=pooled.undefined,
        improved=verdicts["improved"],
        not_shown=verdicts["not shown"],
        worse=verdicts["worse"],
    )


def metrics(result: CampaignResult) -> dict[str, float]:
    """Return the numbers of the campaign's MLflow run."""
    total, cells = result.overall, result.cells
    mean = total.relative_pct
    return {
        **({} if mean is None else mean.to_metrics("mean_relative_improvement_pct")),
        "cells": float(len(cells)),
        "cells_improved": float(total.improved),
        "cells_worse": float(total.worse),
        "baseline.test_miou": fmean(fmean(cell.baseline) for cell in cells),
        "tuned.test_miou": fmean(fmean(cell.tuned) for cell in cells),
        "epochs_spent": float(sum(c.epochs_search + c.epochs_confirm for c in cells)),
        "epochs_full_grid": float(sum(c.epochs_full_grid for c in cells)),
        **{
            name: x
            for summary in result.rival_summaries
            for name, x in _rival_metrics(summary).items()
        },
    }


def _rival_metrics(summary: RivalSummary) -> dict[str, float]:
    """Return the numbers of a comparison with a rival: vs_unet.relative_pct, or vs_unet.<row>..."""
    name = f"vs_{summary.rival}" + (f".{summary.row}" if summary.row else "")
    mean = summary.relative_pct
    return {
        **({} if mean is None else mean.to_metrics(f"{name}.relative_pct")),
        f"{name}.ahead": float(summary.ahead),
        f"{name}.behind": float(summary.behind),
    }


def _cell(campaign: Campaign, cell: Cell, result: Result, transfer: Transfer) -> CellResult:
    baseline = result.arm("baseline")
    tuned = baseline if result.winner_is_baseline else result.arm("tuned")
    assert result.improvement is not None, "a campaign has a search"
    return CellResult(
        study=result.study,
        row=campaign.row(cell),
        encoder=cell.encoder,
        dataset=cell.dataset,
        regime=cell.regime,
        label_fraction=cell.label_fraction,
        baseline_lr=baseline.recipe["optim"]["lr"],
        tuned_lr=tuned.recipe["optim"]["lr"],
        winner=result.winner,
        winner_is_baseline=result.winner_is_baseline,
        seeds=tuple(seed.seed for seed in baseline.seeds),
        baseline=_scores(baseline),
        tuned=_scores(tuned),
        baseline_collapsed=_collapsed(baseline),
        tuned_collapsed=_collapsed(tuned),
        improvement=result.improvement,
        epochs_search=result.costs.epochs_search,
        epochs_confirm=result.costs.epochs_confirm,
        epochs_full_grid=result.costs.epochs_full_grid,
        epochs_reused=result.costs.epochs_reused,
        seconds=result.costs.seconds_search + result.costs.seconds_confirm,
        offers=transfer.offers(result.study),
        is_rival=cell.is_rival,
    )


def _scores(arm: ArmResult) -> tuple[float, ...]:
    return tuple(seed.test_miou for seed in arm.seeds)


def _collapsed(arm: ArmResult) -> int:
    return sum(seed.collapsed or seed.diverged for seed in arm.seeds)
