from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import Any, Literal

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from cryo_hpo.config import Recipe, Study
from cryo_hpo.errors import CryoError, SpecError, StorageError
from cryo_hpo.search.jobs import Job
from cryo_hpo.search.journal import Journal
from cryo_hpo.search.rungs import reached, top_fraction
from cryo_hpo.search.source import BASELINE, SearchSource, key, winner
from cryo_hpo.search.trials import Record, ties

from ..support.pool import NAN, Crash, Curves, Disk, Heard, Refused, a_study, peak, simulate

RULES = ("promote", "stop", "none")
each_rule = pytest.mark.parametrize("rule", RULES)
each_pool = pytest.mark.parametrize("workers", [1, 2, 5])
small = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


class Watched(SearchSource):
    """The production source; each promotion is held against the rung it leaves."""

    def next(self) -> Job | Literal["wait"] | None:
        job = super().next()
        if isinstance(job, Job) and job.cleared:
            self.look(job)
        return job

    def look(self, job: Job) -> None:
        ladder, number = self.ladder, int(job.key.split("-")[1])
        assert ladder is not None
        records = {r.number: r for r in self.records}
        curves = {n: r.curve for n, r in records.items()}
        if (
            job.cleared == ladder.epochs
        ):  # the last resort, before anybody but the baseline is whole
            whole = [n for n, r in records.items() if r.state == "complete"]
            assert whole in ([], [BASELINE])
            return
        lost = {n for n, r in records.items() if r.state == "diverged"}
        scores = reached(curves, ladder, job.cleared, diverged=lost)
        assert number in top_fraction(scores, ladder.reduction)
        better = sum(score > scores[number] for score in scores.values())
        assert better < len(scores) / ladder.reduction


def _open(study: Study, folder: Path, heard: Heard) -> Watched:
    assert study.search is not None
    return Watched(
        study,
        suggest=study.search.space.suggest,  # type: ignore[union-attr]
        journal=Journal(folder / "journal.log", study=study.name),
        folder=folder / "trials",
        listener=heard,
    )


def _drive(
    study: Study, folder: Path, curves: Curves, *, heard: Heard | None = None, **pool: Any
) -> Watched:
    source = _open(study, folder, heard or Heard())
    simulate(source, curves, **pool)
    return source


def _optuna(folder: Path) -> list[optuna.trial.FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(folder / "journal.log")))
    return optuna.load_study(study_name="s", storage=storage).get_trials()


def _facts(records: list[Record]) -> list[tuple[Any, ...]]:
    return [(r.number, r.params, r.state, r.curve) for r in records]


@each_rule
@each_pool
@pytest.mark.parametrize("lr", [1e-4, 1.0])  # inside the space, and outside
def test_the_baseline_is_trial_0_and_waits_like_any_other(tmp_path, rule, workers, lr):
    study = a_study(rule)
    study = study.model_copy(update={"base": study.base.replace({"optim.lr": lr})})
    disk, heard = Disk(), Heard()
    source = _drive(study, tmp_path, peak(diverges=2.0), heard=heard, workers=workers, disk=disk)
    baseline = source.records[BASELINE]
    if rule == "promote":
        assert baseline.epochs in (1, 3, 9)
        assert (baseline.state == "complete") == (baseline.epochs == 9)
    else:
        assert (baseline.state, baseline.epochs) == ("complete", 9)
    assert baseline.params == ({"optim.lr": lr} if lr < 0.1 else {})
    assert disk.trained[0][0] == key(BASELINE) or workers > 1
    assert heard.kinds[key(0)] == "baseline"
    assert {kind for k, kind in heard.kinds.items() if k != key(0)} == {"search"}
    assert heard.ends[key(0)] == [baseline.state]


