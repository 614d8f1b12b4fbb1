"""A budget of hours holds a search and its proof, is spent, and is not exceeded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cryo_hpo.config import SeedLimit, Study
from cryo_hpo.errors import SpecError
from cryo_hpo.execution.executor import TrialResources
from cryo_hpo.monitoring.workload import Workload
from cryo_hpo.search.journal import Journal
from cryo_hpo.search.replay import suggest_of
from cryo_hpo.search.source import SearchSource, winner
from cryo_hpo.study import hours
from cryo_hpo.study.hours import HoursPlan, Purse, divide, keep, open_purse, resolve
from cryo_hpo.study.plan import num_arms

from ..support.pool import Disk, Heard, a_study, peak, simulate

EPOCHS = 9
EPOCH_S = 100.0


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def _study(trainings: float, **changes: Any) -> Study:
    """Return a study with hours for so many full trainings of `EPOCH_S` seconds an epoch."""
    study = a_study(epochs=EPOCHS, **changes)
    assert study.search is not None
    fields = {
        **dict(study),
        "search": study.search.model_copy(update={"trials": None}),
        "budget": {"core_hours": trainings * EPOCHS * EPOCH_S / 3600},
    }
    return Study.model_validate(fields)


PROOFS: dict[str, dict[str, Any]] = {
    "none": {"proof": "none"},
    "quick": {"proof": "quick"},
    "a list": {"seeds": (1, 2, 3, 4, 5, 6)},
    "until decided": {"seeds": {"at_most": 16}},
}


@pytest.mark.parametrize("proof", PROOFS)
@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    more=st.floats(0.5, 30), pace=st.floats(0.7, 1.6), workers=st.sampled_from([1, 3]),
    order=st.integers(0, 9),
)  # fmt: skip
def test_the_hours_hold_search_and_proof_whatever_an_epoch_takes(
    tmp_path_factory, proof, more, pace, workers, order
):
    least = sum(hours.needed_epochs(_study(1, **PROOFS[proof]))) / EPOCHS
    study = _study(least + more, **PROOFS[proof])
    plan = divide(study, epoch_s=EPOCH_S)
    path: Path = tmp_path_factory.mktemp("s")
    keep(plan, path)
    study, disk = resolve(study, plan), Disk()
    epoch_s = pace * EPOCH_S
    purse = Purse(study, plan, 1.0, lambda: (len(disk.trained), epoch_s * len(disk.trained)))
    assert study.search is not None
    source = SearchSource(
        study,
        suggest=suggest_of(study.search),
        journal=Journal(path / "j.log", study="s"),
        folder=path / "trials",
        listener=Heard(),
        budget=purse.budget,
    )
    assert study.budget is not None
    total = study.budget.hours * 3600
    refused = None
    try:
        simulate(source, peak(), disk=disk, workers=workers, order=order)
    except SpecError as error:  # noticed before the first comparison of trials
        refused = str(error)
    if refused:
        assert "are too few" in refused
        assert hours.MARGIN * epoch_s * least * EPOCHS > total - workers * epoch_s
        assert len(disk.trained) <= 1 + workers
        return
    settled = purse.settle(path)
    pairs = len(settled.comparison_seeds)
    proven = hours._least_proof(study) if proof != "until decided" else pairs * 2 * EPOCHS
    assert winner(source.records).state == "complete"
    assert (len(disk.trained) + proven) * epoch_s <= total
    assert proof != "until decided" or 6 <= pairs <= 16


@pytest.mark.parametrize(
    ("trainings", "search", "pairs"), [(13.2, 1.1, 6), (14.5, 2, 6), (20, 2, 9), (40, 8, 16)]
)
def test_a_proof_that_stops_has_fewer_pairs_where_hours_are_few(trainings, search, pairs):
    plan = divide(_study(trainings, seeds={"at_most": 16}), epoch_s=EPOCH_S)
    assert plan.at_most == pairs
    assert search <= plan.search / EPOCHS < search + 2


@pytest.mark.parametrize("proof", PROOFS)
def test_too_few_hours_are_refused_with_the_number_that_is_needed(proof):
    study = _study(1, **PROOFS[proof])
    needed = sum(hours.needed_epochs(study)) * EPOCH_S / 3600
    assert study.budget is not None
    with pytest.raises(SpecError, match="core-hours are too few") as error:
        divide(study, epoch_s=EPOCH_S)
    named = float(str(error.value).partition("take at least ")[2].split()[0])
    assert needed <= named <= needed + 0.01
    enough = study.model_copy(
        update={"budget": study.budget.model_copy(update={"core_hours": needed + 1e-6})}
    )
    assert divide(enough, epoch_s=EPOCH_S).search >= EPOCHS + 1


def test_the_time_left_is_that_of_the_hours_where_epochs_are_slower_than_the_timed_step():
    study = _study(30, seeds=[1, 2, 3, 4, 5, 6])
    plan = divide(study, epoch_s=EPOCH_S)
    done, epoch_s = EPOCHS, 2 * EPOCH_S
    purse = Purse(resolve(study, plan), plan, 1.0, lambda: (done, done * epoch_s))
    work = Workload(((EPOCHS, 1000),), proof=plan.proof, limit=plan.search)
    work.see({"event": "started", "key": "a", "kind": "search", "epochs": EPOCHS})
    work.see({"event": "epoch", "key": "a", "epoch": EPOCHS})
    assert study.budget is not None
    hours_left = study.budget.hours * 3600 - done * epoch_s
    assert work.epochs_left * epoch_s > 1.5 * hours_left, "the timed step promised too much"
    work.limit_search(purse.search_epochs)
    assert 0.9 * hours_left < work.epochs_left * epoch_s <= hours_left


def test_the_number_of_pairs_is_fixed_once(tmp_path):
    study = _study(30, seeds={"at_most": 16})
    plan = divide(study, epoch_s=EPOCH_S)
    keep(plan, tmp_path)
    slow = Purse(resolve(study, plan), plan, 1.0, lambda: (18, 18 * 1.5 * EPOCH_S))
    first = slow.settle(tmp_path)
    assert isinstance(first.seeds, SeedLimit)
    assert first.seeds.at_most < (plan.at_most or 0)
    kept = hours.read_plan(tmp_path / hours.NAME)
    assert kept.settled
    later = Purse(resolve(study, kept), kept, 1.0, lambda: (200, 1e9))
    assert later.settle(tmp_path).seeds == first.seeds
    keep(plan, tmp_path)  # a resumed study does not divide its hours anew
    assert hours.read_plan(tmp_path / hours.NAME) == kept
    (tmp_path / hours.NAME).write_text("{")
    with pytest.raises(SpecError, match="is damaged"):
        hours.read_plan(tmp_path / hours.NAME)


def test_hours_of_a_device_that_trainings_do_not_use_are_refused(tmp_path):
    study = _study(30, resources={"gpus": "auto"})
    keep(divide(study, epoch_s=EPOCH_S), tmp_path)
    records: Any = Heard()
    with pytest.raises(SpecError, match="Use gpu_hours"):
        open_purse(study, tmp_path, records=records, slots=TrialResources(1, 1.0, None))
    purse = open_purse(study, tmp_path, records=records, slots=TrialResources(2, 0.0, None))
    assert purse is not None
    assert purse.per == 2
    assert num_arms(study) == 2
    assert isinstance(hours.read_plan(tmp_path / hours.NAME), HoursPlan)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": {"gpu_hours": 1.0, "core_hours": 1.0}}, "exactly one"),
        ({"budget": {}}, "exactly one"),
        ({"budget": {"gpu_hours": 1.0}, "resources": {"gpus": 0}}, "Use core_hours"),
        ({"budget": {"core_hours": 1.0}, "resources": {"gpus": 1}}, "Use gpu_hours"),
        ({"budget": {"gpu_hours": 0.0}}, "greater than 0"),
        ({"budget": {"gpu_hours": 1.0}, "search": None}, "has no search"),
    ],
)
def test_a_budget_that_can_be_read_two_ways_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        Study.model_validate({**dict(_study(30)), **changes})


def test_a_search_has_one_length():
    fields = {**dict(a_study(epochs=EPOCHS)), "budget": {"core_hours": 1.0}}
    with pytest.raises(ValidationError, match="`search` has its own"):
        Study.model_validate(fields)
