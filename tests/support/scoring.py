"""Score a finished training on a split, pooled over scenes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from cryo_hpo.config import Recipe, Site
from cryo_hpo.data.dataset import Split
from cryo_hpo.evaluation.metrics import Scores
from cryo_hpo.training.build import dataset_of, protocol_of
from cryo_hpo.training.scoring import score_scenes


def score_split(
    recipe: Recipe, split: Split, *, site: Site, workdir: Path, device: torch.device
) -> Scores:
    each = score_scenes(recipe, split, site=site, workdir=workdir, device=device)
    total = sum(each.values(), start=Scores.zero(dataset_of(recipe.data).classes))
    return replace(total, absent_is_zero=protocol_of(recipe).absent_is_zero)
