"""Compute the importance of each search parameter from the trials (PED-ANOVA)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from .replay import replayed

if TYPE_CHECKING:
    from .replay import Suggest
    from .trials import Record

LEAST = 8  # trials; fewer do not allow a comparison of two parameters


def importance(records: Sequence[Record], suggest: Suggest) -> dict[str, float]:
    """Return parameter -> importance: its share in whether a trial is among the best.

    Trials are compared by their score at the earliest epoch at which one was pruned or complete,
    which nearly all reached: later scores exist only for the good ones. A trial that diverged
    before counts as 0.

    Returns:
        Shares that add up to 1, largest first; empty with fewer than two parameters or eight
        trials, or where all trials score the same.

    Source: Watanabe, Bansal and Hutter, "PED-ANOVA", IJCAI 2023, arXiv:2304.10255, by Optuna.
    """
    tried = [record for record in records if record.drawn and record.state != "failed"]
    ends = [record.epochs for record in tried if record.state in ("pruned", "complete")]
    if len(tried) < LEAST or not ends:
        return {}
    epoch = min(ends)
    study = optuna.create_study(direction="maximize")
    for record in tried:
        replay = replayed(suggest, record.drawn)
        if replay is None:
            continue
        distributions = replay.trial.distributions
        value = record.curve.get(epoch, 0.0)
        drawn = dict(replay.trial.params)
        study.add_trial(create_trial(params=drawn, distributions=distributions, value=value))
    return _shares(study)


def _shares(study: optuna.Study) -> dict[str, float]:
    trials = study.get_trials(deepcopy=False)
    shared = set.intersection(*(set(trial.params) for trial in trials)) if trials else set()
    if len(shared) < 2 or len({trial.value for trial in trials}) < 2:
        return {}
    importances = get_param_importances(
        study, evaluator=PedAnovaImportanceEvaluator(), params=sorted(shared)
    )
    return {name: float(share) for name, share in importances.items()}
