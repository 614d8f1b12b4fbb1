"""Make a finished study by hand: twelve trials, rungs at 1, 3 and 9 of 27 epochs, four seeds."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from cryo_hpo.results.study import (
    ArmResult,
    ConstantMap,
    Costs,
    Decision,
    Result,
    RungStep,
    SeedResult,
    TrialResult,
)
from cryo_hpo.stats import Improvement, relative_improvement

EPOCHS = 27
SECONDS = 41.5  # per epoch
# number: learning rate, epochs trained, limit of the mIoU, epochs to approach it, state
TRIALS: dict[int, tuple[float, int, float, float, str]] = {
    0: (1e-4, 27, 0.716, 9.0, "complete"),
    1: (3.1e-5, 1, 0.590, 14.0, "pruned"),
    2: (2.6e-3, 9, 0.752, 3.2, "pruned"),
    3: (4.7e-2, 3, 0.0, 1.0, "diverged"),
    4: (6.4e-4, 27, 0.806, 4.6, "complete"),
    5: (1.2e-5, 1, 0.410, 16.0, "pruned"),
    6: (8.9e-3, 3, 0.480, 1.1, "pruned"),
    7: (9.8e-4, 27, 0.823, 4.0, "complete"),
    8: (1.6e-3, 9, 0.791, 3.9, "pruned"),
    9: (2.4e-4, 3, 0.760, 6.8, "pruned"),
    10: (9.1e-2, 0, 0.0, 1.0, "diverged"),
    11: (7.6e-4, 9, 0.811, 4.5, "pruned"),
}
MESSAGES = {
    "complete": "",
    "pruned": "pruned at epoch {}",
    "diverged": "Loss became nan at epoch {}, step 12 (lr {:.3g}, bf16, recipe 3fa9c1d07b22).",
}
STEPS: dict[int, tuple[tuple[int, Decision, int, int], ...]] = {
    8: (
        (1, "continued", 1, 3),
        (3, "paused", 2, 5),
        (3, "promoted", 2, 6),
        (9, "paused", 2, 2),
        (9, "pruned", 3, 4),
    )
}
FLOOR = 0.33  # one class everywhere, of three
TEST = {
    "baseline": (0.6982, 0.7051, 0.7009, 0.7014),
    "tuned": (0.8098, 0.8151, 0.8123, 0.8124),
}


def a_trial(number: int, /, **changes: Any) -> TrialResult:
    """Return one of the twelve trials, or one like it."""
    lr, epochs, limit, pace, state = TRIALS[number]
    gain = max(limit - FLOOR, 0.0)
    curve = {
        e: round(FLOOR + gain * (1 - math.exp(-(e + 1) / pace)) * (1 - 0.1 / e), 6)
        for e in range(1, epochs + 1)
    }
    reached = epochs + 1 if state == "diverged" else epochs
    values: dict[str, Any] = {
        "number": number,
        "params": {} if number == 0 else {"optim.lr": lr},
        "lr": lr,
        "state": state,
        "epochs": epochs,
        "best_val_miou": curve[epochs] if curve else None,
        "collapsed": state == "diverged" and bool(curve),
        "seconds": SECONDS * epochs,
        "curve": curve,
        "message": MESSAGES[state].format(reached, lr),
        "steps": tuple(
            RungStep(rung=rung, decision=decision, place=place, of=of)
            for rung, decision, place, of in STEPS.get(number, ())
        ),
    }
    return TrialResult(**{**values, **changes})


def an_arm(name: str, scores: tuple[float, ...], *, lr: float = 1e-4) -> ArmResult:
    """Return an arm of a three-class study, one seed per score."""
    seeds = tuple(
        SeedResult(
            seed=seed,
            test_miou=score,
            val_miou=round(score + 0.004, 6),
            test_iou={"rock": score + 0.08, "ice": score + 0.02, "lake": score - 0.1},
            collapsed=False,
            diverged=False,
            epochs=EPOCHS,
            seconds=SECONDS * EPOCHS,
            train_loss=0.31,
            late_gain=0.002,
        )
        for seed, score in enumerate(scores, start=1)
    )
    mean = sum(scores) / len(scores)
    return ArmResult(
        name=name,
        recipe=a_recipe(lr),
        mean_test_miou=mean,
        even_guess_loss=round(math.log(3), 6),
        seeds=seeds,
    )


def a_recipe(lr: float) -> dict[str, Any]:
    """Return the part of a recipe that reports read."""
    return {
        "data": {"name": "lakes-demo", "crop": 128},
        "model": {"encoder": "unet", "weights": None},
        "optim": {"lr": lr, "weight_decay": 0.05},
        "epochs": EPOCHS,
        "seed": 0,
    }


def an_improvement(**changes: Any) -> Improvement:
    """Return the comparison of the two arms of `TEST`, under the production rules."""
    return replace(relative_improvement(TEST["tuned"], TEST["baseline"]), **changes)


def a_result(**changes: Any) -> Result:
    """Return a finished study in which trial 7 won and improved, with any field replaced."""
    trials = tuple(a_trial(number) for number in TRIALS)
    spent = sum(trial.epochs for trial in trials)
    rule = {"kind": "asha", "rule": "promote", "grace_epochs": 1, "reduction": 3}
    values: dict[str, Any] = {
        "study": "lakes-lr",
        "project": "demo",
        "spec": {"base": a_recipe(1e-4), "search": {"trials": 12, "scheduler": rule}},
        "dataset": "lakes-demo",
        "classes": ("rock", "ice", "lake"),
        "data_fingerprints": {
            "train": "5d41402abc4b",
            "val": "7d793037a076",
            "test": "9f86d081884c",
        },
        "winner": 7,
        "winner_is_baseline": False,
        "best_recipe": a_recipe(9.8e-4),
        "trials": trials,
        "arms": (
            an_arm("baseline", TEST["baseline"]),
            an_arm("paper", (0.7402, 0.7366, 0.7385, 0.7391), lr=1e-2),
            an_arm("tuned", TEST["tuned"], lr=9.8e-4),
        ),
        "constant_map": ConstantMap(label="ice", test_miou=0.214),
        "improvement": an_improvement(),
        "costs": Costs(
            epochs_search=spent,
            epochs_confirm=3 * len(TEST["tuned"]) * EPOCHS,
            epochs_full_grid=12 * EPOCHS,
            seconds_search=SECONDS * spent,
            seconds_confirm=SECONDS * 3 * len(TEST["tuned"]) * EPOCHS,
            seconds_data=310.0,
        ),
        "provenance": {"code": {"version": "0.1.0", "git": "abc1234"}, "python": "3.11.7"},
        "mlflow_experiment": "cryo/demo",
        "mlflow_run_id": "0123456789abcdef",
        "mlflow_pending": 0,
    }
    return Result(**{**values, **changes})
