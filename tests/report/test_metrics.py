"""The metrics of the field in the report, and scores in the unit of the metric that selects."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cryo_hpo.report import study
from cryo_hpo.report.figures import comparison, maps
from cryo_hpo.report.figures.retraining import retraining
from cryo_hpo.report.figures.style import GRID
from cryo_hpo.report.metrics import metrics, selected_by
from cryo_hpo.report.selection import Selection, describe
from cryo_hpo.report.table import Table
from cryo_hpo.report.wording import rungs
from cryo_hpo.results.files import EVENTS
from cryo_hpo.results.metrics import compare_metrics, parent_metrics, seed_metrics
from cryo_hpo.results.study import Result, RungStep
from cryo_hpo.storage.event_log import EventLog

from ..support.results import a_result, a_trial

VALUES = {  # of the four seeds of each arm
    "baseline": {"mde_m/ice": (120.0, 130.0, 110.0, 120.0), "f1/ice": (0.5, 0.5, 0.6, 0.6)},
    "tuned": {"mde_m/ice": (60.0, 62.0, 58.0, 60.0), "f1/ice": (0.7, 0.4, 0.6, 0.7)},
}


def measured(metric: str = "miou", **skipped: int) -> Result:
    """Return a result with two metrics; `baseline=2` leaves the distance out for seed 2."""
    result = a_result()
    arms = []
    for arm in result.arms:
        values = VALUES.get(arm.name, {})
        seeds = [
            seed.model_copy(
                update={
                    "test_metrics": {
                        name: of[number]
                        for name, of in values.items()
                        if name != "mde_m/ice" or skipped.get(arm.name) != seed.seed
                    }
                }
            )
            for number, seed in enumerate(arm.seeds)
        ]
        arms.append(arm.model_copy(update={"seeds": tuple(seeds)}))
    spec = {**result.spec, "search": {**result.spec["search"], "metric": metric}}
    return result.model_copy(update={"arms": tuple(arms), "spec": spec})


def test_metrics_of_both_arms_have_the_paired_interval() -> None:
    distance, f1 = compare_metrics(measured())
    assert (distance.baseline, distance.tuned) == (120, 60)
    assert distance.difference is not None
    assert distance.difference.mid == -60
    # Student's, of -60, -68, -52, -60: half width 3.1824 * 6.532 / 2
    assert distance.difference.high == pytest.approx(-60 + 10.394, abs=1e-3)
    assert f1.difference is not None
    assert f1.difference.low < 0 < f1.difference.high
    (*_, text) = [part for part in metrics(measured()) if isinstance(part, Table)]
    assert text.rows[0][-1] == "tuned", "of an error, less is better"
    (classes,) = [t for t in metrics(measured()) if isinstance(t, Table) and "F1" in t.rows[0][0]]
    assert classes.rows[0][-1] == "-", "the interval holds 0"


def test_a_seed_without_a_value_leaves_with_its_pair() -> None:
    distance, _ = compare_metrics(measured(tuned=2))
    assert (distance.seeds, distance.of) == (3, 4)
    assert distance.baseline == pytest.approx(350 / 3)
    tables = [part for part in metrics(measured(tuned=2)) if isinstance(part, Table)]
    assert [table.head[-1] for table in tables] == ["better", "repeats"]


def test_mlflow_gets_the_same_numbers() -> None:
    result = measured()
    values = parent_metrics(result)
    assert values["baseline.test_mde_m/ice"] == 120
    assert values["difference.test_mde_m/ice"] == -60
    assert values["difference.test_mde_m/ice.low"] < -60
    assert seed_metrics(result, result.arm("tuned").seeds[0])["test_f1/ice"] == 0.7


def test_scores_of_an_error_are_shown_in_its_unit() -> None:
    shown = Selection("mde_m/ice|ocean")
    assert shown.text(-120.5) == "120.50"
    assert shown.label == "mean distance error of ice|ocean (m, less is better)"
    assert Selection("miou").text(0.5) == "50.00"
    assert Selection("iou/ice").label == "IoU of ice (%)"
    assert describe("f1") == "mean F1"
    assert shown.text(None) == "-"


def test_the_report_says_what_selected() -> None:
    (sentence,) = selected_by(measured("mde_m/ice"))
    assert "mean distance error of ice" in sentence
    assert not selected_by(measured())
    page = study.page(measured("mde_m/ice"))
    texts = [p for s in page.sections for p in s.parts if isinstance(p, str)]
    assert any("mean distance error of ice (m, less is better)" in text for text in texts)


def test_the_rung_table_gives_the_reason_of_a_promotion_that_is_no_best_third() -> None:
    steps = (RungStep(rung=3, decision="promoted", place=1, of=2),)
    result = a_result(trials=(a_trial(0), a_trial(7, steps=steps)))
    assert rungs(result).rows[1][-1].endswith("(1 of 2), the best left at the search's end")
    steps = (RungStep(rung=3, decision="promoted", place=1, of=3),)
    result = a_result(trials=(a_trial(0), a_trial(7, steps=steps)))
    assert rungs(result).rows[1][-1].endswith("(1 of 3)")


def test_captions_name_only_what_is_drawn() -> None:
    alone = a_result(arms=(a_result().arm("baseline"),))
    for result, word in ((a_result(), "tuned"), (alone, "best and worst")):
        page = study.page(result, figures=[maps.NAME])
        (picture,) = [p for s in page.sections if s.title == "Maps" for p in s.parts]
        assert word in picture.alt  # type: ignore[union-attr]
    assert "tuned" not in picture.alt  # type: ignore[union-attr]


class _Look(NamedTuple):
    """Hold how a figure draws an entry of its legend."""

    color: str
    dashes: str


def _looks_of_legend(svg: Path) -> dict[str, _Look]:
    """Return entry -> look: the first shape before its text."""
    _, _, legend = svg.read_text(encoding="utf-8").partition('<g id="legend_1">')
    pieces = re.split(r"<!-- (.+?) -->", legend)
    handles = [re.search(r'style="(fill: [^"]*)"', piece) for piece in _before(pieces[::2])]
    return {
        name: _look(handle[1])
        for name, handle in zip(pieces[1::2], handles, strict=True)
        if handle is not None
    }


def _before(pieces: list[str]) -> list[str]:
    """Return what stands before each text: after the first one, what follows the text's own group."""
    return [pieces[0], *(piece.partition('<g id="')[2] for piece in pieces[1:-1])]


