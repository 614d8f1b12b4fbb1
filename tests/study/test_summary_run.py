"""What the study's own MLflow run says at first sight: numbers and tags of the verdict."""

from __future__ import annotations

import math

import pytest

from cryo_hpo.results.study import ConstantMap, Result
from cryo_hpo.results.weak_runs import name_weak_runs
from cryo_hpo.stats import Interval
from cryo_hpo.study.summary import study_metrics, study_tags

from ..support.results import a_result, an_improvement


def with_weak_runs(result: Result) -> Result:
    return result.model_copy(update={"weak_runs": name_weak_runs(result)})


def test_the_numbers_are_those_of_the_verdict_without_infinite_ones() -> None:
    open_above = an_improvement(relative_pct=Interval(15.6, 15.8, math.inf, 0.95))
    numbers = study_metrics(a_result(improvement=open_above))
    assert numbers["repeats_gained"] == 4
    assert numbers["relative_improvement_pct"] == 15.8
    assert numbers["relative_improvement_pct.low"] == 15.6
    assert "relative_improvement_pct.high" not in numbers
    assert numbers["constant_map.test_miou"] == 0.214
    assert numbers["recommended_lr"] in {trial.lr for trial in a_result().trials}
    assert all(math.isfinite(number) for number in numbers.values())


def test_nothing_is_saved_that_the_proof_spent() -> None:
    numbers = study_metrics(a_result())
    assert numbers["epochs_full_grid_and_proof"] == 324 + 324
    assert numbers["epochs_saved_pct"] == pytest.approx(100 * (1 - 443 / 648))


def test_warnings_are_numbers_and_a_tag() -> None:
    result = with_weak_runs(a_result(constant_map=ConstantMap(label="ice", test_miou=0.7)))
    assert study_metrics(result)["runs_below_constant"] == 1
    assert "1 of 12 runs scored no more than doing nothing" in study_tags(result)["cryo.warnings"]
    assert "cryo.warnings" not in study_tags(with_weak_runs(a_result()))
    assert study_tags(result)["cryo.verdict"] == "improved"


def test_where_a_search_started_is_a_tag() -> None:
    assert "cryo.search_start" not in study_tags(a_result())
    told = "The search starts at the calibrated default."
    assert study_tags(a_result(search_start=told))["cryo.search_start"] == told
