"""Compare the outcomes of studies, apart from times and places."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryo_hpo.results.study import Result, load_result

from .recorded import recorded_epochs


def trial_histories(result: Result) -> list[tuple[Any, ...]]:
    """Return the history of each trial: number, parameters, state and curve."""
    return [(t.number, t.params, t.state, t.curve) for t in result.trials]


def scores_by_arm(result: Result) -> list[tuple[str, list[float]]]:
    """Return the arms' names and their test scores, one per seed."""
    return [(arm.name, [s.test_miou for s in arm.seeds]) for arm in result.arms]


def check_same_outcome(folder: Path, whole: Path) -> None:
    """Compare an interrupted study with an uninterrupted one: trials, scores and epochs paid."""
    epochs = recorded_epochs(folder)
    assert len(epochs) == len(set(epochs)), "an epoch is recorded twice"
    result, expected = load_result(folder), load_result(whole)
    assert trial_histories(result) == trial_histories(expected)
    assert scores_by_arm(result) == scores_by_arm(expected)
    assert result.costs.epochs_search == expected.costs.epochs_search
    assert result.costs.epochs_confirm == expected.costs.epochs_confirm


def outcome(file: Path) -> dict[str, Any]:
    """Read a result's trials, seeds and improvement, without times and places."""
    result = json.loads(file.read_text())
    kept = ("number", "params", "state", "epochs", "best_val_miou", "curve")
    trials = [{name: trial[name] for name in kept} for trial in result["trials"]]
    arms = {
        arm["name"]: [(s["seed"], s["val_miou"], s["test_miou"]) for s in arm["seeds"]]
        for arm in result["arms"]
    }
    return {"trials": trials, "arms": arms, "improvement": result["improvement"]}
