"""Write a finished study to MLflow with the production code; nothing is trained."""

from __future__ import annotations

import io
import json
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console

from cryo_hpo.config import Site, Study
from cryo_hpo.data.synthetic.generate import generate
from cryo_hpo.monitoring.recorder import Records
from cryo_hpo.monitoring.terminal import Progress
from cryo_hpo.results.study import Result
from cryo_hpo.search.source import key
from cryo_hpo.study import folder as folders
from cryo_hpo.study import run as studies
from cryo_hpo.study.verdict import experiment
from cryo_hpo.tracking import Tracker

from .results import EPOCHS, SECONDS, a_result


def tracked_study(root: Path, uri: str) -> tuple[Study, Result]:
    """Write the study of `results` to MLflow: twelve trials, three arms, a run each.

    Args:
        root: An empty folder.
        uri: A server or a database.
    """
    study, site, result = trained_study(root, uri)
    path = folders.of(study, site)
    tracker = Tracker.connect(uri, experiment=experiment(study), log=path / folders.EVENTS)
    with closing(tracker):
        studies.publish(result, study, site, path, tracker=tracker)
        assert tracker.close(timeout_s=180) == 0
    return study, result


def trained_study(root: Path, uri: str) -> tuple[Study, Site, Result]:
    """Write the same study to MLflow, up to the moment in which its result is published."""
    generate("lakes-demo", root / "data", scenes={"train": 2, "val": 2, "test": 2}, size=64)
    env = {f"CRYO_{n}": str(root / n.lower()) for n in ("DATA", "STORAGE", "CACHE", "WEIGHTS")}
    site = Site.from_env({**env, "MLFLOW_TRACKING_URI": uri})
    base = {"data": {"name": "lakes-demo", "crop": 64}, "optim": {"lr": 1e-4}, "epochs": EPOCHS}
    fields = {"name": "lakes-lr", "project": "demo", "base": base, "seeds": [1, 2, 3, 4]}
    study = Study.model_validate_json(json.dumps({**fields, "log_model": False}))
    path = folders.claim(study, site)
    folders.keep_spec(study, path)
    tracker = Tracker.connect(uri, experiment=experiment(study), log=path / folders.EVENTS)
    with closing(tracker):
        progress = Progress(console=Console(file=io.StringIO()))
        progress.follow(tracker.events)
        records = Records(study, tracker.events)
        studies.open_run(study, site, path, tracker=tracker)
        spec = {**a_result().spec, "base": study.base.model_dump(mode="json")}
        result = a_result(spec=spec)
        _record_trials(result, study, records)
        _record_arms(result, study, records)
        assert tracker.close(timeout_s=180) == 0
    return study, site, result


def _record_trials(result: Result, study: Study, records: Records) -> None:
    for trial in result.trials:
        name = key(trial.number)
        recipe = study.base.replace({"optim.lr": trial.lr})
        records.started(name, recipe, kind="search" if trial.number else "baseline")
        for epoch, score in trial.curve.items():
            records.epoch(name, _metrics(epoch, score, trial.lr))
        records.ended(name, trial.state, trial.message)


def _record_arms(result: Result, study: Study, records: Records) -> None:
    for arm in result.arms:
        rate = arm.recipe["optim"]["lr"]
        for seed in arm.seeds:
            name = f"{arm.name}-seed{seed.seed}"
            recipe = study.base.replace({"optim.lr": rate, "seed": seed.seed})
            records.started(name, recipe, kind="confirm")
            for epoch in range(1, seed.epochs + 1):
                score = seed.val_miou * epoch / (epoch + 1.5)
                records.epoch(name, _metrics(epoch, score, rate))
            records.ended(name, "complete", "")


def _metrics(epoch: int, score: float, rate: float) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "best_val_miou": score,
        "val_miou": score,
        "train_loss": 1.2 / (epoch + 1),
        "lr": rate,
        "seconds": SECONDS,
        "data_seconds": 1.5,
        "peak_gib": 0.0,
        "collapsed": 0.0,
    }