@each_rule
@each_pool
@small
@given(order=st.integers(0, 999), trials=st.integers(1, 14), retries=st.sampled_from([0.0, 0.3]))
def test_the_budget_is_kept_and_every_trial_ends_once(
    tmp_path_factory, rule, workers, order, trials, retries
):
    folder, heard, disk = tmp_path_factory.mktemp("study"), Heard(), Disk()
    source = _drive(
        a_study(rule, trials=trials),
        folder,
        peak(diverges=3e-2),
        heard=heard,
        disk=disk,
        workers=workers,
        order=order,
        retries=retries,
    )
    records = source.records
    assert [r.number for r in records] == list(range(trials))
    assert all(len(ends) == 1 for ends in heard.ends.values())
    assert {key(r.number): [r.state] for r in records} == heard.ends
    assert len(disk.trained) == len(set(disk.trained)) == len(heard.epochs)
    assert sum(len(r.curve) for r in records) == len(disk.trained) <= 9 * trials
    assert [t.state for t in _optuna(folder)].count(TrialState.RUNNING) == 0
    if rule == "none":
        assert all(r.epochs == 9 for r in records if r.state != "diverged")
    whole = [r for r in records if r.state == "complete"]
    assert all(r.epochs == 9 for r in whole)
    assert winner(records) in whole
    could = [r for r in records[1:] if r.state != "diverged"]
    if rule == "promote" and could:
        assert any(r.number != BASELINE for r in whole), (
            "one candidate is always carried to full length"
        )


@each_rule
def test_only_full_length_can_win(rule):
    short = Record(number=1, params={}, state="pruned", curve={1: 0.99})
    lost = Record(number=2, params={}, state="diverged", curve={8: 0.99})
    whole = Record(number=3, params={}, state="complete", curve={9: 0.5})
    twin = Record(number=4, params={}, state="complete", curve={9: 0.5})
    assert winner([short, lost, twin, whole]) is whole
    assert ties([short, lost, twin, whole]) == [4]
    assert ties([short, lost, whole]) == []


@each_rule
@each_pool
def test_the_search_finds_the_peak(tmp_path, rule, workers):
    source = _drive(a_study(rule, trials=16), tmp_path, peak(2e-3), workers=workers)
    source.raise_if_hopeless()
    found = winner(source.records).params["optim.lr"]
    assert 4e-4 < float(found) < 1e-2


@each_pool
def test_promotion_saves_most_of_a_grid(tmp_path, workers):
    disk = Disk()
    _drive(a_study(trials=20, epochs=27), tmp_path, peak(epochs=27), workers=workers, disk=disk)
    assert len(disk.trained) < 0.35 * 20 * 27


@each_rule
@each_pool
def test_optuna_sees_what_became_of_every_trial(tmp_path, rule, workers):
    source = _drive(a_study(rule), tmp_path, peak(diverges=1e-2), workers=workers)
    stored, records = _optuna(tmp_path), source.records
    for trial, record in zip(stored, records, strict=True):
        assert trial.intermediate_values == record.curve
        assert trial.params == record.params
        if record.state == "complete":
            assert (trial.state, trial.value, record.epochs) == (
                TrialState.COMPLETE,
                record.curve[9],
                9,
            )
        elif record.state == "pruned":
            assert trial.state is TrialState.PRUNED
            assert 0 < record.epochs < 9
            assert f"epoch {record.epochs}" in record.message
        else:
            wanted = TrialState.PRUNED if record.curve else TrialState.FAIL
            assert (record.state, trial.state) == ("diverged", wanted)
            assert "Loss became nan" in record.message
    states = {record.state for record in records}
    assert states == {"complete", "diverged"} | ({"pruned"} if rule != "none" else set())


@each_pool
def test_every_decision_at_a_rung_is_written_down_with_its_reason(tmp_path, workers):
    source = _drive(a_study(), tmp_path, peak(diverges=1e-2), workers=workers)
    for record in source.records:
        rungs = [rung for rung in (1, 3) if rung in record.curve]
        assert list(dict.fromkeys(step.rung for step in record.steps)) == rungs
        last = {step.rung: step for step in record.steps}
        for rung, said in last.items():
            left = record.epochs > rung or record.state == "diverged"
            assert (said.decision in ("continued", "promoted")) == left
            if said.decision == "continued":
                assert said.place <= said.of // 3
        if record.state == "pruned":
            assert record.message == str(record.steps[-1])
            assert record.message.startswith(f"pruned at epoch {record.epochs} (")
    stopped = _drive(a_study("stop"), tmp_path / "stop", peak(), workers=workers)
    messages = [r.message for r in stopped.records if r.state == "pruned"]
    assert messages
    assert all(re.fullmatch(r"pruned at epoch [13] \(\d+ of \d+\)", m) for m in messages)


