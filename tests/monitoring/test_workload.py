"""What a study still has to do follows its events: promotions, pruned trials, scoring."""

from __future__ import annotations

import math
import os
import statistics
from typing import Any

import pytest

from cryo_hpo.config import Recipe
from cryo_hpo.monitoring.recorder import Records
from cryo_hpo.monitoring.workload import Workload
from cryo_hpo.search.budget import count_epochs, expect_rungs

from ..search.test_source import _open
from ..support.pool import Curves, a_study, simulate

RUNGS = ((1, 4), (3, 2), (9, 1))


def _start(work: Workload, key: str, *, kind: str = "search", epochs: int = 9) -> None:
    work.see({"event": "started", "key": key, "kind": kind, "epochs": epochs})


def _train(work: Workload, key: str, *epochs: int) -> None:
    for epoch in epochs:
        work.see({"event": "epoch", "key": key, "epoch": epoch})


def _pause(work: Workload, key: str) -> None:
    work.see({"event": "paused", "key": key})


def test_before_anything_has_happened_it_is_the_plan():
    work = Workload(RUNGS, proof=90, scoring=0.1)
    assert work.epochs_left == count_epochs(RUNGS) + 90
    assert work.scoring_left == 2 * 0.1 * 90


def test_a_promotion_is_counted_when_it_comes():
    work = Workload(RUNGS)
    for key in ("a", "b", "c", "d"):
        _start(work, key)
        _train(work, key, 1)
        _pause(work, key)
    assert work.epochs_left == 2 * 2 + 6  # two of them to epoch 3, one to 9
    for key in ("a", "b"):
        _start(work, key)
        _train(work, key, 2, 3)
        _pause(work, key)
    assert work.epochs_left == 6
    _start(work, "c")  # a third one, which the plan did not expect
    assert work.epochs_left == 2 + 6
    _train(work, "c", 2)
    assert work.epochs_left == 1 + 6
    work.see({"event": "ended", "key": "c", "state": "diverged", "message": ""})
    assert work.epochs_left == 6


def test_the_comparison_ends_the_search_and_may_be_longer_or_shorter_than_planned():
    work = Workload(RUNGS, proof=18)
    _start(work, "trial-0000")
    _start(work, "tuned-seed1", kind="confirm")
    assert work.epochs_left == 18, "what the search has spared is not waited for"
    _train(work, "tuned-seed1", *range(1, 10))
    assert work.epochs_left == 9
    work.expect_proof(9)  # a baseline that won is compared with nothing
    assert work.epochs_left == 0
    _start(work, "tuned-seed2", kind="confirm")  # another round
    assert work.epochs_left == 9
    _start(work, "trial-0009")  # an extension goes back to the search
    assert work.epochs_left > 9


def test_a_budget_is_never_exceeded():
    work = Workload(RUNGS, limit=5)
    assert work.epochs_left == 5
    _start(work, "a")
    _train(work, "a", 1, 2, 3)
    assert work.epochs_left == 2


class Log:
    """Stands for a study's log."""

    def __init__(self, *works: Workload) -> None:
        self.works = works
        self.left: list[list[float]] = []
        self.events: list[dict[str, Any]] = []

    def read(self) -> list[Any]:
        return []

    def append(self, event: str, **facts: Any) -> None:
        self.events.append({"event": event, **facts})
        for work in self.works:
            work.see(self.events[-1])
        if event == "epoch":
            self.left.append([work.epochs_left for work in self.works])


def _curves(seed: int) -> Curves:
    def curve(recipe: Recipe) -> list[float]:
        peak = -abs(math.log10(recipe.optim.lr) + 2 + seed / 4)
        return [peak * (1 + 1 / epoch) for epoch in range(1, 28)]

    return curve


def test_the_estimate_is_closer_than_the_plan_and_a_resumed_study_has_the_same(
    tmp_path, monkeypatch
):
    """Against what simulated searches really took, over every epoch of each."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    followed, planned = [], []
    for seed in range(4):
        study = a_study(trials=18, epochs=27, sampler="random", seed=seed)
        assert study.search is not None
        rungs = expect_rungs(study.search, 27)
        work = Workload(rungs)
        log = Log(work)
        records = Records(study, log)  # type: ignore[arg-type]
        source = _open(study, tmp_path / str(seed), records)  # type: ignore[arg-type]
        simulate(source, _curves(seed), workers=2, order=seed)
        again = Workload(rungs)
        again.replay(log.events)
        assert again.epochs_left == work.epochs_left
        total, plan = len(log.left), count_epochs(rungs)
        truth = [total - done for done in range(1, total + 1)]
        followed += [abs(left[0] - true) for left, true in zip(log.left, truth, strict=True)]
        planned += [
            abs(max(plan - done, 0) - true)
            for done, true in zip(range(1, total + 1), truth, strict=True)
        ]
    assert statistics.mean(followed) < statistics.mean(planned)


@pytest.mark.parametrize("event", ["metrics", "artifact", "log begun", "interrupted"])
def test_other_events_change_nothing(event):
    work = Workload(RUNGS)
    work.see({"event": event, "key": "a", "epoch": 3})
    assert work.epochs_left == count_epochs(RUNGS)
