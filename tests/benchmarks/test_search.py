"""The benchmark of search at a small size: a gate on what the product promises."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import pytest

from benchmarks.calibrated_start import DATASETS, by_dataset
from benchmarks.known import (
    around,
    calibrated,
    default,
    default_rate,
    known,
    mistaken,
    own_portfolio,
    shifted,
)
from benchmarks.ours import Ours, study_of
from benchmarks.parts import Parts
from benchmarks.problems import GRID, OWN
from benchmarks.report import cost_to, draw, first, interval, into_page, means, pooled
from benchmarks.rivals import RayStop, even_stream, stream
from benchmarks.scene_noise import Noise
from benchmarks.search import FAIR, PARTS
from benchmarks.selection_score import CHOICES, SCORES, Recording, measure, smooth
from benchmarks.simulate import (
    Event,
    Maker,
    Outcomes,
    Table,
    Task,
    crowned,
    ends,
    kept_best,
    lr_tables,
    outcomes,
    play,
)
from benchmarks.starts import (
    ASCENDING,
    EVEN,
    RECORDINGS,
    SHUFFLED,
    TASK,
    WRONG,
    beats_hand,
    is_cheap,
    is_near,
)
from benchmarks.untuned import Recorded, few_rates, untuned
from cryo_hpo.results.portfolio import Portfolio
from cryo_hpo.search.journal import Journal

ROOT = Path(__file__).parents[2]
COSTS = [round(27 * cost) for cost in GRID]


@pytest.fixture(scope="module")
def tables() -> list[Table]:
    return lr_tables(OWN)


def _lost(table: Table) -> Table:
    """The same table, but the best rates diverge after two thirds of a training."""
    val = table.val.copy()
    val[np.argsort(-table.test)[: len(table.lr) // 4], 18:] = np.nan
    test = np.where(np.isnan(val[:, -1]), 0.0, table.test)
    return Table(
        table.name, table.lr, val, test, table.low, table.high, float(test.max()), again=True
    )


def test_the_committed_table_is_whole_and_small(tables):
    assert OWN.stat().st_size < 2_000_000
    assert len(tables) == 10
    assert {table.val.shape[1] for table in tables} == {27}
    assert all(len(np.unique(table.lr)) == 16 for table in tables)


def test_it_needs_at_most_seven_tenths_of_rays_cost(tables):
    makers: dict[str, Maker] = {
        "ours": lambda t, seed: Ours(study_of(t, seed, trials=32)),
        "ray": lambda t, seed: RayStop(stream(t, seed), epochs=27),
    }
    gaps = {
        name: np.concatenate([outcomes(make, t, range(4), COSTS).gaps for t in tables])
        for name, make in makers.items()
    }
    target = 5.0  # points: the mean over tables with sharp optima comes no closer to 0.6
    ours, ray = (cost_to(gaps[name], GRID, target) for name in ("ours", "ray"))
    assert np.isfinite(ours)
    assert ours <= 0.7 * ray


def test_a_diverging_configuration_never_wins(tables):
    for seed, table in enumerate(map(_lost, tables)):
        found = outcomes(
            lambda t, s: Ours(study_of(t, s, trials=12)), table, range(seed, seed + 3), COSTS
        )
        assert not found.diverging.any()
        assert np.isfinite(means(found.gaps)[-1])


@pytest.mark.parametrize("cut", [1, 7, 20, 41, 55])
def test_an_interrupted_search_goes_on_to_the_same_trace(tables, tmp_path, cut):
    table = tables[0]
    study = study_of(table, 3, trials=12)
    through = play(Ours(study), table.world(3), workers=1)
    world, file = table.world(3), tmp_path / "journal.log"
    first = play(Ours(study, Journal(file, study="s")), world, workers=1, cost=cut)
    rest = play(Ours(study, Journal(file, study="s")), world, workers=1)
    shifted = [Event(e.cost + len(first), *e[1:]) for e in rest]
    assert first + shifted == through
    assert len(through) > cut


def test_who_is_crowned_was_trained_to_full_length_within_the_cost():
    lr = np.array([1e-4, 1e-3])
    raw = np.array([[0.1, 0.2, 0.3], [0.2, 0.5, np.nan]])
    val, test = kept_best(raw, raw)
    table = Table("two", lr, val, test, 1e-5, 1e-1, 0.3, near=1)
    world = table.world(0)
    world.runs.update({0: 0, 1: 1})
    events = [Event(1, 1, 1, 0.2), Event(2, 1, 2, 0.5), Event(3, 0, 1, 0.1)]
    # trial 1 leads, is verified for one training (3 epochs), and diverges
    assert crowned(events, world, [3, 5, 6], only_complete=True) == [None, None, None]
    assert crowned(events, world, [3, 5, 6], only_complete=False) == [None, 1, 1]
    assert test.tolist() == [0.3, 0.0]


def test_intervals_draw_whole_problems_and_then_their_searches():
    rows = draw(np.random.default_rng(0), 12, 3)
    assert len(rows) == 12
    for part in rows.reshape(3, 4):
        assert len({row // 4 for row in part}) == 1  # of one problem
    gaps = np.repeat([0.0, 10.0], 50)  # problems differ, seeds do not
    assert interval(gaps, 2)[1:] == (0.0, 10.0)
    assert interval(gaps, 1)[1] > 2


def test_what_has_been_run_is_read_and_not_run_again(tmp_path):
    runs: list[int] = []

    def compute() -> Outcomes:
        runs.append(1)
        return Outcomes(np.array([[1.0, np.nan]]), np.array([[True, False]]), 1)

    recording = tmp_path / "table.npz"
    recording.write_bytes(b"one")
    parts = Parts(tmp_path / "kept")
    first = parts.outcomes("a way", 1, compute, [recording])
    again = Parts(tmp_path / "kept").outcomes("a way", 1, compute, [recording])
    assert len(runs) == 1
    np.testing.assert_array_equal(first.gaps, again.gaps)
    np.testing.assert_array_equal(first.diverging, again.diverging)
    parts.outcomes("a way", 2, compute, [recording])  # another number of searches
    parts.outcomes("another way", 1, compute, [recording])
    recording.write_bytes(b"two")
    Parts(tmp_path / "kept").outcomes("a way", 1, compute, [recording])
    assert len(runs) == 4


def test_problems_are_pooled_with_the_same_weight_of_every_table():
    many = Outcomes(np.arange(12.0).reshape(12, 1), np.zeros((12, 1), bool), 3)
    one = Outcomes(np.full((12, 1), 50.0), np.zeros((12, 1), bool), 1)
    both = pooled([first(many, 2), first(one, 2)])
    assert both.tables == 4
    assert both.gaps.ravel().tolist() == [0, 1, 4, 5, 8, 9, 50, 50]


def _flat(gap: float, *, dear: float = 0.0, tables: int = 2) -> Outcomes:
    """Searches that end at a gap, and are 9 points behind below a cost."""
    row = [gap + 9 * (cost < dear) for cost in GRID]
    return Outcomes(np.array([row] * 4), np.zeros((4, len(GRID)), bool), tables)


def test_the_aims_of_a_known_start_are_told_as_reached_or_not():
    ways = {name: _flat(2.0, dear=2.0) for name in (EVEN, ASCENDING, SHUFFLED)}
    ways |= {TASK: _flat(0.5), WRONG: _flat(1.5, dear=3.0)}
    near = ["0.50 [0.5, 0.5]", "yes"]
    assert is_near("t", ways[TASK])[1:] == near
    assert is_near("t", ways[EVEN])[1:] == ["11.00 [11.0, 11.0]", "no"]
    spread = Outcomes(ways[TASK].gaps + np.array([[-4], [-4], [4], [4]]), ways[TASK].diverging, 2)
    assert is_near("t", spread)[1:] == ["0.50 [-3.5, 4.5]", "no"]
    assert beats_hand("t", ways, TASK)[1:] == ["ahead at every cost", "yes"]
    assert beats_hand("t", ways, WRONG)[1:] == ["behind by up to 8.50, at 2", "no"]
    assert is_cheap("t", ways, WRONG)[1:] == ["3 in place of 2, 3 in place of 2", "no"]


def test_a_fair_rival_begins_as_ours_and_never_names_a_diverging_run(tables):
    rates = list(islice(even_stream(tables[0], 3), 5))
    ours = Ours(study_of(tables[0], 3))
    play(ours, tables[0].world(3), cost=30)
    assert [r.params["optim.lr"] for r in ours.source.records[1:6]] == pytest.approx(rates)
    for name, make in FAIR.items():
        found = outcomes(make, _lost(tables[0]), range(2), COSTS)
        assert not found.diverging.any(), name


def test_a_search_that_runs_to_its_end_costs_what_its_trials_trained(tables):
    (end,) = ends(lambda t, s: Ours(study_of(t, s, trials=4)), tables[0], range(1))
    trace = play(Ours(study_of(tables[0], 0, trials=4)), tables[0].world(0))
    assert end.cost == len(trace) / 27


def test_a_page_holds_each_part_between_its_marks(tmp_path):
    page = tmp_path / "page.md"
    marks = [f"<!-- measured: {m}{p} -->\n" for p in PARTS for m in ("", "end of ")]
    page.write_text("before\n" + "".join(marks) + "after\n")
    into_page(["new"], page, "fair")
    assert "<!-- measured: fair -->\n\nnew\n<!-- measured: end of fair -->" in page.read_text()
    text = (ROOT / "docs" / "search-benchmark.md").read_text()
    assert all(mark.strip() in text for mark in marks)


def test_a_portfolio_is_tried_on_problems_that_it_has_not_seen(tables):
    portfolio = own_portfolio(OWN)
    table = tables[0]
    task = table.name.partition("/")[0]
    ours = known(portfolio)(table, 0)
    assert isinstance(ours, Ours)
    assert task not in ours.source.start.problems
    assert len(ours.source.start.problems) == 4
    one = default(portfolio)(table, 0).next()
    best = [
        float(x.best["optim.lr"])
        for x in portfolio.without(problem=task).lessons
        if x.encoder == "unet"
    ]
    assert isinstance(one, Task)
    assert one.lr == pytest.approx(geometric_mean(best))
    far = shifted(portfolio, table).lessons[0]
    moved = float(far.best["optim.lr"]) / float(portfolio.lessons[0].best["optim.lr"])
    assert moved > 5 or moved < 1 / 5
    wrong = known(shifted(portfolio, table))(table, 0)
    assert isinstance(wrong, Ours)
    assert not wrong.source.start.points, "1e-4 would be as good there, so nothing could be noticed"


def test_the_choosing_score_is_measured_on_what_was_recorded():
    val = np.array([[0.1, 0.5, 0.2], [0.2, 0.3, 0.4]])
    recordings = [Recording(val, np.array([0.5, 0.4]))]
    assert measure(recordings, SCORES["best epoch (in use)"], 3).gap == 0
    assert measure(recordings, SCORES["last epoch"], 3).gap == pytest.approx(10)
    lines = [0.70, 0.71, 0.60, 0.80, 0.72]
    assert [CHOICES[name](np.array(lines)) for name in CHOICES] == [3, 3, 3, 4]
    lines[1] = 0.79  # within the noise of the best, and beside bad neighbors
    assert [CHOICES[name](np.array(lines)) for name in CHOICES] == [3, 1, 3, 4]
    assert smooth(val)[0].tolist() == pytest.approx([0.1, 0.3, 0.8 / 3])


@pytest.mark.machines
def test_make_bench_search_prints_every_table(tmp_path):
    assert "bench-search" in (ROOT / "Makefile").read_text()
    folders = ["--curves", tmp_path / "none", "--kept", tmp_path / "kept"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.search", "--seeds", "10", *folders],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    for part in (
        "### cryosphere",
        "Ray AsyncHyperBand",
        "### Variants",
        "### Priors",
        "### Samplers",
        "rivals with the even beginning",
        "| setting |",
        "known, neither task nor setting seen",
        "| aim | measured | reached |",
    ):
        assert part in done.stdout


def test_an_optimizer_that_nobody_tuned_costs_one_training(tmp_path, tables):
    names = [table.name.split("/") for table in tables]
    tasks, encoders = (list(dict.fromkeys(part)) for part in zip(*names, strict=True))
    shape = (len(tasks), len(encoders), 3, 2)
    test, trained = np.full((*shape, 27), 0.5), np.ones(shape, bool)
    diverged = np.zeros(shape, bool)
    diverged[0, 0, 1, 0] = True  # one of its two seeds scores 0
    trained[1, 1, 2] = False  # recorded on all tables but one
    trained[:, :, 0, 1], test[:, :, 0, 1] = False, np.nan  # one seed only
    axes: dict[str, Any] = {"tasks": tasks, "encoders": encoders, "optimizers": ["a", "b", "c"]}
    np.savez(
        tmp_path / "o.npz",
        lr=np.ones(3),
        val=test,
        test=test,
        trained=trained,
        diverged=diverged,
        **axes,
    )
    found = untuned(tmp_path / "o.npz", tables, GRID, 4)
    assert list(found) == ["a", "b"]
    gaps = found["a"].gaps
    assert gaps.shape == (40, len(GRID))
    assert np.isnan(gaps[:, np.array(GRID) < 1]).all(), (
        "there is no winner before a training is over"
    )
    expected = [100 * (table.reference - 0.5) for table in tables]
    np.testing.assert_allclose(gaps[::4, -1], expected)
    assert found["b"].gaps[0, -1] == pytest.approx(expected[0] + 25)
    assert found["b"].gaps[4, -1] == pytest.approx(expected[1])


def test_rates_of_the_other_tasks_are_chosen_without_the_task_and_by_validation(tables):
    places = [table.name for table in tables]
    lr = np.array([1e-3, 1e-2, 1e-1])
    val = np.full((len(places), 3, 2), 0.2)
    val[:, 1] = 0.3  # the best everywhere, but
    val[0] = [[0.9, 0.9], [0.1, 0.1], [0.4, 0.4]]  # on the first table the others are
    val[1:, 2, 0] = 0.5  # on one seed the third is better
    test = np.arange(3.0)[None, :, None] * np.ones((len(places), 1, 2)) / 10
    recorded = Recorded(places, ["adamw"] * 3, lr, val, test)
    one = few_rates(recorded, tables, GRID, 1)
    assert one.tables == len(places)
    assert np.isnan(one.gaps[:, np.array(GRID) < 1]).all()
    # 0.35 on average: the third is named for the first table, which does not know its own best
    assert one.gaps[0, -1] == pytest.approx(100 * (tables[0].reference - 0.2))
    two = few_rates(recorded, tables, GRID, 2)
    assert np.isnan(two.gaps[:, np.array(GRID) < 2]).all()
    # of the first and third, each seed of the third table names the better one by validation
    expected = [100 * (tables[2].reference - score) for score in (0.2, 0.0)]
    assert two.gaps[4:6, -1] == pytest.approx(expected)
    both = recorded.of("adamw").beside(recorded)
    assert len(both.lr) == 6
    assert few_rates(both, tables, GRID, 1).gaps[0, -1] == pytest.approx(one.gaps[0, -1])
    # another length, of two rates in another order: its own scores choose nothing
    scores = np.array([0.1, 0.9])[None, :, None] * np.ones((len(places), 1, 2))
    longer = Recorded(places, ["adamw"] * 2, lr[[2, 0]], scores, scores)
    chosen = few_rates(longer, tables, GRID, 1, lessons=recorded)
    assert chosen.gaps[0, -1] == pytest.approx(100 * (tables[0].reference - 0.1))


def _matrices(hits: list[list[list[int]]], pixels: int = 100) -> np.ndarray:
    """Return matrices of two classes, (R, N, S, 2, 2): so many pixels of each class are right."""
    right = np.array(hits)
    wrong = pixels - right
    return np.stack([np.stack([right, wrong], -1), np.stack([wrong, right], -1)], -2)


def test_scenes_that_are_alike_leave_no_noise_and_no_bias():
    alike = _matrices([[[60] * 5, [70] * 5], [[50] * 5, [90] * 5]])
    noise = Noise(alike, alike)
    for score in SCORES.values():
        assert noise.spread(score) == pytest.approx(0, abs=1e-12)
        assert noise.changes(score) == noise.gap(score) == 0
    assert noise.bias() == pytest.approx(0, abs=1e-12)


def test_scenes_that_differ_leave_noise_bias_and_other_choices():
    chance = np.random.default_rng(0)
    val = _matrices(chance.integers(40, 100, size=(3, 9, 6)).tolist())
    noise = Noise(val, _matrices(np.full((3, 9, 4), [[[80]], [[70]], [[60]]]).tolist()))
    best = SCORES["best epoch (in use)"]
    assert noise.spread(best) > 0
    assert noise.spread_of_lead(best) > noise.spread(best), "two rates' noise adds up"
    assert noise.bias() > 0, "the best of several epochs on a draw is flattered"
    assert 0 < noise.changes(best) < 1
    assert 0 < noise.gap(best) <= np.ptp(noise.test_RN)


def test_searches_of_several_settings_are_drawn_by_dataset():
    def out(tables: int, each: int, base: float) -> Outcomes:
        datasets = np.repeat(np.arange(5.0), tables // 5 * each)[:, None] + base
        return Outcomes(datasets, np.zeros(datasets.shape, bool), tables)

    both = by_dataset([out(10, 2, 0.0), out(5, 4, 0.5)])
    assert both.tables == 5
    assert both.gaps[:8, 0].tolist() == [0.0] * 4 + [0.5] * 4
    assert both.gaps[-1, 0] == 4.5


def test_every_recording_has_the_same_datasets_in_the_same_order():
    orders = {
        tuple(dict.fromkeys(table.name.partition("/")[0] for table in lr_tables(file)))
        for file in RECORDINGS.values()
    }
    (order,) = orders
    assert len(order) == DATASETS


def test_rates_around_a_default_stay_in_the_range_and_none_are_tried_without_one():
    table = lr_tables(OWN)[0]
    portfolio = own_portfolio(OWN)
    rate = default_rate(portfolio, table, 0)
    assert rate is not None
    method = around(portfolio, (1, 1e6))(table, 0)
    tasks = [method.next(), method.next(), method.next()]
    assert [None if not isinstance(t, Task) else t.lr for t in tasks] == [rate, table.high, None]
    assert around(Portfolio(lessons=()), (1, 3))(table, 0).next() is None


def test_a_mistaken_default_is_promised_the_lead_of_the_right_one():
    table, portfolio = lr_tables(OWN)[0], own_portfolio(OWN)
    right, wrong = (make(portfolio)(table, 0) for make in (calibrated, mistaken))
    assert isinstance(right, Ours)
    assert isinstance(wrong, Ours)
    (mine, promised), (theirs, lead) = (
        ([p["optim.lr"] for p in x.source.start.points], x.source.start.lead)
        for x in (wrong, right)
    )
    assert mine == pytest.approx([float(rate) / 100 for rate in theirs])
    assert promised == lead
    assert len(mine) == 3