@each_rule
@each_pool
def test_a_diverged_trial_is_not_tried_again_and_never_wins(tmp_path, rule, workers):
    tries: list[float] = []

    def curves(recipe: Recipe) -> list[float]:
        tries.append(recipe.optim.lr)
        return [0.1] * 9 if recipe.optim.lr == 1e-4 else [0.9, NAN]

    heard = Heard()
    source = _drive(a_study(rule, trials=6), tmp_path, curves, heard=heard, workers=workers)
    source.raise_if_hopeless()
    assert winner(source.records).number == BASELINE
    assert [r.state for r in source.records[1:]].count("complete") == 0
    lost = [float(r.params["optim.lr"]) for r in source.records if r.state == "diverged"]
    assert lost
    assert all(tries.count(lr) <= 2 for lr in lost)  # once for each epoch it began


@each_rule
@each_pool
def test_three_refusals_in_a_row_end_the_search(tmp_path, rule, workers):
    def curves(recipe: Recipe) -> list[float]:
        if recipe.optim.lr != 1e-4:
            message = "fake/train/images/7.tif: has 4 bands"
            raise Refused(message)
        return [0.5] * 9

    study = a_study(rule, trials=20)
    source = _drive(study, tmp_path, curves, workers=workers)
    with pytest.raises(CryoError, match=r"3 trials in a row.*7\.tif: has 4 bands.*same command"):
        source.raise_if_hopeless()
    assert len(source.records) <= 2 * 3 + workers  # the baseline may end after two
    # what was wrong is fixed: the refused trials run again, and the others
    again = _drive(study, tmp_path, peak(), workers=workers)
    again.raise_if_hopeless()
    assert len(again.records) == 20
    assert {r.state for r in again.records} <= {"complete", "pruned", "diverged"}
    assert winner(again.records).number != BASELINE


def test_a_refusal_between_others_ends_nothing(tmp_path):
    seen: list[float] = []

    def curves(recipe: Recipe) -> list[float]:
        if recipe.optim.lr not in seen:
            seen.append(recipe.optim.lr)
        if seen.index(recipe.optim.lr) % 3:
            message = "no such file"
            raise Refused(message)
        return [0.5] * 9

    source = _drive(a_study("none"), tmp_path, curves)
    source.raise_if_hopeless()
    assert len(source.records) == 12
    assert [r.state for r in source.records].count("failed") == 8


@each_rule
def test_a_search_without_a_whole_trial_says_why(tmp_path, rule):
    source = _drive(a_study(rule, trials=4), tmp_path, lambda _: [NAN])
    with pytest.raises(CryoError, match=r"none did .trial 0: Loss became nan at epoch 1"):
        source.raise_if_hopeless()


@each_rule
@each_pool
def test_a_full_disk_stops_the_search_and_costs_no_trial(tmp_path, rule, workers):
    study, full = a_study(rule, trials=6), [True]

    def curves(recipe: Recipe) -> list[float]:
        if full[0] and recipe.optim.lr != 1e-4:
            message = "A checkpoint must be writable: no space left"
            raise StorageError(message)
        return peak()(recipe)

    disk = Disk()
    with pytest.raises(StorageError, match="no space left"):
        _drive(study, tmp_path, curves, workers=workers, disk=disk)
    full[0] = False
    source = _drive(study, tmp_path, curves, workers=workers, disk=disk)
    assert [r.number for r in source.records] == list(range(6))
    assert {r.state for r in source.records} <= {"complete", "pruned"}
    if workers == 1:
        through = _drive(study, tmp_path / "through", peak())
        assert _facts(source.records) == _facts(through.records)


@each_rule
def test_a_failed_trial_runs_again_with_the_same_command_until_the_search_is_over(
    tmp_path, rule, caplog
):
    study, heard = a_study(rule, trials=2), Heard()
    source = _open(study, tmp_path, heard)
    job = source.next()
    assert isinstance(job, Job)
    source.ended(job, "crashed", "RuntimeError: no such kernel")
    assert heard.ends == {key(0): ["failed"]}
    assert source.records[0].state == "failed"
    again = _drive(study, tmp_path, peak(), heard=heard)
    assert "trial-0000 failed before, and runs again (RuntimeError: no such kernel)" in caplog.text
    again.raise_if_hopeless()
    assert again.records[0].epochs > 0
    assert heard.ends[key(0)] == ["failed", again.records[0].state]
    assert again.records[0].state != "failed"


