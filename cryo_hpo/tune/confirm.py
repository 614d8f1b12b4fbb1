"""The last phase as a source of jobs: winner and baselines, trained again on the same seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import CryoError
from ..train import EPOCH, history
from .jobs import Job, Outcome

if TYPE_CHECKING:
    from ..spec import Recipe
    from .listen import Listener


@dataclass(frozen=True, slots=True)
class Arm:
    """One recipe of the comparison, and the seeds it is trained on."""

    name: str
    recipe: Recipe
    seeds: tuple[int, ...]

    def recipes(self) -> list[Recipe]:
        """Return the recipe once for every seed."""
        return [self.recipe.replace({"seed": seed}) for seed in self.seeds]


def job(arm: Arm, seed: int, folder: Path) -> Job:
    """Return the job that trains one arm on one seed to full length."""
    key = f"{arm.name}-seed{seed}"
    recipe = arm.recipe.replace({"seed": seed})
    return Job(key=key, recipe=recipe.model_dump_json(), workdir=str(folder / key), keep_best=True)


class ConfirmSource:
    """Hands out the trainings of all arms, pair by pair; finished ones are not run again."""

    def __init__(self, arms: Sequence[Arm], *, folder: Path, listener: Listener) -> None:
        self._listener = listener
        # Seed by seed, so that a study cut short holds whole pairs.
        seeds = arms[0].seeds
        self._todo = [(arm, job(arm, seed, folder)) for seed in seeds for arm in arms]
        self._epochs = {one.key: arm.recipe.epochs for arm, one in self._todo}
        self._recipes = {
            one.key: recipe
            for arm in arms
            for seed, recipe in zip(arm.seeds, arm.recipes(), strict=True)
            for one in [job(arm, seed, folder)]
        }
        self.curves: dict[str, list[dict[str, float]]] = {}
        for _, one in self._todo:
            self.curves[one.key] = history(Path(one.workdir))
        self._todo = [(a, j) for a, j in self._todo if not self._whole(j.key)]
        self._at_work = 0
        self._lost: dict[str, str] = {}

    def next(self) -> Job | Literal["wait"] | None:
        if not self._todo:
            return "wait" if self._at_work else None
        _, one = self._todo.pop(0)
        self._at_work += 1
        self._listener.started(one.key, self._recipes[one.key], kind="confirm")
        return one

    def epoch(self, job: Job, metrics: Mapping[str, float]) -> bool:
        curve = self.curves[job.key]
        if int(metrics[EPOCH]) > len(curve):
            curve.append(dict(metrics))
            self._listener.epoch(job.key, metrics)
        return True

    def ended(self, job: Job, outcome: Outcome, message: str) -> None:
        self._at_work -= 1
        if not self._whole(job.key) and outcome != "diverged":
            self._lost[job.key] = message or outcome
        state = (
            "complete"
            if self._whole(job.key)
            else "diverged"
            if outcome == "diverged"
            else "failed"
        )
        self._listener.ended(job.key, state, message)

    def raise_if_lost(self) -> None:
        """Raise if a training is missing: a comparison with unequal seeds is none.

        Raises:
            CryoError: Which trainings, and what to do.
        """
        if not self._lost:
            return
        first, why = next(iter(self._lost.items()))
        message = (
            f"Every arm must be trained on every seed, {len(self._lost)} trainings are missing "
            f"(first: {first}: {why}). Give the same command again: what is finished is kept."
        )
        raise CryoError(message)

    def _whole(self, key: str) -> bool:
        return len(self.curves[key]) >= self._epochs[key]
