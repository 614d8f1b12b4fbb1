"""A search that starts at a calibrated default: what it trains, when it does not, and where it is from."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from benchmarks.known import calibrated, default_rate
from benchmarks.ours import MemoryJournal, Ours, study_of
from benchmarks.simulate import Event, Table, lr_tables, play
from benchmarks.starts import RECORDINGS
from cryo_hpo.config import DefineByRun, Search, Study
from cryo_hpo.config.start import kind_of
from cryo_hpo.results.portfolio import Lesson, Portfolio
from cryo_hpo.search.budget import count_epochs, expect_rungs, fix_trials
from cryo_hpo.search.calibrated import NEIGHBORS, calibrated_of, calibrated_start
from cryo_hpo.search.journal import Journal
from cryo_hpo.search.known_start import KnownStart
from cryo_hpo.search.portfolio import LEAST_LEAD, shipped_portfolio

DEFAULT, THIRD, TRIPLE = RATES = (3e-3, 1e-3, 9e-3)
START = KnownStart(
    points=tuple({"optim.lr": rate} for rate in RATES), goes_on=True, rung=3, lead=0.02
)


def _table(best: float = 1e-3, *, width: float = 1.0) -> Table:
    """Curves that rise to a score which falls with the distance from the best rate."""
    lr = np.geomspace(1e-6, 1e-1, 31)
    final = 0.9 - 0.3 * np.abs(np.log10(lr / best)) / width
    val = np.clip(final[:, None], 0, 1) * (1 - np.exp(-np.arange(1, 28) / 5))
    return Table("t", lr, val, np.clip(final, 0, 1), 1e-6, 1e-1, 0.9, near=1, again=True)


def _lost(table: Table, low: float, high: float, *, epoch: int) -> Table:
    """The same table, but rates between two ones diverge in an epoch."""
    inside = (table.lr > low) & (table.lr < high)
    table.val[inside, epoch - 1 :] = np.nan
    table.test[inside] = 0
    return table


def _played(
    table: Table, start: KnownStart = START, *, workers: int = 2, **search: Any
) -> tuple[Ours, list[Event]]:
    ours = Ours(study_of(table, 0, **{"trials": 8, **search}), start=start)
    return ours, play(ours, table.world(0), workers=workers)


def _rates(ours: Ours) -> list[Any]:
    return [record.params["optim.lr"] for record in ours.source.records]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_default_that_leads_and_its_neighbors_train_to_the_end_and_the_even_sequence_follows(
    workers,
):
    ours, events = _played(_table(), workers=workers)
    even, _ = _played(_table(), KnownStart())
    assert _rates(ours)[1:4] == list(RATES)
    assert _rates(ours)[4:8] == _rates(even)[1:5]
    assert len(ours.source.records) == 8
    assert [r.state for r in ours.source.records[1:4]] == ["complete"] * 3
    assert {e.trial for e in events if e.epoch == 27} >= {1, 2, 3}


def test_with_one_worker_the_default_is_complete_before_anything_else_goes_on():
    _, events = _played(_table(), workers=1)
    ends = [event.trial for event in events if event.epoch == 27]
    assert ends[:3] == [1, 2, 3]
    (cost,) = (event.cost for event in events if (event.trial, event.epoch) == (1, 27))
    assert cost == 4 * 3 + 24  # four trials to the first rung, and the rest of one


def test_a_default_that_does_not_lead_is_one_of_the_trials_of_an_even_search():
    table = _table(1e-5)
    ours, _ = _played(table)
    even, _ = _played(table, KnownStart())
    assert _rates(ours)[4:8] == _rates(even)[1:5]
    assert not any(r.state == "complete" for r in ours.source.records[1:4])
    assert any(r.state == "complete" for r in ours.source.records)
    trusted, _ = _played(table, START.model_copy(update={"lead": None}))
    assert trusted.source.records[1].state == "complete"


def test_a_lead_below_the_least_one_is_none():
    table = _table(3e-3, width=100)  # 0.3 and 0.0 hundredths of a point apart
    less = START.model_copy(update={"lead": 0.0})
    for start, whole in ((START, False), (less, True)):
        states = {r.state for r in _played(table, start)[0].source.records[1:4]}
        assert (states == {"complete"}) == whole


def test_a_neighbor_that_diverges_early_does_not_keep_the_others_from_the_end():
    ours, _ = _played(_lost(_table(), 5e-3, 1, epoch=2))
    states = [r.state for r in ours.source.records[:4]]
    assert states[1:] == ["complete", "complete", "diverged"]


@pytest.mark.parametrize("epoch", [2, 10])
def test_a_default_that_diverges_leaves_a_search_that_goes_on(epoch):
    ours, _ = _played(_lost(_table(), 2e-3, 4e-3, epoch=epoch))
    assert ours.source.records[1].state == "diverged"
    assert len(ours.source.records) == 8
    assert any(r.state == "complete" for r in ours.source.records)


@pytest.mark.parametrize("cut", [2, 5, 12, 14, 20, 33, 60, 90])
@pytest.mark.parametrize("best", [1e-3, 1e-5])
def test_an_interrupted_start_resumes_to_the_same_trace(tmp_path, best, cut):
    table, study = _table(best), study_of(_table(best), 0, trials=7)
    through = play(Ours(study, MemoryJournal(), start=START), table.world(0), workers=1)
    world, file = table.world(0), tmp_path / "journal.log"
    first = play(Ours(study, Journal(file, study="s"), start=START), world, workers=1, cost=cut)
    rest = play(Ours(study, Journal(file, study="s"), start=START), world, workers=1)
    assert first + [Event(e.cost + len(first), *e[1:]) for e in rest] == through


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("budget", [1.2, 1.5, 2, 2.25, 3.25, 4])
@pytest.mark.parametrize("best", [1e-3, 1e-5, 1e-1])
def test_a_budget_holds_and_leaves_a_winner(best, budget, workers):
    table = _table(best)
    ours, events = _played(table, workers=workers, trials=None, budget=budget)
    assert len(events) <= budget * 27
    assert any(r.state == "complete" for r in ours.source.records)


@pytest.mark.parametrize(("budget", "whole"), [(1.5, 1), (2.25, 2), (3.25, 3)])
def test_a_budget_trains_the_default_first_and_as_many_neighbors_as_it_holds(budget, whole):
    ours, _ = _played(_table(), trials=None, budget=budget)
    complete = [r.number for r in ours.source.records if r.state == "complete"]
    assert complete == list(range(1, whole + 1))


@pytest.mark.parametrize("trials", [1, 2, 3, 4])
def test_a_search_too_short_for_all_points_trains_those_that_it_has(trials):
    ours, _ = _played(_table(), trials=trials)
    states = [r.state for r in ours.source.records]
    assert len(states) == trials
    assert states[1:] == ["complete"] * (trials - 1)
    assert "complete" in states


def _lesson(problem: str, rate: float = 3e-3, **more: Any) -> Lesson:
    fields = {
        "problem": problem, "encoder": "unet", "regime": "full", "schedule": "multistep",
        "loss": "ce", "epochs": 27, "best": {"optim.lr": rate}, "trainings": 9, "source": "test",
        **more,
    }  # fmt: skip
    return Lesson.model_validate_json(json.dumps(fields))


def _portfolio(*rates: float, **more: Any) -> Portfolio:
    return Portfolio(lessons=tuple(_lesson(f"p{i}", r, **more) for i, r in enumerate(rates)))


def _study(params: dict[str, Any] | None = None, **search: Any) -> Study:
    raw = json.loads(study_of(_table(), 0, **search).model_dump_json())
    raw["search"]["space"]["params"] |= params or {}
    return Study.model_validate_json(json.dumps(raw))


def _low_high(low: float, high: float) -> dict[str, Any]:
    return {"optim.lr": {"kind": "float", "low": low, "high": high, "log": True}}


def test_the_default_is_the_mean_of_the_best_rates_and_its_neighbors_a_third_and_three_times_of_it():
    start = calibrated_start(_portfolio(1e-3, 3e-3, 9e-3), _study(), (3, 9))
    assert [p["optim.lr"] for p in start.points] == pytest.approx([3e-3, 1e-3, 9e-3], rel=1e-3)
    assert (start.rung, start.lead, start.goes_on) == (3, LEAST_LEAD, True)
    assert start.problems == ("p0", "p1", "p2")
    assert NEIGHBORS[0] < 1, "the lower one first: it is less likely to diverge"


def test_a_neighbor_outside_of_the_space_is_left_out_and_a_default_outside_is_no_start():
    portfolio = _portfolio(3e-3, 3e-3, 3e-3)
    low = calibrated_start(portfolio, _study(_low_high(1e-5, 5e-3)), (3, 9))
    assert [p["optim.lr"] for p in low.points] == [3e-3, 1e-3]
    out = calibrated_start(portfolio, _study(_low_high(1e-5, 2e-3)), (3, 9))
    assert not out.points
    assert "the calibrated default, 0.003, lies outside the range of optim.lr" in out.reason


@pytest.mark.parametrize(
    ("portfolio", "rungs", "reason"),
    [
        (_portfolio(3e-3, 3e-3), (3, 9), "fewer than 3"),
        (_portfolio(3e-3, 3e-3, 3e-3, regime="frozen"), (3, 9), "tune: full"),
        (_portfolio(3e-3, 3e-3, 3e-3, optimizer="sgd"), (3, 9), "trained with adamw"),
        (_portfolio(3e-3, 3e-3, 3e-3), (20,), "no rung"),
    ],
)
def test_a_portfolio_that_does_not_apply_says_why_and_the_search_is_the_even_one(
    portfolio, rungs, reason
):
    start = calibrated_start(portfolio, _study(), rungs)
    assert not start.points
    assert reason in start.reason
    for length in ({"trials": 8}, {"trials": None, "budget": 3}):
        assert _played(_table(), start, **length)[1] == _played(_table(), KnownStart(), **length)[1]


def test_the_other_parameters_have_the_studys_own_values_where_the_space_holds_them():
    params = {
        "optim.weight_decay": {"kind": "float", "low": 1e-3, "high": 1.0, "log": True},
        "batch_size": {"kind": "choice", "values": [1, 2]},
    }
    study = _study(params)
    assert study.base.batch_size not in (1, 2)
    start = calibrated_start(_portfolio(3e-3, 3e-3, 3e-3), study, (3, 9))
    own = study.base.optim.weight_decay
    assert [p["optim.weight_decay"] for p in start.points] == [own] * 3
    assert "batch_size" not in start.points[0]
    ours = Ours(study, start=start)
    play(ours, _table().world(0))
    drawn = ours.source.records[1].params
    assert set(drawn) == {"optim.lr", *params}
    assert drawn["optim.weight_decay"] == own
    assert drawn["batch_size"] in (1, 2)


def test_the_least_lead_is_lower_where_the_default_hardly_led_on_a_recorded_problem():
    response = [(1e-4, 0.30, 0.5), (3e-3, 0.32, 0.9)]
    start = calibrated_start(_portfolio(3e-3, 3e-3, 3e-3, response=response), _study(), (3, 9))
    assert start.lead == pytest.approx(0.01)
    far = [(1e-4, 0.1, 0.5), (3e-3, 0.8, 0.9)]
    start = calibrated_start(_portfolio(3e-3, 3e-3, 3e-3, response=far), _study(), (3, 9))
    assert start.lead == LEAST_LEAD


@pytest.mark.parametrize("what", RECORDINGS)
def test_in_the_benchmark_no_lesson_of_a_tables_dataset_counts_in_any_setting(what):
    for table in lr_tables(RECORDINGS[what]):
        task = table.name.partition("/")[0]
        assert any(lesson.problem == task for lesson in shipped_portfolio().lessons)
        made = calibrated(shipped_portfolio())(table, 0)
        assert isinstance(made, Ours)
        assert task not in made.source.start.problems
        assert bool(made.source.start.points) == (what != "frozen encoder")
        rate = default_rate(shipped_portfolio(), table, 0)
        far = [
            x.model_copy(update={"best": {"optim.lr": 1e-6}, "response": ()})
            if x.problem == task
            else x
            for x in shipped_portfolio().lessons
        ]
        assert default_rate(Portfolio(lessons=tuple(far)), table, 0) == rate


def test_the_start_of_a_study_leaves_the_lessons_of_its_own_data_out():
    start = calibrated_of(_study(start="calibrated"))  # of lakes-demo, which the portfolio has
    assert len(start.points) == 3
    assert "lakes-demo" not in start.problems
    assert calibrated_of(_study()) == KnownStart()
    assert calibrated_of(_study(start="known")) == KnownStart()


def test_a_portfolio_of_ones_own_moves_the_default(tmp_path):
    own = tmp_path / "ours.json"
    own.write_text(_portfolio(1e-5, 1e-5, 1e-5, 1e-5).model_dump_json())
    study = _study(start={"kind": "calibrated", "from": str(own)})
    assert study.search is not None
    assert kind_of(study.search.start) == "calibrated"
    moved, shipped = (calibrated_of(s) for s in (study, _study(start="calibrated")))
    assert float(moved.points[0]["optim.lr"]) < float(shipped.points[0]["optim.lr"]) / 3
    assert Study.model_validate_json(study.model_dump_json()) == study


@pytest.mark.parametrize(
    ("search", "remedy"),
    [
        ({"scheduler": {"kind": "none"}}, "rule: promote"),
        ({"scheduler": {"kind": "asha", "rule": "stop"}}, "rule: promote"),
    ],
)
def test_a_default_is_compared_at_a_rung_where_trials_pause(search, remedy):
    with pytest.raises(ValidationError, match=remedy):
        _study(start="calibrated", **search)


def test_a_space_by_a_function_has_no_rate_to_start_at():
    space = DefineByRun(file="space.py", function="space")
    with pytest.raises(ValidationError, match="write the space as ranges"):
        Search(space=space, trials=8, start="calibrated")


@pytest.mark.parametrize("trials", [2, 4, 8, 12, 40])
def test_what_is_expected_holds_the_trials_that_train_to_the_end(trials):
    search = _study(trials=trials).search
    assert search is not None
    steps = expect_rungs(search, 27, whole=3)
    assert all(count >= min(3, trials - 1) for _, count in steps)
    assert count_epochs(steps) >= count_epochs(expect_rungs(search, 27))
    _, events = _played(_table(), trials=trials)
    assert len(events) == pytest.approx(count_epochs(steps), rel=0.6)


def test_a_budget_is_expected_to_allow_fewer_trials_where_three_train_to_the_end():
    search = _study(trials=None, budget=6).search
    assert search is not None
    few, many = (fix_trials(search, 27, whole=whole).trials for whole in (3, 0))
    assert few is not None
    assert many is not None
    assert few < many
    assert math.isclose(6 * 27, count_epochs(expect_rungs(search, 27, whole=3)), rel_tol=0.2)
