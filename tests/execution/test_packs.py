"""Trainings in packs: each ends once, stops at its rungs, and loses nothing to the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryo_hpo.config import Recipe, Site, Study
from cryo_hpo.errors import StorageError
from cryo_hpo.execution.attempts import CRASHES, Attempts
from cryo_hpo.execution.executor import TrialResources
from cryo_hpo.execution.inline import InlineExecutor
from cryo_hpo.execution.packs import AHEAD, Pack, Packs
from cryo_hpo.search.confirm import Arm, ConfirmSource
from cryo_hpo.search.jobs import MESSAGE, OUTCOME, Job, Outcome
from cryo_hpo.search.journal import Journal
from cryo_hpo.search.source import SearchSource

from ..support.packing import Replay, run_packs
from ..support.pool import NAN, Crash, Curves, Heard, Refused, a_study, peak

SITE = Site.from_env({})
EPOCHS, RUNGS = 9, (1, 3)
BASE = a_study(epochs=EPOCHS).base
RECIPE, OTHER = BASE.model_dump_json(), BASE.replace({"seed": 7}).model_dump_json()
FROZEN = {"model.encoder": "dinov2-s", "model.tune": "frozen"}
small = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


def _job(key: str, **fields: Any) -> Job:
    given = {"recipe": RECIPE, "workdir": f"/{key}", "keep_best": False, "decisions": RUNGS}
    return Job(key, **{**given, **fields})


class Given:
    """A source of given jobs that notes what it is told; `passes` decides at rungs."""

    def __init__(self, *jobs: Job, passes: Callable[[str, int], bool] = lambda *_: True) -> None:
        self.left, self.passes = list(jobs), passes
        self.at_work: set[str] = set()
        self.epochs: list[tuple[str, int]] = []
        self.ends: list[tuple[str, Outcome, str]] = []

    def next(self) -> Job | Literal["wait"] | None:
        if not self.left:
            return "wait" if self.at_work else None
        self.at_work.add(self.left[0].key)
        return self.left.pop(0)

    def epoch(self, job: Job, metrics: Mapping[str, float]) -> bool:
        epoch = int(metrics["epoch"])
        self.epochs.append((job.key, epoch))
        return epoch not in RUNGS or epoch <= job.cleared or self.passes(job.key, epoch)

    def ended(self, job: Job, outcome: Outcome, message: str) -> None:
        self.at_work.remove(job.key)
        self.ends.append((job.key, outcome, message))
        if outcome == "unwritable":
            raise StorageError(message)


def _packs(source: Any, most: int = 3) -> Packs:
    return Packs(Attempts(source), most=most, share=lambda recipe: str(recipe.seed))


def _take(packs: Packs) -> Pack:
    pack = packs.next()
    assert isinstance(pack, Pack)
    return pack


def _keys(pack: Pack) -> str:
    return " ".join(job.key for job in pack.jobs)


def _handed_out(source: Given, most: int = 3) -> list[str]:
    """Return the packs of a source none of whose jobs reports."""
    packs = _packs(source, most)
    names = []
    while isinstance(pack := packs.next(), Pack):
        names.append(_keys(pack))
    return names


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        ([_job(k) for k in "abcd"], ["a b c", "d"]),
        ([_job("a"), _job("b", recipe=OTHER), _job("c"), _job("d", recipe=OTHER)], ["a c", "b d"]),
        ([_job("a"), _job("b", recorded=1, cleared=1), _job("c")], ["a c", "b"]),
        ([_job("a"), _job("b", cleared=EPOCHS), _job("c")], ["a c", "b"]),
        ([_job("a", decisions=()), _job("b"), _job("c", decisions=())], ["a c", "b"]),
        ([_job("a", recorded=1), _job("b", recorded=1)], ["a", "b"]),
        ([_job("a", recorded=2), _job("b", recorded=2)], ["a b"]),
    ],
    ids=["alike", "other seed", "other epoch", "other stop", "no rungs", "undecided", "between"],
)
def test_jobs_that_share_epoch_and_stop_are_packed_oldest_first(jobs, expected) -> None:
    assert _handed_out(Given(*jobs)) == expected


def test_a_pack_of_one_takes_no_job_ahead_and_reads_no_recipe() -> None:
    source = Given(*(_job(k, recipe="not a recipe") for k in "ab"))
    packs = _packs(source, most=1)
    assert (_keys(_take(packs)), len(source.left)) == ("a", 1)
    assert (_keys(_take(packs)), packs.next()) == ("b", "wait")


def test_no_more_than_two_packs_are_taken_to_find_jobs_that_fit() -> None:
    source = Given(_job("a"), *(_job(str(n), recipe=OTHER) for n in range(20)))
    packs = _packs(source)
    assert (_keys(_take(packs)), len(source.left)) == ("a", 21 - AHEAD * 3)
    assert _keys(_take(packs)) == "0 1 2", "jobs that were held back are next"


def test_recipes_that_share_nothing_are_trained_alone() -> None:
    packs = Packs(Attempts(Given(_job("a"), _job("b"))), most=3, share=lambda _: None)
    assert [_keys(_take(packs)), _keys(_take(packs))] == ["a", "b"]


def _report(packs: Packs, pack: Pack, epoch: int, *keys: str) -> bool:
    return [packs.report(pack, key, {"epoch": epoch}) for key in keys][-1]


def test_those_that_pass_a_rung_go_on_together_and_the_others_end() -> None:
    source = Given(*map(_job, "abc"), passes=lambda key, _: key != "b")
    packs = _packs(source)
    pack = _take(packs)
    assert not _report(packs, pack, 1, *"abc")
    assert source.ends == [], "its worker has not left the folders yet"
    packs.ended(pack, "done", "")
    assert source.ends == [("b", "done", "")]
    pack = _take(packs)
    assert [(j.key, j.cleared, j.recorded) for j in pack.jobs] == [("a", 1, 1), ("c", 1, 1)]
    assert _report(packs, pack, 2, *"ac")
    assert not _report(packs, pack, 3, *"ac")
    packs.ended(pack, "done", "")
    last = _take(packs)
    for epoch in range(4, EPOCHS + 1):
        _report(packs, last, epoch, *"ac")
    packs.ended(last, "done", "")
    assert source.ends == [(key, "done", "") for key in "bac"]
    assert packs.next() is None


def test_one_training_passes_rungs_without_a_new_start() -> None:
    source = Given(_job("a"), passes=lambda _, epoch: epoch == 1)
    packs = _packs(source)
    pack = _take(packs)
    assert [_report(packs, pack, epoch, "a") for epoch in (1, 2, 3)] == [True, True, False]
    packs.ended(pack, "done", "")
    assert (source.ends, packs.next()) == ([("a", "done", "")], None)


def _end(packs: Packs, pack: Pack, key: str, outcome: Outcome) -> bool:
    return packs.report(pack, key, {OUTCOME: outcome, MESSAGE: "why"})


def test_a_training_that_diverges_ends_at_once_and_the_others_go_on() -> None:
    source = Given(*map(_job, "abc"))
    packs = _packs(source)
    pack = _take(packs)
    assert _end(packs, pack, "b", "diverged")
    assert source.ends == [("b", "diverged", "why")]
    assert not _report(packs, pack, 1, *"ac")
    packs.ended(pack, "done", "")
    assert _keys(_take(packs)) == "a c"
    assert source.ends == [("b", "diverged", "why")], "it ends once"


def test_a_disk_that_is_full_stops_the_study_at_once() -> None:
    source = Given(*map(_job, "ab"))
    packs = _packs(source)
    pack = _take(packs)
    with pytest.raises(StorageError, match="why"):
        _end(packs, pack, "a", "unwritable")


@pytest.mark.parametrize("outcome", ["refused", "crashed"])
def test_what_fails_in_a_pack_is_tried_alone_before_it_is_an_outcome(outcome: Outcome) -> None:
    """It may have been too much only together with the others."""
    source = Given(*map(_job, "abc"))
    packs = _packs(source)
    pack = _take(packs)
    assert _end(packs, pack, "b", outcome)
    _report(packs, pack, 1, *"ac")
    packs.ended(pack, "done", "")
    assert source.ends == []
    assert _keys(_take(packs)) == "a c"
    alone = _take(packs)
    assert _keys(alone) == "b"
    assert not _end(packs, alone, "b", outcome)
    packs.ended(alone, "done", "")
    assert source.ends == ([("b", "refused", "why")] if outcome == "refused" else [])


def test_a_pack_that_crashes_as_a_whole_is_trained_one_by_one() -> None:
    source = Given(*map(_job, "ab"))
    packs = _packs(source)
    packs.ended(_take(packs), "crashed", "RuntimeError: at once")
    for _ in range(CRASHES - 1):
        pair = [_take(packs), _take(packs)]
        assert sorted(map(_keys, pair)) == ["a", "b"]
        for pack in pair:
            packs.ended(pack, "crashed", "RuntimeError: alone")
    assert source.ends == [(key, "crashed", "RuntimeError: alone") for key in "ab"]


def test_a_lost_worker_starts_all_its_unfinished_trainings_again() -> None:
    source = Given(*map(_job, "abc"), passes=lambda key, _: key == "b")
    packs = _packs(source)
    pack = _take(packs)
    _report(packs, pack, 1, *"ab")
    packs.ended(pack, "died", "killed")
    assert source.ends == [("a", "done", "")], "it had stopped at its rung"
    assert _keys(_take(packs)) == "b"
    again = _take(packs)
    assert _keys(again) == "c"
    packs.ended(again, "died", "killed")
    assert (_keys(_take(packs)), source.ends) == ("c", [("a", "done", "")])


def test_trainings_whose_worker_dies_twice_are_trained_alone() -> None:
    """Their memory may be what it dies of."""
    packs = _packs(Given(*map(_job, "ab")))
    for expected in ("a b", "a b", "a", "b"):
        pack = _take(packs)
        assert _keys(pack) == expected
        if not pack.is_single:
            packs.ended(pack, "died", "killed")


def test_a_pack_that_ends_without_a_word_on_a_training_is_a_crash_of_it() -> None:
    source = Given(*map(_job, "ab"))
    packs = _packs(source)
    pack = _take(packs)
    _report(packs, pack, 1, "a")
    packs.ended(pack, "done", "")
    assert {_keys(_take(packs)), _keys(_take(packs))} == {"a", "b"}
    assert source.ends == []


def test_a_job_that_may_come_back_keeps_the_queue_open() -> None:
    """A source need not count jobs at work."""

    class Forgetful(Given):
        def next(self) -> Job | Literal["wait"] | None:
            return self.left.pop(0) if self.left else None

        def ended(self, job: Job, outcome: Outcome, message: str) -> None:
            self.ends.append((job.key, outcome, message))

    packs = _packs(Forgetful(*map(_job, "ab")))
    pack = _take(packs)
    assert packs.next() == "wait"
    _report(packs, pack, 1, *"ab")
    packs.ended(pack, "done", "")
    assert _keys(_take(packs)) == "a b"


def _search(study: Study, folder: Any, heard: Heard) -> SearchSource:
    assert study.search is not None
    return SearchSource(
        study,
        suggest=study.search.space.suggest,  # type: ignore[union-attr]
        journal=Journal(folder / "journal.log", study=study.name),
        folder=folder / "trials",
        listener=heard,
    )


def _epochs(heard: Heard) -> dict[str, list[int]]:
    keys = sorted({key for key, _ in heard.epochs})
    return {key: [epoch for k, epoch in heard.epochs if k == key] for key in keys}


@small
@given(
    most=st.integers(2, 6),
    workers=st.integers(1, 3),
    order=st.integers(0, 999),
    deaths=st.sampled_from([0.0, 0.2]),
    trials=st.integers(1, 14),
)
def test_without_rungs_a_search_in_packs_trains_what_it_trains_alone(
    tmp_path_factory, most, workers, order, deaths, trials
) -> None:
    """Random proposals depend on no result, so the trials are the same."""
    study, curves = a_study("none", trials=trials, sampler="random"), peak(diverges=0.01)
    whole: dict[int, Heard] = {}
    for size in (1, most):
        folder, whole[size] = tmp_path_factory.mktemp("search"), Heard()
        pool = {"workers": workers, "order": order, "deaths": deaths} if size > 1 else {}
        source = _search(study, folder, whole[size])
        run_packs(source, replay := Replay(curves), most=size, **pool)
        assert len(replay.disk.trained) == len(set(replay.disk.trained)), "none is trained twice"
        assert max(map(len, replay.starts)) <= size
    assert whole[1].epochs == whole[most].epochs
    assert whole[1].ends == whole[most].ends
    assert all(len(ends) == 1 for ends in whole[most].ends.values())


@small
@given(
    rule=st.sampled_from(["promote", "stop"]),
    most=st.integers(2, 6),
    workers=st.integers(1, 3),
    order=st.integers(0, 999),
    deaths=st.sampled_from([0.0, 0.2]),
    crash_after=st.none() | st.integers(0, 60),
)
def test_with_rungs_every_trial_ends_once_and_loses_no_epoch(
    tmp_path_factory, rule, most, workers, order, deaths, crash_after
) -> None:
    study, curves = a_study(rule, trials=14), peak(diverges=0.01)
    folder, heard, replay = tmp_path_factory.mktemp("search"), Heard(), Replay(curves)
    pool, before = {"most": most, "workers": workers, "order": order}, 0
    try:
        run_packs(
            _search(study, folder, heard), replay, crash_after=crash_after, deaths=deaths, **pool
        )
    except Crash:  # the driver is killed in the middle of packs
        before = len(replay.disk.trained)
        run_packs(source := _search(study, folder, heard), replay, **pool)
        source.raise_if_hopeless()
    trained = replay.disk.trained
    assert len(trained) == len(set(trained)), "none is trained twice"
    # A trial at a rung that a killed driver had let pass is paused, packed or not: what it trained
    # and had not reported stays on the disk until it is promoted.
    assert set(trained[before:]) <= set(heard.epochs) <= set(trained)
    for key, epochs in _epochs(heard).items():
        assert epochs == list(range(1, len(epochs) + 1)), "in order, and none is left out"
        state = heard.ends[key][-1]
        assert state == "diverged" or len(epochs) in (1, 3, EPOCHS)
    assert all(len(ends) == 1 for ends in heard.ends.values())
    assert len(heard.ends) == 14


@pytest.mark.parametrize("most", [1, 4])
def test_an_inline_search_in_packs_reaches_a_winner(tmp_path, most: int) -> None:
    study = a_study("promote", trials=12)
    study = study.model_copy(update={"base": study.base.replace(FROZEN)})
    heard, replay = Heard(), Replay(peak(diverges=0.01))
    slots = TrialResources(1, 0.0, None, pack=most)
    source = _search(study, tmp_path, heard)
    InlineExecutor(replay.train, replay.train_pack).run(source, site=SITE, slots=slots)
    assert "complete" in {record.state for record in source.records}
    assert all(len(ends) == 1 for ends in heard.ends.values())
    sizes = {len(start) for start in replay.starts}
    assert max(sizes) == most


@pytest.mark.parametrize("workers", [1, 2])
def test_a_pair_of_one_seed_is_one_pack(tmp_path, workers: int) -> None:
    arms = [
        Arm("baseline", BASE, (1, 2, 3)),
        Arm("tuned", BASE.replace({"optim.lr": 1e-3}), (1, 2, 3)),
    ]
    heard, replay = Heard(), Replay(peak(epochs=EPOCHS))
    source = ConfirmSource(arms, folder=tmp_path, listener=heard)
    run_packs(source, replay, most=4, workers=workers)
    source.raise_if_lost()
    assert sorted(replay.starts) == [(f"baseline-seed{s}", f"tuned-seed{s}") for s in (1, 2, 3)]
    assert _epochs(heard) == {
        f"{a.name}-seed{s}": list(range(1, 10)) for a in arms for s in (1, 2, 3)
    }


def test_a_comparison_that_is_killed_in_the_middle_of_a_pack_resumes(tmp_path) -> None:
    arms = [Arm("baseline", BASE, (1, 2)), Arm("tuned", BASE.replace({"optim.lr": 1e-3}), (1, 2))]
    for crash_after in range(1, 36, 5):
        folder, heard, replay = tmp_path / str(crash_after), Heard(), Replay(peak(epochs=EPOCHS))
        with pytest.raises(Crash):
            run_packs(
                ConfirmSource(arms, folder=folder, listener=heard),
                replay,
                most=2,
                crash_after=crash_after,
            )
        run_packs(ConfirmSource(arms, folder=folder, listener=heard), replay, most=2)
        assert set(map(tuple, _epochs(heard).values())) == {tuple(range(1, EPOCHS + 1))}
        assert len(replay.disk.trained) == len(set(replay.disk.trained)) == 4 * EPOCHS
        assert {key: ends[-1] for key, ends in heard.ends.items()} == {
            f"{arm.name}-seed{seed}": "complete" for arm in arms for seed in arm.seeds
        }


def _failing(kinds: Mapping[float, Any]) -> Curves:
    """Return curves in which given learning rates fail in their second epoch."""
    curve = peak(epochs=EPOCHS)

    def curves(recipe: Recipe) -> list[float]:
        if kinds.get(recipe.optim.lr) is Refused:
            message = "too large"
            raise Refused(message)
        return [0.1, NAN] if recipe.optim.lr in kinds else curve(recipe)

    return curves


def test_trainings_that_fail_leave_the_others_of_their_pack_alone(tmp_path) -> None:
    rates = {"fine": 1e-3, "high": 1.0, "large": 2.0}
    arms = [Arm(name, BASE.replace({"optim.lr": lr}), (1,)) for name, lr in rates.items()]
    heard, replay = Heard(), Replay(_failing({1.0: NAN, 2.0: Refused}))
    source = ConfirmSource(arms, folder=tmp_path, listener=heard)
    run_packs(source, replay, most=4)
    states = {key.partition("-")[0]: ends for key, ends in heard.ends.items()}
    assert states == {"fine": ["complete"], "high": ["diverged"], "large": ["failed"]}
    assert replay.starts == [("fine-seed1", "high-seed1", "large-seed1"), ("large-seed1",)]