def test_a_trial_that_failed_stays_failed_once_the_search_has_a_winner(tmp_path):
    def curves(recipe: Recipe) -> list[float]:
        if recipe.optim.lr != 1e-4:
            message = "no such file"
            raise Refused(message)
        return [0.5] * 9

    study = a_study("none", trials=3)
    source = _drive(study, tmp_path, curves)
    source.raise_if_hopeless()
    assert [t.state for t in _optuna(tmp_path)][1:] == [TrialState.FAIL] * 2
    assert _open(study, tmp_path, Heard()).next() is None


def test_a_search_whose_trials_all_crashed_can_be_repaired(tmp_path):
    study = a_study("none", trials=3)
    source = _open(study, tmp_path, Heard())
    while isinstance(job := source.next(), Job):
        source.ended(job, "crashed", "RuntimeError: driver")
    with pytest.raises(CryoError, match="RuntimeError: driver"):
        source.raise_if_hopeless()
    again = _drive(study, tmp_path, peak())
    again.raise_if_hopeless()
    assert [r.state for r in again.records] == ["complete"] * 3


@pytest.mark.parametrize(
    ("message", "begun"), [("RuntimeError: no kernel image", 3), ("RuntimeError: number {}", 20)]
)
def test_three_trials_that_crash_alike_end_the_search(tmp_path, message, begun):
    source = _open(a_study("none", trials=20), tmp_path, Heard())
    for number in itertools.count():
        job = source.next()
        if not isinstance(job, Job):
            break
        source.ended(job, "crashed", message.format(number))
    assert len(source.records) == begun
    with pytest.raises(CryoError, match="RuntimeError: n"):
        source.raise_if_hopeless()


@pytest.mark.parametrize(
    ("rule", "sampler", "trials"),
    [*((r, s, 9) for r in RULES for s in ("tpe", "random")), ("promote", "gp", 6)],
)
def test_a_seed_gives_the_whole_search(tmp_path, rule, sampler, trials):
    study = a_study(rule, trials=trials, sampler=sampler, seed=4)
    runs = []
    for name in ("one", "two"):
        disk = Disk()
        source = _drive(study, tmp_path / name, peak(diverges=3e-2), disk=disk)
        runs.append((_facts(source.records), disk.trained))
    assert runs[0] == runs[1]
    other = _drive(
        a_study(rule, trials=trials, sampler=sampler, seed=5), tmp_path / "other", peak()
    )
    assert [r.params for r in other.records[1:]] != [facts[1] for facts in runs[0][0][1:]]


def test_a_repeated_epoch_of_a_retry_does_not_call_a_trial_back(tmp_path):
    study, heard = a_study(trials=8), Heard()
    source = _open(study, tmp_path, heard)
    jobs = [source.next() for _ in range(8)]
    for number in range(6):
        source.epoch(jobs[number], {"epoch": 1, "best_val_miou": 0.1})  # type: ignore[arg-type]
    first, second = jobs[6], jobs[7]
    assert isinstance(first, Job)
    assert isinstance(second, Job)
    at_rung = {"epoch": 1, "best_val_miou": 0.5}
    assert source.epoch(first, at_rung)
    for job in (jobs[1], jobs[2]):
        assert isinstance(job, Job)
        source.ended(job, "done", "")
    assert source.epoch(second, {"epoch": 1, "best_val_miou": 0.9})
    assert source.epoch(first, at_rung), "its worker was lost; what was said stands"
    assert list(heard.epochs).count((key(6), 1)) == 1


def test_the_stop_rule_counts_a_trial_once_and_what_it_decided_stands(tmp_path):
    source = _open(a_study("stop", trials=4), tmp_path, Heard())
    jobs = [job for _ in range(4) if isinstance(job := source.next(), Job)]
    at_rung = [{"epoch": 1, "best_val_miou": score} for score in (0.1, 0.5, 0.2, 0.4)]
    assert source.epoch(jobs[0], at_rung[0])
    assert source.epoch(jobs[1], at_rung[1]), "the only one before it is the baseline's"
    assert not source.epoch(jobs[2], at_rung[2])
    assert source.epoch(jobs[1], at_rung[1]), "a lost worker's epoch counts once"
    steps = {r.number: [(s.rung, s.decision) for s in r.steps] for r in source.records}
    assert steps == {0: [(1, "continued")], 1: [(1, "continued")], 2: [(1, "pruned")], 3: []}
    again = _open(a_study("stop", trials=4), tmp_path, Heard())  # the driver died in between
    resumed = [job for _ in range(4) if isinstance(job := again.next(), Job)]
    assert [job.key for job in resumed] == [job.key for job in jobs]
    assert again.epoch(resumed[1], at_rung[1])
    assert not again.epoch(resumed[2], at_rung[2]), "it had been stopped, nothing else was heard"
    again.ended(resumed[2], "done", "")
    assert again.records[2].state == "pruned"
    assert again.records[2].message == "pruned at epoch 1 (2 of 3)"


