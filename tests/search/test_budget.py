"""A search with a budget spends at most that, and ends with a winner of full length."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cryo_hpo.config import Study
from cryo_hpo.search.budget import count_epochs, expect_rungs, fix_trials, limit_of, most_trials
from cryo_hpo.search.source import SearchSource, winner

from ..support.pool import NAN, Crash, Disk, Heard, a_study, peak, simulate
from .test_source import _open

EPOCHS = 9
small = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


def _study(budget: float, rule: str = "promote", **changes: Any) -> Study:
    study = a_study(rule, epochs=EPOCHS, **changes)
    assert study.search is not None
    search = study.search.model_copy(update={"trials": None, "budget": budget})
    return Study.model_validate({**dict(study), "search": search})


def _drive(study: Study, folder: Path, curves: Any = None, **pool: Any) -> SearchSource:
    source = _open(study, folder, Heard())
    simulate(source, curves or peak(), **pool)
    return source


@pytest.mark.parametrize("rule", ["promote", "stop", "none"])
@small
@given(
    tenths=st.integers(20, 60),
    workers=st.sampled_from([1, 2, 5]),
    order=st.integers(0, 99),
    retries=st.sampled_from([0.0, 0.3]),
)
def test_a_budget_is_kept_and_somebody_wins(
    tmp_path_factory, rule, tenths, workers, order, retries
):
    disk, budget = Disk(), tenths / 10
    pool: dict[str, Any] = {"workers": workers, "order": order, "retries": retries}
    source = _drive(_study(budget, rule), tmp_path_factory.mktemp("s"), disk=disk, **pool)
    assert len(disk.trained) <= limit_of(budget, EPOCHS)
    assert len(source.records) >= 2
    assert winner(source.records).epochs == EPOCHS
    assert {r.state for r in source.records} <= {"complete", "pruned"}
    left = limit_of(budget, EPOCHS) - len(disk.trained)
    assert left < EPOCHS, "another trial would have fitted"


@small
@given(tenths=st.integers(20, 60), workers=st.sampled_from([1, 3]), order=st.integers(0, 99))
def test_trials_that_diverge_on_the_way_do_not_break_a_budget(
    tmp_path_factory, tenths, workers, order
):
    """Rates above 1e-3 diverge at their first to third epoch, before any of them leads."""
    curves = peak(diverges=1e-3)
    disk, study = Disk(), _study(tenths / 10)
    source = _drive(
        study, tmp_path_factory.mktemp("s"), curves, disk=disk, workers=workers, order=order
    )
    assert len(disk.trained) <= limit_of(tenths / 10, EPOCHS)
    assert winner(source.records).state == "complete"


def test_a_leader_that_diverges_at_the_end_is_replaced_beyond_the_budget(tmp_path):
    """Without a complete trial there is no winner, and all that was spent would be lost."""

    def curves(recipe: Any) -> list[float]:
        scores = peak()(recipe)
        return scores if recipe.optim.lr == 1e-4 else [*scores[:5], NAN]

    source = _drive(_study(1.5), tmp_path, curves)
    assert winner(source.records).params == {"optim.lr": 1e-4}


@pytest.mark.parametrize("workers", [1, 3])
def test_a_crash_spends_nothing_twice_and_keeps_the_budget(tmp_path, workers):
    for crash_after in range(0, 60, 3):
        folder, disk = tmp_path / str(crash_after), Disk()
        with contextlib.suppress(Crash):
            _drive(_study(2), folder, disk=disk, workers=workers, crash_after=crash_after)
        source = _drive(_study(2), folder, disk=disk, workers=workers)
        assert len(disk.trained) == len(set(disk.trained)) <= 18
        assert winner(source.records).epochs == EPOCHS


def test_more_budget_is_more_trials(tmp_path):
    tried = [
        len(_drive(_study(budget), tmp_path / str(budget)).records) for budget in (1.5, 2, 3, 5)
    ]
    assert tried == sorted(set(tried)), tried


@pytest.mark.parametrize(
    ("budget", "epochs", "grace", "rungs"),
    [
        (2, 27, 3, ((3, 8), (9, 2), (27, 1))),
        (1.34, 27, 9, ((9, 2), (27, 1))),
        (2, 9, 3, ((3, 4), (9, 1))),
        (2, 2, 3, ((2, 2),)),  # shorter than the first rung: no trial pauses
    ],
)
def test_a_budget_plans_its_trials(budget, epochs, grace, rungs):
    study = _study(4)
    assert study.search is not None
    rule = {"scheduler": study.search.scheduler.model_copy(update={"grace_epochs": grace})}
    search = study.search.model_copy(update={"budget": budget, **rule})
    assert expect_rungs(search, epochs) == rungs
    assert count_epochs(rungs) <= limit_of(budget, epochs)
    fixed = fix_trials(search, epochs)
    assert fixed.trials == rungs[0][1] <= most_trials(search, epochs)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"trials": 3, "budget": 2.0}, "3 trials and a budget of 2 trainings"),
        ({}, "Required key is missing"),
        ({"budget": 1.05}, "two of them and a winner of full length cost 1.11"),
        ({"budget": 0.5}, "greater than or equal to 1"),
        ({"budget": 1.5, "scheduler": {"kind": "none"}}, "cost 2"),
        ({"budget": 1.5, "scheduler": {"kind": "asha", "rule": "stop"}}, "cost 2"),
    ],
)
def test_a_budget_that_can_be_read_two_ways_or_compares_nothing_is_refused(search, message):
    raw = a_study(epochs=EPOCHS).model_dump()
    raw["search"] = {**{k: v for k, v in raw["search"].items() if k != "trials"}, **search}
    with pytest.raises(ValidationError, match=message):
        Study.model_validate(raw)
