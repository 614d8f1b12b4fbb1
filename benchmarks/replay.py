"""Replay recorded learning curves in place of a training, to run a search without training."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray import tune

from cryo_hpo.config import Recipe

# R runs, N epochs

TABLE = Path(__file__).parent / "data" / "lr_table.npz"
EPOCHS = 27  # of every recorded run
STARTS = "starts"  # file in a trial's folder: the node of each start, a line each


def curves(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return learning rates, (R), and scores, (R, N), of the project's own table or another.

    Of the own table these are the runs of the first task and encoder.
    """
    table = np.load(path)
    lr_R, val_RN = table["lr"], table["val"]
    if "tasks" in table:
        lr_R, val_RN = np.repeat(lr_R, val_RN.shape[3]), val_RN[0, 0].reshape(-1, EPOCHS)
    return lr_R, np.fmax.accumulate(np.nan_to_num(val_RN), axis=1)


def run_of(recipe: Recipe, lr_R: NDArray[np.float64], *, number: int) -> int:
    """Return a recorded run with the learning rate nearest to a recipe's; trials take turns."""
    far_R = np.abs(np.log(lr_R) - np.log(recipe.optim.lr))
    nearest = np.flatnonzero(far_R <= far_R.min() + 1e-9)
    return int(nearest[number % len(nearest)])


def replay(
    config: dict[str, Any], *, path: Path = TABLE, epoch_s: float = 0.0, **_: object
) -> None:
    """Report a recorded curve instead of training; resume from the epoch in its folder."""
    recipe = Recipe.model_validate_json(config["recipe"])
    lr_R, val_RN = curves(path)
    score_N = val_RN[run_of(recipe, lr_R, number=int(config["key"].rpartition("-")[2]))]
    folder = Path(config["workdir"])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / STARTS).open("a") as file:
        file.write(f"{ray.get_runtime_context().get_node_id()}\n")
    count = folder / "epochs"
    done = int(count.read_text()) if count.exists() else 0
    for epoch in range(max(done, 1), recipe.epochs + 1):  # the last epoch is reported again
        if epoch > done:
            time.sleep(epoch_s)
        count.write_text(str(epoch))
        score = float(score_N[epoch - 1])
        facts = {"seconds": epoch_s, "data_seconds": 0.0, "peak_gib": 0.0, "collapsed": 0.0}
        numbers = {"train_loss": 0.0, "lr": recipe.optim.lr, "val_miou": score}
        tune.report({"epoch": epoch, "best_val_miou": score, **facts, **numbers})
