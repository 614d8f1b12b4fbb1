"""Count the work that a study still has to do, from its plan and from what has happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONFIRM = "confirm"  # kind of the trainings of the final comparison
TOGETHER = (
    2  # times the test split is mapped: by each training, and by each arm's trainings together
)


@dataclass(slots=True)
class _Training:
    """Hold what is known of one training."""

    kind: str
    end: int
    """Epochs of its full length."""
    epoch: int = 0
    runs: bool = True
    """Whether it trains, or was interrupted and will resume; False: paused or over."""


class Workload:
    """Count the epochs that a study still has to train, and the test maps that follow them.

    The plan says how many trials reach each rung. Every event corrects it: a trial that is promoted
    has to reach the next rung, one that diverged does not.
    """

    def __init__(
        self,
        rungs: Sequence[tuple[int, int]] = (),
        *,
        proof: int = 0,
        limit: int | None = None,
        scoring: float = 0.0,
    ) -> None:
        """Expect what a plan says.

        Args:
            rungs: (epoch, trials expected to reach it) of the search, full length last.
            proof: Epochs of the final comparison.
            limit: Epochs that the search may spend; None: as many as its trials take.
            scoring: Maps of the test split by one training, as a share of its own epochs.
        """
        self._rungs, self._proof, self._scoring = rungs, proof, scoring
        self._limit: Callable[[], int | None] = lambda: limit
        self._trainings: dict[str, _Training] = {}
        self._searches = True  # until a training of the comparison starts

    def expect_proof(self, epochs: int) -> None:
        """Set the epochs of the final comparison, once its recipes are known."""
        self._proof = epochs

    def limit_search(self, limit: Callable[[], int]) -> None:
        """Set what returns the epochs that the search may spend, as far as is known by then."""
        self._limit = limit

    def replay(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Take into account what earlier runs of the study have done."""
        for event in events:
            self.see(event)

    def see(self, event: Mapping[str, Any]) -> None:
        """Take an event of the study's log into account."""
        key = event.get("key", "")
        match event["event"]:
            case "started":
                new = _Training(event.get("kind", ""), event["epochs"])
                self._trainings.setdefault(key, new).runs = True
                self._searches = new.kind != CONFIRM
            case "epoch" if key in self._trainings:
                training = self._trainings[key]
                training.epoch = max(training.epoch, event["epoch"])
            case "paused" | "ended" if key in self._trainings:
                self._trainings[key].runs = False

    @property
    def epochs_left(self) -> float:
        """Epochs that are still to be trained."""
        return self._search_left() + self._proof_left()

    @property
    def scoring_left(self) -> float:
        """Maps of the test split that follow the training, in epochs of equal duration."""
        done = sum(each.epoch for each in self._of_proof())
        return TOGETHER * self._scoring * max(self._proof, done)

    def _of_search(self) -> list[_Training]:
        return [each for each in self._trainings.values() if each.kind != CONFIRM]

    def _of_proof(self) -> list[_Training]:
        return [each for each in self._trainings.values() if each.kind == CONFIRM]

    def _search_left(self) -> int:
        if not self._searches:  # a comparison begins when the search is over
            return 0
        trials, left, below = self._of_search(), 0, 0
        for rung, expected in self._rungs:
            begun = [t for t in trials if t.epoch > below or (t.runs and t.epoch == below)]
            left += max(expected - len(begun), 0) * (rung - below)
            left += sum(rung - t.epoch for t in begun if t.runs and t.epoch < rung)
            below = rung
        limit, spent = self._limit(), sum(t.epoch for t in trials)
        return left if limit is None else min(left, max(limit - spent, 0))

    def _proof_left(self) -> int:
        running = self._of_proof()
        planned = self._proof - sum(each.epoch for each in running)
        return max(planned, sum(each.end - each.epoch for each in running if each.runs), 0)
