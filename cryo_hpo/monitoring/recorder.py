"""Record every training of a study in its event log, each epoch once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from ..config.recipe import short_lr
from ..results.files import CONFIRM, TRIALS

History = Callable[[str, str, int], Iterable[Mapping[str, Any]]]

if TYPE_CHECKING:
    from ..config import Recipe, Study
    from ..storage.event_log import EventLog


class Records:
    """Record the trainings of a study in its log, as the only writer of their events.

    Terminal, MLflow and Prometheus are consumers of the log, and the result is built from it. An
    epoch is recorded once, however often a study is resumed.

    Attributes:
        open: Keys of trainings that have started and not ended, including paused ones.
    """

    def __init__(
        self,
        study: Study,
        log: EventLog,
        *,
        bands: Callable[[Recipe], object] = lambda _: "",
        history: History = lambda *_: (),
    ) -> None:
        """Read the recorded epochs of a study's log.

        Args:
            study: Study whose trainings are recorded.
            log: The study's log.
            bands: Returns a description of how a recipe's encoder gets its bands.
            history: Reads the metrics of a training's epochs from its folder; gets the folder
                within the study's, the id of the recipe and the number of epochs needed.
        """
        self._study, self._log, self._bands, self._history = study, log, bands, history
        self.open: set[str] = set()
        self._batches: dict[str, int] = {}  # training -> batch size of the recipe
        # training -> epoch -> seconds; saves reading the whole log at the end of each training
        self._seen: dict[str, dict[int, float]] = {}
        self._ends: set[str] = set()
        for _, event in log.read():
            if event["event"] == "epoch":
                self._see(event["key"], event)
            elif event["event"] == "ended":
                self._ends.add(event["key"])

    @property
    def epochs(self) -> int:
        """Number of recorded epochs."""
        return sum(map(len, self._seen.values()))

    @property
    def seconds(self) -> float:
        """Seconds of all recorded epochs."""
        return sum(sum(epochs.values()) for epochs in self._seen.values())

    def has(self, key: str, epoch: int) -> bool:
        """Return True if an epoch of a training is recorded."""
        return epoch in self._seen.get(key, {})

    def started(self, key: str, recipe: Recipe, *, kind: str) -> None:
        """Record that a training starts, or resumes."""
        self.open.add(key)
        self._batches[key] = recipe.batch_size
        bands = str(self._bands(recipe))
        self._append(
            "started",
            key,
            kind=kind,
            recipe=recipe.id,
            lr=recipe.optim.lr,
            epochs=recipe.epochs,
            name=f"{key} lr {short_lr(recipe.optim.lr)}",
            parent=self._study.name,
            tags={
                "cryo.study": self._study.name,
                "cryo.kind": kind,
                "cryo.state": "running",
                "cryo.recipe": recipe.id,
                "cryo.encoder": recipe.model.encoder,
                "cryo.bands": bands,
                "cryo.dataset": _dataset(recipe),
            },
            params={
                "lr": str(recipe.optim.lr),  # under a short name, besides its path
                **{k: str(v) for k, v in recipe.flat().items() if v is not None},
            },
        )

    def epoch(self, key: str, metrics: Mapping[str, Any]) -> None:
        """Record an epoch of a training, unless it is recorded already."""
        facts = {**metrics, "epoch": int(metrics["epoch"])}
        if self.has(key, facts["epoch"]):
            return
        self._append("epoch", key, **facts, batch=self._batches.get(key))
        self._see(key, facts)

    def paused(self, key: str, epoch: int) -> None:
        """Record that a trial is paused at a rung."""
        self._append("paused", key, epoch=epoch)

    def ended(self, key: str, state: str, message: str) -> None:
        """Record the final state of a training, with its epochs and seconds."""
        self.open.discard(key)
        self._ends.add(key)
        seconds = self._seen.get(key, {}).values()
        self._append(
            "ended", key, state=state, message=message, epochs=len(seconds), seconds=sum(seconds)
        )

    def reconcile(
        self,
        key: str,
        recipe: Recipe,
        *,
        kind: str,
        epochs: int,
        state: str | None = None,
        message: str = "",
    ) -> None:
        """Record what the log has lost of a training of an earlier run; see `Listener`.

        Epochs are read from the training's folder, only if any is missing.
        """
        missing = [n for n in range(1, epochs + 1) if not self.has(key, n)]
        lost_end = state is not None and key not in self._ends
        if not missing and not lost_end:
            return
        self.started(key, recipe, kind=kind)
        folder = f"{CONFIRM if kind == 'confirm' else TRIALS}/{key}"
        for metrics in self._history(folder, recipe.id, epochs) if missing else ():
            if metrics["epoch"] <= epochs:
                self.epoch(key, metrics)
        if state is None:
            self.paused(key, epochs)
        else:
            self.ended(key, state, message)

    def stopped(self, status: Literal["KILLED", "FAILED"]) -> None:
        """Record that the study and all open trainings are interrupted."""
        for key in sorted(self.open):
            self._append("interrupted", key)
        self._append("study ended", "", status=status)

    def _append(self, event: str, key: str, **facts: Any) -> None:
        self._log.append(event, study=self._study.name, key=key, **facts)

    def _see(self, key: str, facts: Mapping[str, Any]) -> None:
        self._seen.setdefault(key, {})[facts["epoch"]] = facts.get("seconds") or 0.0


def _dataset(recipe: Recipe) -> str:
    return recipe.data.card.name if recipe.data.card is not None else str(recipe.data.name)
