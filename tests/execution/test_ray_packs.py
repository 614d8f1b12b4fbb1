"""A pack is one trial of Tune: its reports, outcomes and faults are those of its trainings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cryo_hpo.execution.attempts import Attempts
from cryo_hpo.execution.packs import Packs
from cryo_hpo.search.jobs import MESSAGE, OUTCOME

from .test_packs import Given, _job

pytest.importorskip("ray")
tune = pytest.importorskip("cryo_hpo.execution.ray_tune")


class Tune:
    """Drive the searcher, scheduler and callback as Tune does."""

    def __init__(self, source: Given, *, most: int = 3, slots: int = 1) -> None:
        packs = Packs(Attempts(source), most=most, share=lambda recipe: str(recipe.seed))
        self.kept = tune.FirstErrorKept(packs)
        self.searcher = tune.JobSearcher(self.kept, budget=lambda: slots)
        self.scheduler = tune.RungScheduler(self.kept)
        self.callback = tune.OutcomeCallback(self.kept, self.searcher)
        self.number = 0

    def start(self) -> Any:
        self.number += 1
        config = self.searcher.suggest(f"t{self.number}")
        if not isinstance(config, dict):
            return config
        return SimpleNamespace(
            trial_id=f"t{self.number}",
            config=config,
            status="RUNNING",
            pickled_error_file=None,
            error_file=None,
        )

    def report(self, trial: Any, key: str, **result: Any) -> str:
        of_pack = {"job": key} if "jobs" in trial.config else {}
        result = {"best_val_miou": 0.5, "node_ip": "n", "pid": 1, **result}
        return str(self.scheduler.on_trial_result(None, trial, {**result, **of_pack}))

    def complete(self, trial: Any) -> None:
        self.searcher.on_trial_complete(trial.trial_id)
        self.callback.on_trial_complete(trial=trial)


def test_a_pack_takes_one_slot_and_its_trainings_report_by_their_keys() -> None:
    source = Given(*map(_job, "abcd"), passes=lambda key, _: key == "a")
    driven = Tune(source)
    trial = driven.start()
    assert (tune.key_of(trial), len(trial.config["jobs"])) == ("a+2", 3)
    assert tune.dirname_of(trial) == "a+2-t1"
    assert driven.start() is None, "there is one slot"
    assert {driven.report(trial, key, epoch=1) for key in "abc"} == {"CONTINUE"}, "it ends itself"
    driven.complete(trial)
    assert source.epochs == [("a", 1), ("b", 1), ("c", 1)]
    assert source.ends == [("b", "done", ""), ("c", "done", "")]
    alone = driven.start()
    assert (alone.config["key"], alone.config["cleared"], "jobs" in alone.config) == ("a", 1, False)


def test_a_training_by_itself_is_stopped_as_before() -> None:
    source = Given(_job("a"), passes=lambda _, epoch: epoch == 1)
    driven = Tune(source)
    trial = driven.start()
    answers = [driven.report(trial, "a", epoch=epoch) for epoch in (1, 2, 3)]
    assert answers == ["CONTINUE", "CONTINUE", "STOP"]
    driven.complete(trial)
    assert source.ends == [("a", "done", "")]


@pytest.mark.parametrize("keys", ["a", "ab"])
def test_an_outcome_is_that_of_its_own_training(keys: str) -> None:
    source = Given(*map(_job, keys))
    driven = Tune(source)
    trial = driven.start()
    assert driven.report(trial, "a", **{OUTCOME: "diverged", MESSAGE: "why"}) == "CONTINUE"
    if len(keys) > 1:
        driven.report(trial, "b", epoch=1)
    driven.complete(trial)
    assert source.ends == [("a", "diverged", "why")]


def test_all_trainings_of_a_lost_worker_start_again(caplog) -> None:
    source = Given(*map(_job, "ab"))
    driven = Tune(source)
    trial = driven.start()
    driven.callback.on_trial_error(trial=trial)
    driven.searcher.on_trial_complete(trial.trial_id)
    assert driven.start().config["key"] == "a+1"
    assert source.ends == []
    assert "a: its worker died" in caplog.text
    assert "b: its worker died" in caplog.text


def test_a_warning_of_a_pack_names_it(caplog) -> None:
    driven = Tune(Given(*map(_job, "ab")))
    driven.report(driven.start(), "b", epoch=1, notes=["'last.pt' is damaged"])
    assert "a+1: 'last.pt' is damaged" in caplog.text
