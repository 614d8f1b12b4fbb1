"""Trials of Tune that hang before Tune knows them as started, or whose worker cannot be reset."""

from __future__ import annotations

import inspect
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from cryo_hpo.execution.attempts import Attempts
from cryo_hpo.execution.executor import TrialResources
from cryo_hpo.execution.packs import Packs
from cryo_hpo.execution.positions import WorkerPositions
from cryo_hpo.search.jobs import Job

from .test_inline import Jobs

driver = pytest.importorskip("cryo_hpo.execution.ray_driver")
hanging = pytest.importorskip("cryo_hpo.execution.ray_hanging")
LIMIT_S = 30.0


class Hangs:
    """Drives the callback as Tune does, with a clock, and notes which actors are ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, restart: bool) -> None:
        self.now = 0.0
        self.ended: list[object] = []
        self.actors: dict[Any, object] = {}
        monkeypatch.setattr(hanging.ray, "kill", self.ended.append)
        slots = TrialResources(1, 0, None, hang_s=LIMIT_S, restart=restart)
        self.callback = hanging.HangCallback(slots, self.actors.get, WorkerPositions())
        self.callback._watch._clock = lambda: self.now

    def step(self, *trials: Any, seconds: float = 0.0) -> None:
        self.now += seconds
        self.callback.on_step_begin(0, list(trials))


class Trial:
    def __init__(self, key: str, status: str = "PENDING") -> None:
        self.config, self.status = {"key": key, "workdir": f"/{key}"}, status
        self.temporary_state = SimpleNamespace(ray_actor=None)


def test_a_worker_that_hangs_at_its_start_is_reported_and_ended(monkeypatch, caplog) -> None:
    """Its actor is created or reset, and Tune waits for its answer without a limit."""
    hangs, trial = Hangs(monkeypatch, restart=True), Trial("trial-0001")
    hangs.actors[trial] = "actor"
    hangs.step(trial)
    hangs.step(trial, seconds=LIMIT_S)
    assert hangs.ended == []
    hangs.step(trial, seconds=1)
    hangs.step(trial, seconds=LIMIT_S)
    assert hangs.ended == ["actor"]
    assert caplog.text.count("trial-0001 has reported no epoch for 0.517 min") == 1
    assert "It is ended" in caplog.text


def test_a_trial_that_waits_for_resources_does_not_hang(monkeypatch, caplog) -> None:
    hangs, trial = Hangs(monkeypatch, restart=True), Trial("trial-0001")
    for _ in range(3):
        hangs.step(trial, seconds=LIMIT_S)
    assert (hangs.ended, caplog.text) == ([], "")


def test_a_worker_that_hangs_is_only_reported_unless_the_study_says_more(
    monkeypatch, caplog
) -> None:
    hangs, trial = Hangs(monkeypatch, restart=False), Trial("trial-0001")
    hangs.actors[trial] = "actor"
    hangs.step(trial)
    hangs.step(trial, seconds=20)
    hangs.callback.on_trial_start(trial=trial)
    trial.status = "RUNNING"
    hangs.step(trial, seconds=20)
    assert caplog.text == "", "an actor that answered has the time to its first epoch"
    hangs.callback.on_trial_result(trial=trial, result={"seconds": 1.0})
    hangs.step(trial, seconds=LIMIT_S + 1)
    assert hangs.ended == []
    assert "trial-0001 has reported no epoch" in caplog.text
    assert "hanging: restart" in caplog.text
    hangs.callback.on_trial_complete(trial=trial)
    trial.status = "TERMINATED"
    hangs.step(trial, seconds=LIMIT_S + 1)
    assert caplog.text.count("has reported no epoch") == 1


def test_a_trial_whose_worker_cannot_be_reset_starts_again(monkeypatch, caplog) -> None:
    """Tune ends it without a word, when the training before has not ended in time."""
    source = Jobs(2)
    kept = driver.FirstErrorKept(Packs(Attempts(source), most=1))
    searcher = driver.JobSearcher(kept, budget=lambda: 1)
    config = searcher.suggest("t1")
    assert searcher.suggest("t2") is None, "one slot, and a trial in it"
    trial = SimpleNamespace(config=config, status="ERROR", trial_id="t1")
    callback = driver.OutcomeCallback(kept, searcher)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            callback.on_step_begin(iteration=0, trials=[trial])
    assert caplog.text.count("its worker died (it had not ended its training before") == 1
    assert Job(**searcher.suggest("t3")).key == config["key"]
    assert source.ends == []


def test_tunes_tables_of_actors_are_where_they_are_looked_up() -> None:
    """They are private: another version of Ray may have moved them."""
    controllers = pytest.importorskip("ray.tune.execution.tune_controller")
    managers = pytest.importorskip("ray.air.execution._internal.actor_manager")
    live = managers.RayActorManager(resource_manager=None)
    trial = Trial("a")
    controller = SimpleNamespace(_trial_to_actor={trial: 1}, _actor_manager=live)
    assert "self._trial_to_actor: Dict" in inspect.getsource(controllers.TuneController)
    assert "self._actor_manager = RayActorManager" in inspect.getsource(controllers.TuneController)
    scheduler = driver.RungScheduler(None)
    assert scheduler.actor_of(trial) is None, "no trial was added"
    scheduler.on_trial_add(controllers.TrialRunnerWrapper(controller, None), trial)
    assert scheduler.actor_of(trial) is None, "it waits for resources"
    live._live_actors_to_ray_actors_resources[1] = ("the actor", None)
    assert scheduler.actor_of(trial) == "the actor"
    trial.temporary_state.ray_actor = "started"
    assert scheduler.actor_of(trial) == "started"


def test_tune_calls_the_callbacks_as_they_are_written(monkeypatch) -> None:
    callbacks = pytest.importorskip("ray.tune.callback")
    hangs, source = Hangs(monkeypatch, restart=True), Jobs(1)
    kept = driver.FirstErrorKept(Packs(Attempts(source), most=1))
    searcher = driver.JobSearcher(kept, budget=lambda: 1)
    config = searcher.suggest("t1")
    trial = SimpleNamespace(config=config, status="RUNNING", trial_id="t1", last_result={})
    every = callbacks.CallbackList([driver.OutcomeCallback(kept, searcher), hangs.callback])
    given = {"iteration": 0, "trials": [trial]}
    every.on_step_begin(**given)
    every.on_trial_start(**given, trial=trial)
    every.on_trial_result(**given, trial=trial, result={"seconds": 1.0})
    trial.status = "TERMINATED"
    every.on_trial_complete(**given, trial=trial)
    every.on_step_begin(**given)
    assert source.ends == [(config["key"], "done", "")]


def test_a_pack_hangs_by_the_time_that_all_its_trainings_take(monkeypatch, caplog) -> None:
    """An epoch's seconds are a training's share, and a pack's epochs come at the same moment."""
    hangs, trial = Hangs(monkeypatch, restart=False), Trial("trial-0001+3", "RUNNING")
    hangs.callback._watch._given_s = None
    hangs.callback.on_trial_start(trial=trial)
    for together in (1, 4):
        hangs.callback.on_trial_result(trial=trial, result={"seconds": 30.0, "together": together})
    hangs.step(trial, seconds=10 * 4 * 30 - 1)
    assert caplog.text == ""
    hangs.step(trial, seconds=2)
    assert "trial-0001+3 has reported no epoch for 20 min" in caplog.text


def test_scoring_that_stops_is_reported_once(monkeypatch, caplog) -> None:
    scoring = pytest.importorskip("cryo_hpo.execution.scoring_tasks")
    now = [0.0]
    monkeypatch.setattr(scoring.time, "monotonic", lambda: now[0])
    watch = scoring._ScoringWatch()
    watch._watch._clock = lambda: now[0]
    watch._watch.began(scoring.SCORING)
    for now[0], ended in ((3000.0, 0), (3010.0, 1), (3020.0, 1)):
        watch.note(ended)
    assert caplog.text == ""
    for now[0] in (40_000.0, 50_000.0):
        watch.note(1)
    assert caplog.text.count("No test score has come for") == 1
