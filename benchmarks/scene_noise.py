"""Measure how much of a validation score is due to the few scenes of its split, by a bootstrap over them.

    python -m benchmarks.scene_noise record --data ../shared/data --out build/scene-noise.npz
    python -m benchmarks.scene_noise measure build/scene-noise.npz

`record` trains a small study (the U-Net of the recorded tables at five rates, on one task) and keeps the
confusion matrix of every scene after every epoch. `measure` draws the validation scenes again, with
replacement: the spread of a score, its bias, and what a choice by it costs on the test split.
"""

# D draws, K classes, N epochs, R rates, S scenes

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cryo_hpo.config import Recipe, Site
from cryo_hpo.data.dataset import Split
from cryo_hpo.stats.bootstrap import miou
from cryo_hpo.training import checkpoints
from cryo_hpo.training.loop import fit

from .grids import GRIDS, TASKS
from .record_lr_table import CPU, Cell, Tester, in_memory, prepare, recipe_of
from .report import say, table
from .selection_score import SCORES

Floats = NDArray[np.float64]
Score = Callable[[Floats], Floats]
RATES = ("0.000215443", "0.001", "0.00464159", "0.0215443", "0.1")
GRID = GRIDS["lr_table"]
DRAWS = 1000
SPLITS: tuple[Split, ...] = ("val", "test")


def record(task: str, data: Path, work: Path, out: Path) -> None:
    """Train the study and write its matrices: `val` and `test`, (R, N, S, K, K)."""
    torch.set_num_threads(1)
    cards = prepare(data, work / "scenes", GRID, [task])
    places = {"DATA": work, "STORAGE": work / "run", "CACHE": work / "cache"}
    site = Site.from_env({f"CRYO_{name}": str(place) for name, place in places.items()})
    cells = [Cell(0, rate, task, "unet-8") for rate in RATES]
    runs = [_matrices(recipe_of(cell, cards[task], GRID), site) for cell in cells]
    held = {split: np.stack([run[split] for run in runs]) for split in SPLITS}
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, allow_pickle=False, lr=np.array(RATES, float), **held)


def _matrices(recipe: Recipe, site: Site) -> dict[str, NDArray[np.int64]]:
    """Train one recipe; return the matrices of each split, (N, S, K, K)."""
    testers = {split: Tester(recipe, site, split) for split in SPLITS}
    decisions = range(1, recipe.epochs + 1)
    found: dict[str, list[NDArray[np.int64]]] = {split: [] for split in SPLITS}
    with in_memory() as states:
        for _ in fit(
            recipe,
            site=site,
            workdir=site.storage,
            device=CPU,
            keep_best=False,
            decisions=decisions,
        ):
            state = states[str(site.storage / checkpoints.LAST)]
            for split, tester in testers.items():
                scenes = [scores.confusion_TP for _, scores in tester.by_scene(state, "model")]
                found[split].append(np.stack(scenes))
    return {split: np.stack(epochs) for split, epochs in found.items()}


def draws(scenes: int, num: int = DRAWS) -> NDArray[np.int64]:
    """Return how often each scene is drawn, with replacement, (D, S)."""
    chance = np.random.default_rng(0)
    return chance.multinomial(scenes, np.full(scenes, 1 / scenes), size=num)


def pooled(matrices_RNSKK: NDArray[np.int64], weights_DS: NDArray[np.int64]) -> Floats:
    """Return the mIoU of every draw, rate and epoch, (D, R, N)."""
    return miou(np.einsum("ds,rnskl->drnkl", weights_DS, matrices_RNSKK, optimize=True))


class Noise:
    """Hold the scores of one task: of the whole splits, and of draws of validation scenes."""

    def __init__(self, val_RNSKK: NDArray[np.int64], test_RNSKK: NDArray[np.int64]) -> None:
        """Score all draws."""
        self.val_RN = miou(val_RNSKK.sum(axis=2))
        self.test_RN = miou(test_RNSKK.sum(axis=2))
        self.val_DRN = pooled(val_RNSKK, draws(val_RNSKK.shape[2]))

    def spread(self, score: Score) -> float:
        """Return the standard deviation of a rate's score over draws, the mean of the rates."""
        return float(score(self.val_DRN).std(axis=0, ddof=1).mean())

    def spread_of_lead(self, score: Score) -> float:
        """Return the standard deviation over draws of the leader's lead over the second."""
        second, first = np.argsort(score(self.val_RN))[-2:]
        scores_DR = score(self.val_DRN)
        return float((scores_DR[:, first] - scores_DR[:, second]).std(ddof=1))

    def bias(self) -> float:
        """Return how far the best epoch's score on a draw is above that epoch's on the whole split."""
        best_DR = self.val_DRN.argmax(axis=2)
        whole_DR = self.val_RN[np.arange(self.val_RN.shape[0]), best_DR]
        return float((self.val_DRN.max(axis=2) - whole_DR).mean())

    def changes(self, score: Score) -> float:
        """Return the share of draws in which another rate is chosen than on the whole split."""
        chosen_D = score(self.val_DRN).argmax(axis=1)
        return float((chosen_D != score(self.val_RN).argmax()).mean())

    def gap(self, score: Score) -> float:
        """Return how far the chosen rate's kept checkpoint is below the best rate's, on test."""
        rows = np.arange(len(self.val_DRN))
        kept_DR = self.val_DRN.argmax(axis=2)
        tests_DR = self.test_RN[np.arange(self.test_RN.shape[0]), kept_DR]
        chosen_D = score(self.val_DRN).argmax(axis=1)
        return float((tests_DR.max(axis=1) - tests_DR[rows, chosen_D]).mean())


def lines(noise: Noise) -> Iterator[str]:
    """Yield the table of the page."""
    draws_DRN, bias = noise.val_DRN, 100 * noise.bias()
    yield f"{len(draws_DRN)} draws of the validation scenes; the best epoch's bias: {bias:.2f} points"
    yield ""
    rows = []
    for name, score in SCORES.items():
        points = [noise.spread(score), noise.spread_of_lead(score), noise.gap(score)]
        spread, lead, gap = (f"{100 * value:.2f}" for value in points)
        rows.append([name, spread, lead, f"{100 * noise.changes(score):.0f} %", gap])
    titles = ["score", "noise", "noise of the lead", "another rate", "gap of the choice"]
    yield from table(titles, rows)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="train the small study")
    recording.add_argument("--task", choices=TASKS, default="rock-glaciers")
    recording.add_argument("--data", type=Path, required=True, help="folder of the real datasets")
    recording.add_argument("--work", type=Path, default=Path("build/scene-noise"))
    recording.add_argument("--out", type=Path, required=True)
    measuring = commands.add_parser("measure", help="print the table")
    measuring.add_argument("recorded", type=Path)
    asked = parser.parse_args()
    if asked.command == "record":
        record(asked.task, asked.data.absolute(), asked.work.absolute(), asked.out.absolute())
    else:
        with np.load(asked.recorded) as file:
            say(list(lines(Noise(file["val"], file["test"]))))


if __name__ == "__main__":
    main()
