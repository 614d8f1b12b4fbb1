"""Hand out the jobs of the paired retraining: winner and baselines on the same seeds."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
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

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Arm:
    """Hold one recipe of the comparison, and the seeds it is trained on.

    Attributes:
        name: Name of the arm.
        recipe: Recipe of its trainings.
        seeds: Seeds it is trained on.
        metric: Name of the metric that selects each training's best model.
        trainings: How the names of its trainings begin; empty: with the arm's name.
    """

    name: str
    recipe: Recipe
    seeds: tuple[int, ...]
    metric: str = "miou"
    trainings: str = ""

    def training(self, seed: int) -> str:
        """Return the name of the training on a seed."""
        return f"{self.trainings or self.name}-seed{seed}"


def job(arm: Arm, seed: int, folder: Path) -> Job:
    """Return the job that trains one arm on one seed to full length."""
    key = arm.training(seed)
    recipe = arm.recipe.replace({"seed": seed})
    return Job(
        key=key,
        recipe=recipe.model_dump_json(),
        workdir=str(folder / key),
        keep_best=True,
        metric=arm.metric,
    )


class ConfirmSource:
    """Hand out the trainings of all arms, pair by pair; finished ones are not run again."""

    def __init__(
        self,
        arms: Sequence[Arm],
        *,
        folder: Path,
        listener: Listener,
        damage: Callable[[Job], str] = lambda _: "",
    ) -> None:
        """Find the trainings that are still to run.

        Args:
            arms: The recipes compared.
            folder: Folder of the trainings.
            listener: Receives their events.
            damage: Describes what a finished training has lost, so that it must run again; empty
                if it has lost nothing.

        Raises:
            StorageError: The folder cannot be written.
        """
        self._listener = listener
        # Seed by seed, so that a study cut short holds whole pairs.
        pairs = [(seed, arm) for seed in arms[0].seeds for arm in arms]
        self._recipes = {
            job(arm, seed, folder).key: arm.recipe.replace({"seed": seed}) for seed, arm in pairs
        }
        todo = [job(arm, seed, folder) for seed, arm in pairs]
        for training in todo:
            _reopen(training, damage)
        # A full training without this file runs again, and only reports its epochs.
        self._todo = [
            training for training in todo if not (Path(training.workdir) / ENDED).exists()
        ]
        self._reconcile(todo)
        self._reached: dict[str, int] = {}
        self._at_work = 0
        self._lost: dict[str, str] = {}

    def _reconcile(self, jobs: Sequence[Job]) -> None:
        """Record what the study's log has lost of the finished trainings."""
        for training in jobs:
            state = read_end(training)
            if state:
                recipe = self._recipes[training.key]
                epochs = recipe.epochs if state == "complete" else 0
                self._listener.reconcile(
                    training.key, recipe, kind="confirm", epochs=epochs, state=state
                )

    def next(self) -> Job | Literal["wait"] | None:
        """Return the next job, "wait" or None; see `Source`."""
        if not self._todo:
            return "wait" if self._at_work else None
        training = self._todo.pop(0)
        self._at_work += 1
        self._listener.started(training.key, self._recipes[training.key], kind="confirm")
        return training

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


def read_end(job: Job) -> str:
    """Return the recorded outcome of a training: "complete", "diverged", or "" if there is none."""
    try:
        state = (Path(job.workdir) / ENDED).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return state if state in ("complete", "diverged") else ""


def _reopen(job: Job, damage: Callable[[Job], str]) -> None:
    """Remove the outcome of a finished training that has lost its model, or a damaged outcome."""
    ended = Path(job.workdir) / ENDED
    if not ended.exists():
        return
    why = damage(job) if read_end(job) else f"'{ended}' is damaged"
    if why:
        log.warning("%s. Training '%s' runs again.", why, job.key)
        with _writing(ended):
            ended.unlink(missing_ok=True)


def _keep(path: Path, state: str) -> None:
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, state + "\n")


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"CRYO_STORAGE must be writable, '{path}' is not: {error}. Free space."
        raise StorageError(message) from error
