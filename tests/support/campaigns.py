"""Make campaigns for tests: small ones that can run, and finished ones with made-up scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from cryo_hpo.campaign.verdict import overall
from cryo_hpo.results.campaign import CampaignResult, CellResult, Offer
from cryo_hpo.stats import relative_improvement

from .fakes import fake_folder

SEEDS = (1, 2, 3)
# dataset -> model -> (baseline by seed, tuned by seed, tuned rate)
SCORES: dict[str, dict[str, tuple[tuple[float, ...], tuple[float, ...], float]]] = {
    "fronts": {
        "unet": ((0.50, 0.52, 0.51), (0.60, 0.62, 0.61), 2e-3),
        "galileo": ((0.60, 0.58, 0.61), (0.59, 0.60, 0.60), 3e-4),
    },
    "ponds": {
        "unet": ((0.40, 0.41, 0.39), (0.44, 0.46, 0.45), 4e-3),
        "galileo": ((0.55, 0.55, 0.55), (0.55, 0.55, 0.55), 1e-4),
    },
}


def small_campaign(root: Path, **changes: Any) -> Path:
    """Write two tiny datasets and a campaign of three cells; return the campaign's file."""
    root.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("one", "two")):
        card = fake_folder(root / "data", num=(6, 2, 2), size=(32, 32), name=name, seed=seed)
        (root / f"{name}.yaml").write_text(yaml.safe_dump(json.loads(card.model_dump_json())))
    rate = {"kind": "float", "low": 1e-3, "high": 1e-1, "log": True}
    fields: dict[str, Any] = {
        "name": "camp",
        "project": "tests",
        "matrix": {
            "encoders": {"narrow": {"width": 4}, "wide": {"width": 6}},
            "datasets": {"one": {"card": "one.yaml"}, "two": {"card": "two.yaml"}},
        },
        "skip": [{"encoder": "wide", "dataset": "one"}],
        "base": {
            "data": {"crop": 32},
            "model": {"encoder": "unet", "decoder": "unet"},
            "optim": {"lr": 3e-3, "schedule": "constant"},
            "batch_size": 2,
            "epochs": 2,
        },
        "search": {
            "space": {"params": {"optim.lr": rate}},
            "trials": 3,
            "parallel": 1,
            "scheduler": {"kind": "asha", "grace_epochs": 1, "reduction": 2},
        },
        "transfer": True,
        "seeds": [1, 2],
        "reuse": False,  # campaigns of one storage are compared in whole
        "resources": {"cpus": 1, "gpus": 0},
    }
    file = root / "camp.yaml"
    file.write_text(yaml.safe_dump({**fields, **changes}, sort_keys=False))
    return file


def a_cell(dataset: str, model: str) -> CellResult:
    """Return a finished cell of `SCORES`."""
    baseline, tuned, rate = SCORES[dataset][model]
    same = baseline == tuned
    offers = (Offer(study=f"camp.fronts.{model}", params={"optim.lr": 1e-3}),)
    return CellResult(
        study=f"camp.{dataset}.{model}",
        row=model,
        encoder=model,
        dataset=dataset,
        regime="full",
        label_fraction=1.0,
        baseline_lr=1e-4,
        tuned_lr=1e-4 if same else rate,
        winner=0 if same else 3,
        winner_is_baseline=same,
        seeds=SEEDS,
        baseline=baseline,
        tuned=tuned,
        baseline_collapsed=1 if dataset == "fronts" else 0,
        tuned_collapsed=0,
        improvement=relative_improvement(tuned, baseline),
        epochs_search=30,
        epochs_confirm=54,
        epochs_full_grid=72,
        seconds=1800.0,
        offers=offers if dataset == "ponds" else (),
    )


def a_campaign_result(**changes: Any) -> CampaignResult:
    """Return a finished campaign of two models on two datasets."""
    cells = tuple(a_cell(dataset, model) for dataset in SCORES for model in SCORES[dataset])
    values: dict[str, Any] = {
        "campaign": "camp",
        "project": "tests",
        "spec": {"name": "camp"},
        "cells": cells,
        "overall": overall(cells),
        "transfer": True,
        "provenance": {"python": "3.11.7"},
        "mlflow_experiment": "cryo/tests",
        "mlflow_run_id": None,
        "mlflow_pending": 0,
    }
    return CampaignResult(**{**values, **changes})