def _look(style: str) -> _Look:
    facts = dict(part.split(": ", 1) for part in style.split("; "))
    return _Look(facts.get("stroke", facts["fill"]), facts.get("stroke-dasharray", ""))


def _lines_drawn(svg: Path) -> list[_Look]:
    """Return the looks of the lines in the axes that are no grid, ticks or spines."""
    axes, _, _ = svg.read_text(encoding="utf-8").partition('<g id="legend_1">')
    styles = re.findall(r'<path d="[^"]*" clip-path="[^"]*" style="(fill: none; [^"]*)"', axes)
    return [look for look in map(_look, styles) if look.color != GRID.lower()]


def test_the_curves_of_the_compared_trainings_are_drawn_raw_and_best(tmp_path: Path) -> None:
    with contextlib.closing(EventLog(tmp_path / EVENTS)) as log:
        for epoch, value in enumerate((0.3, 0.2, 0.5), start=1):
            more: dict[str, Any] = {"best_val_miou": max(value, 0.3), "val_miou": value}
            for key in ("baseline-seed1", "tuned-seed1"):
                log.append("epoch", key=key, epoch=epoch, **more)
    files = retraining(a_result(), tmp_path, tmp_path / "curves")
    assert [file.suffix for file in files] == [".svg", ".png"]
    looks = _looks_of_legend(files[0])
    assert list(looks) == ["baseline", "tuned", "each epoch", "best so far"]
    assert len(set(looks.values())) == 4, "no two entries look alike"
    baseline, tuned, each, best = looks.values()
    assert each.color == best.color not in (baseline.color, tuned.color), "of both arms"
    assert each.dashes
    assert not best.dashes
    assert set(_lines_drawn(files[0])) == {
        _Look(arm.color, kind.dashes) for arm in (baseline, tuned) for kind in (each, best)
    }
    assert not retraining(a_result(), None, tmp_path / "none")


def test_one_lost_seed_does_not_stretch_the_axis() -> None:
    seeds = list(a_result().arm("tuned").seeds)
    assert comparison._left_end(seeds) == float("-inf")
    seeds[0] = seeds[0].model_copy(update={"test_miou": 0.05, "collapsed": True})
    left = comparison._left_end(seeds)
    assert 75 < left < 81.2
    near = seeds[0].model_copy(update={"test_miou": 0.80})
    assert comparison._left_end([near, *seeds[1:]]) == float("-inf")


@pytest.mark.parametrize(
    ("longest", "length"), [(999, 500), (1000, 1000), (2300, 2000), (0.7, 0.5)]
)
def test_scale_bars_have_round_lengths(longest: float, length: float) -> None:
    assert maps.nice_length(longest) == pytest.approx(length)


def test_positions_are_written_as_people_do() -> None:
    assert maps.format_position(-66.3, -68.92) == "68.92° S, 66.30° W"
