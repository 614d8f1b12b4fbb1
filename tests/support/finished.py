"""Make a finished study without Ray: two arms, two seeds, real trainings on 16 small scenes."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch

from cryo_hpo.config import Site, Study
from cryo_hpo.monitoring.recorder import Records
from cryo_hpo.results.study import write
from cryo_hpo.search.confirm import job
from cryo_hpo.storage.event_log import EventLog
from cryo_hpo.study import folder as folders
from cryo_hpo.study.proof import arms_of
from cryo_hpo.study.verdict import result, score_arms
from cryo_hpo.training.loop import fit

from .fakes import fake_folder
from .scoring import score_split

SEEDS = (1, 2)


class Finished(NamedTuple):
    """The location of a finished study."""

    study: Study
    site: Site
    folder: Path


def finished_study(
    root: Path,
    *,
    bands: int = 3,
    dtype: str = "uint8",
    model: dict[str, Any] | None = None,
    weights: Path | None = None,
    epochs: int = 10,
    **data: Any,
) -> Finished:
    """Train and score the arms of a study without a search.

    Args:
        root: An empty folder.
        bands: Bands of the scenes.
        dtype: Data type of the scenes.
        model: Model of the recipe; None for a small U-Net.
        weights: Folder of weights; None for an empty one.
        epochs: Epochs of every training.
        data: Further fields of the recipe's data.
    """
    card = fake_folder(root / "data", num=(4, 2, 2), size=(32, 32), bands=bands, dtype=dtype)
    places = {n: root / n.lower() for n in ("DATA", "STORAGE", "CACHE", "WEIGHTS")}
    places["WEIGHTS"] = weights or places["WEIGHTS"]
    site = Site.from_env({f"CRYO_{n}": str(place) for n, place in places.items()})
    base = {
        "data": {"card": json.loads(card.model_dump_json()), "crop": 16, **data},
        "model": model or {"encoder": "unet", "decoder": "unet", "width": 4},
        "optim": {"lr": 1e-2, "schedule": "constant"},
        "batch_size": 2,
        "epochs": epochs,
    }
    fields = {
        "name": "done",
        "base": base,
        "seeds": SEEDS,
        "baselines": {"slow": {"optim.lr": 1e-5}},
    }
    study = Study.model_validate_json(json.dumps(fields))
    path = folders.claim(study, site)
    folders.keep_spec(study, path)
    arms, scores = arms_of(study, None), {}
    with closing(EventLog(path / folders.EVENTS)) as log:
        records = Records(study, log)
        for arm in arms:
            for seed in arm.seeds:
                one = job(arm, seed, path / folders.CONFIRM)
                recipe, workdir = arm.recipe.replace({"seed": seed}), Path(one.workdir)
                records.started(one.key, recipe, kind="confirm")
                for epoch in fit(recipe, site=site, workdir=workdir, device=torch.device("cpu")):
                    records.epoch(one.key, epoch.metrics())
                records.ended(one.key, "complete", "")
                scores[one.key] = score_split(
                    recipe, "test", site=site, workdir=workdir, device=torch.device("cpu")
                ).to_json()
    found = score_arms(arms, path, scores)
    write(result(study, site, path, trials=[], best=None, arms=found), path)
    return Finished(study, site, path)
