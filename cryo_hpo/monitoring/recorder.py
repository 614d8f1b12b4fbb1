"""The study's own record of every epoch, and the one listener that tells everybody."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..config.recipe import short_lr
from ..errors import StorageError
from ..results.epochs import EPOCHS, read
from .events import emit

if TYPE_CHECKING:
    from ..config import Recipe, Study
    from ..tracking import Tracker
    from .terminal import Progress

STATUS: dict[str, Literal["FINISHED", "FAILED"]] = {
    "complete": "FINISHED",
    "pruned": "FINISHED",
    "diverged": "FAILED",
    "failed": "FAILED",
}


class Records:
    """Hears every training: writes its epochs down, tells the tracker and the terminal.

    An epoch is told once, however often a study is begun again.
    """

    def __init__(
        self,
        study: Study,
        folder: Path,
        *,
        tracker: Tracker,
        progress: Progress,
        bands: Callable[[Recipe], object] = lambda _: "",
    ) -> None:
        self._bands = bands
        self._study, self._path = study, folder / EPOCHS
        self._tracker, self._progress = tracker, progress
        self.running: set[str] = set()
        self._batches: dict[str, int] = {}  # training -> its recipe's batch size
        # training -> epoch -> seconds: to look for them in the file at every end would read it all
        self._seen: dict[str, dict[int, float]] = {}
        for line in read(folder):
            self._seen.setdefault(line["key"], {})[line["epoch"]] = line.get("seconds", 0.0)
        progress.leave_out(sum(map(len, self._seen.values())))
        if self._path.exists() and not self._path.read_bytes().endswith(b"\n"):
            self._append("\n")  # what a full disk left of the last line must not swallow the next

    def run_key(self, key: str = "") -> str:
        """Return the name by which the tracker knows a training, or the study itself."""
        return f"{self._study.name}/{key}" if key else self._study.name

    def started(self, key: str, recipe: Recipe, *, kind: str) -> None:
        """Open the training's MLflow run."""
        self.running.add(key)
        self._batches[key] = recipe.batch_size
        self._tracker.start(
            self.run_key(key),
            name=f"{key} lr {short_lr(recipe.optim.lr)}",
            parent=self.run_key(),
            tags={
                "cryo.study": self._study.name,
                "cryo.kind": kind,
                "cryo.state": "running",
                "cryo.recipe": recipe.id,
                "cryo.encoder": recipe.model.encoder,
                "cryo.bands": str(self._bands(recipe)),
                "cryo.dataset": _dataset(recipe),
            },
            params={
                "lr": recipe.optim.lr,  # a name of its own: the first column one looks for
                **{k: v for k, v in recipe.flat().items() if v is not None},
            },
        )
        self._progress.started(key, recipe, kind=kind)
        emit("started", key=key, kind=kind, recipe=recipe.id, lr=recipe.optim.lr)

    def epoch(self, key: str, metrics: Mapping[str, float]) -> None:
        """Write an epoch down, once."""
        epoch = int(metrics["epoch"])
        seen = self._seen.setdefault(key, {})
        if epoch in seen:
            return
        # Told last where it counts as told: MLflow takes a point twice, but not one left out.
        self._tracker.log(self.run_key(key), metrics, step=epoch)
        batch = self._batches.get(key, 0)
        if metrics.get("micro_batch", batch) < batch:
            told = {"cryo.micro_batch": f"{metrics['micro_batch']:.0f} of {batch}"}
            self._tracker.tag(self.run_key(key), told)
        self._append(json.dumps({"key": key, **metrics, "epoch": epoch}) + "\n")
        seen[epoch] = metrics.get("seconds", 0.0)
        self._progress.epoch(key, metrics)

    def paused(self, key: str, epoch: int) -> None:
        """Note that a trial is paused at a rung."""
        self._tracker.tag(self.run_key(key), {"cryo.state": "paused"})
        self._progress.paused(key, epoch)
        emit("paused", key=key, epoch=epoch)

    def ended(self, key: str, state: str, message: str) -> None:
        """Close the training's MLflow run."""
        self.running.discard(key)
        tags = {"cryo.state": state, "cryo.message": message[:500]}
        self._tracker.tag(self.run_key(key), {k: v for k, v in tags.items() if v})
        seconds = self._seen.get(key, {}).values()
        spent = {"epochs": float(len(seconds)), "seconds_total": sum(seconds)}
        self._tracker.log(self.run_key(key), spent, step=len(seconds))
        self._tracker.end(self.run_key(key), STATUS[state])
        self._progress.ended(key, state, message)
        emit("ended", key=key, state=state, message=message)

    def _append(self, text: str) -> None:
        try:
            with self._path.open("a") as file:
                file.write(text)
        except OSError as error:
            message = (
                f"The study's record must be writable, '{self._path}' is not: {error}. "
                "Free space, then give the same command again."
            )
            raise StorageError(message) from error

    def stopped(self, status: Literal["KILLED", "FAILED"]) -> None:
        """Close every open run, and the study's own."""
        for key in sorted(self.running):
            self._tracker.end(self.run_key(key), "KILLED")
        self._tracker.end(self.run_key(), status)


def _dataset(recipe: Recipe) -> str:
    return recipe.data.card.name if recipe.data.card is not None else str(recipe.data.name)
