"""Hand out the jobs of the paired retraining: winner and baselines on the same seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import CryoError, StorageError
from ..results.epochs import EPOCH
from ..storage.atomic import write_text
from .jobs import Job, Outcome

if TYPE_CHECKING:
    from ..config import Recipe
    from .listener import Listener


ENDED = "ended"  # file in a training's folder, once its outcome is recorded


@dataclass(frozen=True, slots=True)
class Arm:
    """Hold one recipe of the comparison, and the seeds it is trained on."""

    name: str
    recipe: Recipe
    seeds: tuple[int, ...]


def job(arm: Arm, seed: int, folder: Path) -> Job:
    """Return the job that trains one arm on one seed to full length."""
    key = f"{arm.name}-seed{seed}"
    recipe = arm.recipe.replace({"seed": seed})
    return Job(key=key, recipe=recipe.model_dump_json(), workdir=str(folder / key), keep_best=True)


class ConfirmSource:
    """Hand out the trainings of all arms, pair by pair; finished ones are not run again."""

    def __init__(self, arms: Sequence[Arm], *, folder: Path, listener: Listener) -> None:
        self._listener = listener
        # Seed by seed, so that a study cut short holds whole pairs.
        pairs = [(seed, arm) for seed in arms[0].seeds for arm in arms]
        self._recipes = {
            job(arm, seed, folder).key: arm.recipe.replace({"seed": seed}) for seed, arm in pairs
        }
        todo = [job(arm, seed, folder) for seed, arm in pairs]
        # A full training without this file runs again, and only reports its last epoch.
        self._todo = [one for one in todo if not (Path(one.workdir) / ENDED).exists()]
        self._reached: dict[str, int] = {}
        self._at_work = 0
        self._lost: dict[str, str] = {}

    def next(self) -> Job | Literal["wait"] | None:
        """Return the next job, "wait" or None; see `Source`."""
        if not self._todo:
            return "wait" if self._at_work else None
        one = self._todo.pop(0)
        self._at_work += 1
        self._listener.started(one.key, self._recipes[one.key], kind="confirm")
        return one

    def epoch(self, job: Job, metrics: Mapping[str, float]) -> bool:
        """Record an epoch; return whether the job continues."""
        self._reached[job.key] = int(metrics[EPOCH])
        self._listener.epoch(job.key, metrics)
        return True

    def ended(self, job: Job, outcome: Outcome, message: str) -> None:
        """Record how a job ended."""
        self._at_work -= 1
        if outcome == "unwritable":
            raise StorageError(message)
        whole = self._reached.get(job.key, 0) >= self._recipes[job.key].epochs
        state = "complete" if whole else "diverged" if outcome == "diverged" else "failed"
        self._listener.ended(job.key, state, message)
        if state == "failed":
            self._lost[job.key] = message or outcome
        else:
            _keep(Path(job.workdir) / ENDED, state)

    def raise_if_lost(self) -> None:
        """Raise if a training is missing: arms with unequal seeds cannot be compared.

        Raises:
            CryoError: Trainings are missing; the message counts them and names the first.
        """
        if not self._lost:
            return
        first, why = next(iter(self._lost.items()))
        message = (
            f"Every arm must be trained on every seed, {len(self._lost)} trainings are missing "
            f"(first: {first}: {why}). Give the same command again: what is finished is kept."
        )
        raise CryoError(message)


def _keep(path: Path, state: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, state + "\n")
    except OSError as error:
        message = f"CRYO_STORAGE must be writable, '{path}' is not: {error}. Free space."
        raise StorageError(message) from error