def test_the_stop_rule_judges_an_epoch_that_a_crash_left_undecided(tmp_path):
    study = a_study("stop", trials=3)
    source = _open(study, tmp_path, Heard())
    jobs = [job for _ in range(3) if isinstance(job := source.next(), Job)]
    source.epoch(jobs[0], {"epoch": 1, "best_val_miou": 0.1})
    source.epoch(jobs[1], {"epoch": 1, "best_val_miou": 0.5})
    Journal(tmp_path / "journal.log", study="s").report(2, 1, 0.2)  # and the driver dies
    again = _open(study, tmp_path, Heard())
    resumed = [job for _ in range(3) if isinstance(job := again.next(), Job)]
    assert not again.epoch(resumed[2], {"epoch": 1, "best_val_miou": 0.2})


def _events(study: Study, folder: Path, workers: int) -> int:
    """Count the events of a search that is not interrupted."""
    low, high = 0, 400
    while low < high:
        middle = (low + high) // 2
        try:
            _drive(study, folder / str(middle), CUT, workers=workers, crash_after=middle)
            high = middle
        except Crash:
            low = middle + 1
    return low


CUT = peak(diverges=2e-2, epochs=4)


@each_rule
@pytest.mark.parametrize(("workers", "stride"), [(1, 1), (2, 5), (5, 5)])
def test_a_crash_at_any_point_changes_nothing(tmp_path, rule, workers, stride):
    study = a_study(rule, trials=7, epochs=4, reduction=2)
    whole, heard = Disk(), Heard()
    through = _drive(study, tmp_path / "through", CUT, workers=workers, disk=whole, heard=heard)
    events = _events(study, tmp_path / "count", workers)
    assert events > 30
    for crash_after in range(0, events, stride):
        folder, disk, listener = tmp_path / str(crash_after), Disk(), Heard()
        disk.scores = {}
        with pytest.raises(Crash):
            _drive(
                study,
                folder,
                CUT,
                workers=workers,
                disk=disk,
                heard=listener,
                crash_after=crash_after,
            )
        source = _drive(study, folder, CUT, workers=workers, disk=disk, heard=listener)
        assert len(source.records) == 7
        assert all(r.state != "running" for r in source.records)
        assert all(trial.state.is_finished() for trial in _optuna(folder))
        assert len(set(disk.trained)) == len(disk.trained) == len(listener.epochs)
        told = {(key(r.number), epoch) for r in source.records for epoch in r.curve}
        assert told == set(disk.trained) == set(listener.epochs)
        if workers == 1:
            assert _facts(source.records) == _facts(through.records), crash_after
            assert disk.trained == whole.trained, crash_after


@each_rule
@pytest.mark.parametrize("crash_after", [5, 17, 29])
def test_a_torn_line_of_the_journal_is_dropped(tmp_path, rule, crash_after):
    study = a_study(rule, trials=7, epochs=4, reduction=2)
    through = _drive(study, tmp_path / "through", CUT)
    folder, disk = tmp_path / "torn", Disk()
    with pytest.raises(Crash):
        _drive(study, folder, CUT, disk=disk, crash_after=crash_after)
    with (folder / "journal.log").open("ab") as file:
        file.write(b'{"op_code":7,"worker_id":"3')
    source = _drive(study, folder, CUT, disk=disk)
    assert _facts(source.records) == _facts(through.records)
    assert _facts(_open(study, folder, Heard()).records) == _facts(through.records)


def test_a_point_that_no_recipe_takes_is_refused_before_it_is_written_down(tmp_path):
    study = a_study(trials=3)
    source = SearchSource(
        study,
        suggest=lambda trial: {"optim.lr": -trial.suggest_float("optim.lr", 0.1, 1.0)},
        journal=Journal(tmp_path / "journal.log", study="s"),
        folder=tmp_path,
        listener=Heard(),
    )
    source.next()
    with pytest.raises(SpecError, match=r"optim\.lr"):
        source.next()
    assert len(_optuna(tmp_path)) == 1
