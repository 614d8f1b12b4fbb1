"""A search that starts at known points: what it trains, when it widens, and its portfolio."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from benchmarks.ours import MemoryJournal, Ours, study_of
from benchmarks.simulate import Event, Table, play
from cryo_hpo.config import Study
from cryo_hpo.config.space import Float
from cryo_hpo.errors import SpecError
from cryo_hpo.results.portfolio import Lesson, Portfolio, load_portfolio
from cryo_hpo.search.journal import Journal
from cryo_hpo.search.known_start import KnownStart
from cryo_hpo.search.learn import learn
from cryo_hpo.search.portfolio import (
    alike,
    choose_start,
    complementary,
    shipped_portfolio,
    spread_out,
)

LOW, HIGH = 1e-3, 1e-2  # the known rates
START = KnownStart(points=({"optim.lr": LOW}, {"optim.lr": HIGH}), rung=3, lead=0.1)


def _table(best: float, *, width: float = 1.0, diverges: float = math.inf) -> Table:
    """Curves that rise to a score which falls with the distance from the best rate."""
    lr = np.geomspace(1e-6, 1e-1, 31)
    final = 0.9 - 0.3 * np.abs(np.log10(lr / best)) / width
    val = np.clip(final[:, None], 0, 1) * (1 - np.exp(-np.arange(1, 28) / 5))
    val[lr > diverges, 4:] = np.nan
    test = np.where(np.isnan(val[:, -1]), 0.0, np.clip(final, 0, 1))
    return Table("t", lr, val, test, 1e-6, 1e-1, 0.9, near=1, again=True)


def _early_loss(table: Table, above: float) -> Table:
    """The same table, but rates above one diverge in the second epoch."""
    table.val[table.lr > above, 1:] = np.nan
    return table


def _search(table: Table, start: KnownStart = START, **search: Any) -> Ours:
    return Ours(study_of(table, 0, **{"trials": 8, **search}), start=start)


def _played(table: Table, start: KnownStart = START, **search: Any) -> tuple[Ours, list[Event]]:
    ours = _search(table, start, **search)
    return ours, play(ours, table.world(0))


def test_a_start_that_holds_trains_both_points_to_the_end_and_nothing_else():
    ours, events = _played(_table(1.5e-3))
    ends = {r.number: (r.state, r.epochs) for r in ours.source.records}
    assert ends == {0: ("pruned", 3), 1: ("complete", 27), 2: ("complete", 27)}
    assert len(events) == 3 + 27 + 27
    assert [r.params["optim.lr"] for r in ours.source.records[1:]] == [LOW, HIGH]


@pytest.mark.parametrize(
    ("table", "start"),
    [
        (_table(1.5e-3, width=10), START),  # nothing leads the baseline
        (_table(1.5e-3), START.model_copy(update={"at_edge": (0,)})),
        (_early_loss(_table(1.5e-3), 5e-3), START),  # one of the two diverges
    ],
    ids=["no lead", "edge", "diverged"],
)
def test_a_start_in_doubt_widens_to_the_even_sequence(table, start):
    known, _ = _played(table, start)
    even, _ = _played(table, KnownStart())
    rates = [r.params["optim.lr"] for r in known.source.records]
    assert len(rates) == 8
    assert rates[3:6] == [r.params["optim.lr"] for r in even.source.records[1:4]]
    assert any(r.state == "complete" for r in known.source.records)


@pytest.mark.parametrize("both", [False, True])
def test_points_that_diverge_on_their_way_to_the_end_do_not_end_the_search(both):
    table = _table(1.5e-3)
    table.val[(table.lr > 5e-4) & (table.lr < (0.1 if both else 5e-3)), 15:] = np.nan
    ours, _ = _played(table)
    states = {r.number: r.state for r in ours.source.records}
    assert states[1] == "diverged"
    assert states[2] == ("diverged" if both else "complete")
    assert len(states) == 8
    assert "complete" in states.values()


def test_a_budget_for_one_training_trains_the_better_point_alone():
    ours = Ours(study_of(_table(1.5e-3), 0, trials=None, budget=1.5), start=START)
    events = play(ours, _table(1.5e-3).world(0))
    ends = {r.number: (r.state, r.epochs) for r in ours.source.records}
    assert ends == {0: ("pruned", 3), 1: ("complete", 27), 2: ("pruned", 3)}
    assert len(events) == 3 + 3 + 27


@pytest.mark.parametrize("cut", [2, 5, 12, 20, 33])
@pytest.mark.parametrize("best", [1.5e-3, 10**-2.5])
def test_an_interrupted_start_resumes_to_the_same_trace(tmp_path, best, cut):
    table, study = _table(best), study_of(_table(best), 0, trials=6)
    through = play(Ours(study, MemoryJournal(), start=START), table.world(0), workers=1)
    world, file = table.world(0), tmp_path / "journal.log"
    first = play(Ours(study, Journal(file, study="s"), start=START), world, workers=1, cost=cut)
    rest = play(Ours(study, Journal(file, study="s"), start=START), world, workers=1)
    assert first + [Event(e.cost + len(first), *e[1:]) for e in rest] == through


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("budget", [1.2, 1.5, 2, 3.5])
@pytest.mark.parametrize("best", [1.5e-3, 10**-2.5, 1e-5])
def test_a_budget_holds_for_a_known_start_and_leaves_a_winner(best, budget, workers):
    table = _table(best)
    ours = Ours(study_of(table, 0, trials=None, budget=budget), start=START)
    events = play(ours, table.world(0), workers=workers)
    assert len(events) <= budget * 27
    assert any(r.state == "complete" for r in ours.source.records)


@pytest.mark.parametrize("trials", [1, 2, 3])
def test_a_search_too_short_for_the_known_points_still_has_a_winner(trials):
    ours, _ = _played(_table(1.5e-3), trials=trials)
    assert len(ours.source.records) == trials
    assert any(r.state == "complete" for r in ours.source.records)


def _lesson(problem: str, rate: float = 1e-3, **more: Any) -> Lesson:
    fields = {
        "problem": problem, "encoder": "unet", "regime": "full", "schedule": "multistep",
        "loss": "ce", "epochs": 27, "best": {"optim.lr": rate}, "trainings": 9, "source": "test",
        **more,
    }  # fmt: skip
    return Lesson.model_validate_json(json.dumps(fields))


def _study(**search: Any) -> Study:
    return study_of(_table(1e-3), 0, **search)


def test_the_points_lie_around_the_best_rates_of_the_recorded_problems():
    rates = [1e-3, 10**-2.5, 1e-2]
    lessons = [_lesson(f"p{i}", r, lead=0.1 + i) for i, r in enumerate(rates)]
    start = choose_start(Portfolio(lessons=tuple(lessons)), _study(), (3, 9))
    assert [p["optim.lr"] for p in start.points] == pytest.approx([1e-3, 1e-2])
    assert (start.rung, start.lead) == (3, 0.05)
    assert start.problems == ("p0", "p1", "p2")


def test_with_responses_the_points_are_the_two_of_which_the_better_one_is_best():
    low, high = [(1e-4, 0.0, 0.2), (1e-3, 0.3, 0.8), (1e-2, 0.1, 0.1)], [
        (1e-4, 0.0, 0.2), (1e-3, 0.1, 0.3), (1e-2, 0.4, 0.9),
    ]  # fmt: skip
    lessons = [_lesson(p, 1e-3, response=low) for p in "ab"] + [_lesson("c", 1e-2, response=high)]
    start = choose_start(Portfolio(lessons=tuple(lessons)), _study(), (3, 9))
    assert [p["optim.lr"] for p in start.points] == pytest.approx([1e-3, 1e-2])
    assert start.lead == pytest.approx(
        0.15
    )  # half of what the better one led by where it led least
    assert start.at_edge == ()
    narrow = _study(
        space={"params": {"optim.lr": {"kind": "float", "low": 1e-4, "high": 2e-3, "log": True}}}
    )
    inside = choose_start(Portfolio(lessons=tuple(lessons)), narrow, (3, 9))
    assert max(float(p["optim.lr"]) for p in inside.points) <= 2e-3
    mixed = [*lessons, _lesson("d")]
    rate = Float(low=1e-4, high=2e-3, log=True)
    assert complementary(mixed, rate) is None


@given(st.lists(st.floats(-6, -1), min_size=3, max_size=8))
@settings(deadline=None)
def test_points_are_never_closer_than_a_decade_and_surround_the_mean(best):
    low, high = spread_out(best)
    assert high - low >= 1 - 1e-9
    assert (low + high) / 2 == pytest.approx(sum(best) / len(best))


@pytest.mark.parametrize(
    ("lessons", "space", "reason"),
    [
        ([_lesson("a"), _lesson("b")], {}, "fewer than 3"),
        ([_lesson(p, encoder="prithvi-1") for p in "abc"], {}, "fewer than 3"),
        ([_lesson(p, regime="frozen") for p in "abc"], {}, "fewer than 3"),
        ([_lesson("a"), _lesson("a"), _lesson("a", 1e-2)], {}, "fewer than 3"),
        ([_lesson(p, optimizer="schedule-free") for p in "abc"], {}, "trained with adamw"),
        ([_lesson(p, 5.0) for p in "abc"], {}, "outside"),
    ],
)
def test_a_portfolio_that_does_not_apply_says_why(lessons, space, reason):
    start = choose_start(Portfolio(lessons=tuple(lessons)), _study(), (3, 9))
    assert not start.points
    assert reason in start.reason


def test_without_a_rung_in_the_first_half_there_is_no_start():
    portfolio = Portfolio(lessons=tuple(_lesson(p) for p in "abc"))
    assert "rung" in choose_start(portfolio, _study(), (20,)).reason


def test_lessons_of_the_same_loss_and_length_count_alone_where_there_are_enough():
    near = [_lesson(p, loss="ce", steps=100) for p in "abc"]
    far = [_lesson(p, loss="dice", steps=9000) for p in "def"]
    study = _study()
    assert alike([*near, *far], study, steps=120) == near
    long = [_lesson(p, loss="ce", steps=300) for p in "abc"]
    assert alike([*near, *long], study, steps=100) == near  # three times as long is another length
    assert alike([*near, *far], study, steps=None) == near
    assert alike([*near[:2], *far], study, steps=5000) == far
    assert alike([*near[:2], far[0]], study, steps=None) == [*near[:2], far[0]]


def test_points_of_more_parameters_hold_their_means_and_most_frequent_choices():
    raw = json.loads(_study().model_dump_json())
    params = raw["search"]["space"]["params"]
    params["optim.weight_decay"] = {"kind": "float", "low": 1e-3, "high": 1.0, "log": True}
    params["batch_size"] = {"kind": "choice", "values": [4, 8]}
    params["optim.warmup_epochs"] = {"kind": "float", "low": 0.0, "high": 4.0}
    study = Study.model_validate_json(json.dumps(raw))
    more = [{"optim.weight_decay": w, "batch_size": b} for w, b in ((0.01, 4), (0.1, 8), (1.0, 8))]
    lessons = [_lesson(p, best={"optim.lr": 1e-3, **m}) for p, m in zip("abc", more, strict=True)]
    start = choose_start(Portfolio(lessons=tuple(lessons)), study, (3, 9))
    for point in start.points:
        assert point["optim.weight_decay"] == pytest.approx(0.1)
        assert point["batch_size"] == 8
    table = _table(1.5e-3)
    ours = Ours(study, start=start)
    play(ours, table.world(0))
    drawn = ours.source.records[1].params
    assert set(drawn) == set(params)  # what no lesson has is drawn evenly
    assert drawn["batch_size"] == 8


def test_the_shipped_portfolio_has_what_the_recorded_tables_taught():
    table = Path(__file__).parents[2] / "benchmarks" / "data" / "lr_table.npz"
    assert all(lesson in shipped_portfolio().lessons for lesson in learn([table]).lessons)
    for encoder in ("unet", "galileo-nano"):
        raw = json.loads(_study().model_dump_json())
        raw["base"]["model"]["encoder"] = encoder
        start = choose_start(
            shipped_portfolio(), Study.model_validate_json(json.dumps(raw)), (3, 9)
        )
        assert len(start.points) == 2, start.reason


def test_a_folder_of_portfolios_is_one_and_anything_else_is_refused(tmp_path):
    for name in "ab":
        portfolio = Portfolio(lessons=(_lesson(name),))
        (tmp_path / f"{name}.json").write_text(portfolio.model_dump_json())
    assert [x.problem for x in load_portfolio(tmp_path).lessons] == ["a", "b"]
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(SpecError, match=r"c\.json.*no portfolio"):
        load_portfolio(tmp_path)
    with pytest.raises(SpecError, match="There is no portfolio"):
        load_portfolio(tmp_path / "none.json")


@pytest.mark.parametrize("scheduler", [{"kind": "none"}, {"kind": "asha", "rule": "stop"}])
def test_known_points_need_rungs_at_which_trials_pause(scheduler):
    with pytest.raises(ValidationError, match="promote"):
        _study(start="known", scheduler=scheduler)


def test_a_portfolio_of_ones_own_is_named_by_its_path():
    study = _study(start={"from": "portfolios/ours.json"})
    assert study.search is not None
    again = Study.model_validate_json(study.model_dump_json())
    assert again == study
