"""A space as Optuna's users write it: a function that asks a trial, and may branch as it likes.

In a study: `space: ../define_by_run.py:space`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna

    from cryo_hpo.config.space import Scalar


def space(trial: optuna.trial.BaseTrial) -> dict[str, Scalar]:
    """Return recipe path -> value for a trial: a decoder alone stands larger rates."""
    tune = trial.suggest_categorical("model.tune", ["full", "frozen"])
    if tune == "frozen":
        return {
            "model.tune": tune,
            "optim.lr": trial.suggest_float("optim.lr", 1e-5, 1e-1, log=True),
        }
    return {
        "model.tune": tune,
        "optim.lr": trial.suggest_float("optim.lr", 1e-6, 1e-2, log=True),
        "optim.layer_decay": trial.suggest_float("optim.layer_decay", 0.5, 1.0),
    }
