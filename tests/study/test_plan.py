from __future__ import annotations

import json
import math
import os
import random
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryo_hpo.config import Recipe, Site, Study
from cryo_hpo.search.budget import count_epochs, expect_rungs
from cryo_hpo.search.frontier import FRONTIER, expect_gap
from cryo_hpo.study.plan import gap_lines, lines, num_arms, plan, seed_lines

from ..search.test_source import _open
from ..support.pool import Curves, Disk, Heard, a_study, simulate

SITE = Site.from_env({})


@pytest.mark.parametrize(
    ("rule", "trials", "counts"),
    [
        ("promote", 1, (1, 1, 1, 1)),
        ("promote", 2, (2, 1, 1, 1)),
        ("promote", 12, (12, 4, 1, 1)),
        ("promote", 24, (24, 8, 2, 1)),
        # Ray's rule never stops the baseline
        ("stop", 1, (1, 1, 1, 1)),
        ("stop", 2, (2, 2, 2, 2)),
        ("stop", 12, (12, 5, 2, 2)),
        ("stop", 24, (24, 9, 4, 2)),
    ],
)
def test_the_best_share_reaches_the_next_rung(rule, trials, counts):
    search = a_study(rule, trials=trials, epochs=27).search
    assert search is not None
    assert expect_rungs(search, 27) == tuple(zip((1, 3, 9, 27), counts, strict=True))


@given(st.integers(1, 200), st.integers(2, 5), st.integers(1, 200))
def test_the_numbers_fall_and_a_candidate_always_arrives(trials, reduction, epochs):
    search = a_study(trials=trials, reduction=reduction, epochs=epochs).search
    assert search is not None
    steps = expect_rungs(search, epochs)
    counts = [count for _, count in steps]
    assert counts[0] == trials
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] >= 1
    assert steps[-1][0] == epochs
    assert count_epochs(steps) <= trials * epochs


def _random(seed: int) -> Curves:
    def curve(recipe: Recipe) -> list[float]:
        chance = random.Random(f"{seed} {recipe.optim.lr}")
        best = chance.random()
        return [best * (1 - math.exp(-(e + chance.random()) / 9)) for e in range(1, 28)]

    return curve


def test_what_is_expected_is_what_happens(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    study, spent = a_study(trials=24, epochs=27, sampler="random"), []
    for seed in range(8):
        disk = Disk()
        source = _open(study, tmp_path / str(seed), Heard())
        simulate(source, _random(seed), workers=2, order=seed, disk=disk)
        spent.append(len(disk.trained))
    assert study.search is not None
    expected = count_epochs(expect_rungs(study.search, 27))
    assert statistics.mean(spent) == pytest.approx(expected, rel=0.4)


def test_a_plan_counts_everything():
    model = {"encoder": "unet", "decoder": "unet", "width": 4}
    base = {**a_study(epochs=27).base.model_dump(mode="json"), "model": model}
    study = a_study(
        trials=12, epochs=27, base=base, seeds=(1, 2, 3), baselines={"paper": {"optim.lr": 0.01}}
    )
    found = plan(study, site=SITE)
    assert (found.trials, found.epochs_most) == (12, 12 * 27)
    assert found.epochs_expected == 12 + 4 * 2 + 6 + 18
    assert found.epochs_confirm == 3 * 3 * 27
    assert num_arms(study) == 3
    gib = found.parameters * 4 / 2**30
    assert found.disk_gib == pytest.approx(gib * (12 + 9) * (2 * 3 + 1), rel=0.01)  # and batch-norm
    text = "\n".join(lines(found))
    for part in ("about 44, at most 324", "paired retraining: 243", "about 287", "cannot decide"):
        assert part in text
    alone = plan(a_study(search=None, base=base, epochs=27), site=SITE)
    assert (alone.trials, alone.rungs, alone.epochs_expected, alone.epochs_confirm) == (
        0,
        (),
        0,
        135,
    )
    assert lines(alone)


def test_a_start_at_known_points_is_planned_as_it_ends_where_they_hold():
    raw = json.loads(a_study(epochs=27).model_dump_json())
    raw["search"]["start"] = "known"
    made = plan(Study.model_validate_json(json.dumps(raw)), site=SITE)
    first = made.rungs[0][0]
    assert made.epochs_known == first + 2 * 27
    assert f"ends after {made.epochs_known} epochs" in "\n".join(lines(made))
    even = plan(a_study(epochs=27), site=SITE)
    assert even.epochs_known is None
    assert "known points" not in "\n".join(lines(even))


def test_a_calibrated_start_is_planned_with_the_trainings_that_it_adds():
    raw = json.loads(a_study(epochs=27, trials=8).model_dump_json())
    even = plan(Study.model_validate_json(json.dumps(raw)), site=SITE)
    raw["search"]["start"] = "calibrated"
    raw["search"]["space"]["params"]["optim.lr"]["high"] = 0.1
    made = plan(Study.model_validate_json(json.dumps(raw)), site=SITE)
    assert made.rungs[-1] == (27, 3)
    assert made.epochs_expected > even.epochs_expected
    assert made.start in lines(made)
    assert "calibrated default" in made.start
    assert (made.epochs_known, made.gap, even.start) == (None, "", "")
    raw["base"]["model"]["tune"] = "frozen"
    other = plan(Study.model_validate_json(json.dumps(raw)), site=SITE)
    assert other.rungs == even.rungs
    assert "starts evenly: fewer than 3" in other.start


@pytest.mark.parametrize(
    ("changes", "gap"),
    [
        ({"trials": 12}, "about 2.4"),
        ({"trials": 5}, "more than 5.3"),
        ({"trials": 64}, "1.4 or less"),
        ({"trials": None, "budget": 3.64}, "about 2.4"),
        ({"trials": None, "budget": 1.5}, "more than 5.3"),
        ({"start": "known"}, ""),
        ({"start": "calibrated"}, ""),
    ],
)
def test_the_gap_to_expect_is_that_of_recorded_searches_of_the_length(changes, gap):
    search = a_study(trials=12, epochs=27).search
    assert search is not None
    assert expect_gap(search.model_copy(update=changes)) == gap
    assert bool(gap_lines(gap)) == bool(gap)


def test_gaps_are_those_of_the_page_and_fall_with_the_cost():
    page = (Path(__file__).parents[2] / "docs" / "search-benchmark.md").read_text()
    table = page.partition("(100 searches):")[2].partition("- **The baseline pauses")[0]
    for end in FRONTIER:
        (row,) = [x for x in table.splitlines() if x.lstrip().startswith(f"| {end.trials} ")]
        cost, gap = row.split("|")[4].split("/")
        assert (float(cost), float(gap)) == (end.cost, end.gap)
    assert [e.gap for e in FRONTIER] == sorted((e.gap for e in FRONTIER), reverse=True)


@pytest.mark.parametrize("rule", ["stop", "none"])
def test_no_gap_is_expected_of_a_search_by_another_rule(rule):
    search = a_study(rule, trials=12, epochs=27).search
    assert search is not None
    assert expect_gap(search) == ""


def test_without_stopping_a_plan_is_a_grid():
    search = a_study("none", trials=12, epochs=27).search
    assert search is not None
    assert expect_rungs(search, 27) == ((27, 12),)


def test_a_plan_says_what_few_seeds_cannot_tell():
    assert "cannot decide" in seed_lines(3)[0]
    assert "normal" in seed_lines(4)[0]
    assert seed_lines(6) == []
