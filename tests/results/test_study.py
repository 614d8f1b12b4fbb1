from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from cryo_hpo.errors import CryoError
from cryo_hpo.results.study import NAME, VERSION, Result, load_result, write
from cryo_hpo.stats import Interval, relative_improvement

from ..support.results import a_result, an_improvement

GOLDEN = Path(__file__).parents[1] / "golden"
UNBOUNDED = Interval.unbounded(math.inf, 0.95)
NO_SCORE = an_improvement(
    relative_pct=UNBOUNDED,
    typical_pct=UNBOUNDED,
    bca_pct=UNBOUNDED,
    spread_pct=None,
    verdict="not shown",
)
SCENES = an_improvement(scenes_pct=Interval(-1.5, 2.0, math.inf, 0.95))


ALL_LOST = relative_improvement([0.5] * 6, [0.0] * 6)


@pytest.mark.parametrize(
    "result",
    [
        a_result(),
        a_result(improvement=ALL_LOST),
        a_result(improvement=NO_SCORE),
        a_result(improvement=SCENES),
        a_result(winner=None, improvement=None, trials=(), mlflow_run_id=None),
        a_result(winner=0, winner_is_baseline=True),
    ],
    ids=["whole", "baseline lost", "unbounded", "scenes", "no search", "baseline won"],
)
def test_what_is_written_is_what_is_read(tmp_path, result: Result):
    file = write(result, tmp_path)
    assert (file, load_result(tmp_path), load_result(file)) == (tmp_path / NAME, result, result)
    assert json.loads(file.read_text())["version"] == VERSION
    assert [path.name for path in tmp_path.iterdir()] == [NAME], "no draft is left"


def test_a_folder_without_a_result_is_refused(tmp_path):
    with pytest.raises(CryoError, match=r"leaves 'result\.json'.*Run the study first"):
        load_result(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (json.dumps({"version": 3}), "it says 3"),
        (json.dumps({"version": 1}), "it says 1"),
        (json.dumps({"version": 1, "trials": [3]}), "it says 1"),
        ("{}", "it says None"),
        ("[1, 2]", "it says None"),
    ],
)
def test_another_version_is_refused(tmp_path, text, says):
    (tmp_path / NAME).write_text(text)
    with pytest.raises(CryoError, match=f"must be a study's result of version {VERSION}, {says}"):
        load_result(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b'{"version": 1, "study"', b'{"version": \xff}', b"\0" * 40]
)
def test_a_damaged_result_is_named_with_the_remedy_that_helps(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(CryoError, match=r"result\.json' is damaged: .*Remove it and run the same"):
        load_result(tmp_path)


def test_a_result_of_this_version_with_wrong_values_is_damaged_and_says_where(tmp_path):
    raw = json.loads(a_result().model_dump_json())
    raw["trials"][3]["epochs"] = "many"
    (tmp_path / NAME).write_text(json.dumps(raw))
    with pytest.raises(CryoError, match=r"is damaged: trials\.3\.epochs: .*integer.*Remove it and"):
        load_result(tmp_path)
    (tmp_path / NAME).write_text(json.dumps({"version": VERSION}))
    with pytest.raises(CryoError, match=r"damaged: study: Field required, and \d+ more problems"):
        load_result(tmp_path)


DAMAGED = {
    "no rate": (("best_recipe",), {}),
    "a rate in words": (("best_recipe", "optim", "lr"), "1e-4"),
    "an optimizer that is none": (("best_recipe", "optim"), 3),
    "data that are none": (("best_recipe", "data"), True),
    "no study": (("spec",), {}),
    "epochs in words": (("spec", "base", "epochs"), "9"),
    "a rule that is none": (("spec", "search", "scheduler"), True),
    "a rule without rungs": (("spec", "search", "scheduler", "grace_epochs"), None),
    "rungs without an end": (("spec", "search", "scheduler", "grace_epochs"), 0),
    "rungs that do not rise": (("spec", "search", "scheduler", "reduction"), 1),
    "a crop that is none": (("best_recipe", "data", "crop"), {"x": 1}),
    "a rate below 0": (("trials", 7, "lr"), -1.0),
    "a rate out of reach": (("trials", 7, "lr"), 1e308),
    "an infinite rate": (("arms", 0, "recipe", "optim", "lr"), math.inf),
    "a score that is no fraction": (("arms", 0, "seeds", 1, "test_miou"), 1.5),
    "a score out of reach": (("arms", 0, "seeds", 1, "val_score"), 1e308),
    "an arm without trainings": (("arms", 1, "seeds"), []),
    "no arms": (("arms",), []),
    "a gain of no repeat": (("improvement", "differences"), []),
    "a search that is none": (("spec", "search"), 1),
}


@pytest.mark.parametrize(("path", "value"), DAMAGED.values(), ids=DAMAGED)
def test_a_result_without_what_its_readers_need_is_damaged(tmp_path, path, value):
    raw = json.loads(a_result().model_dump_json())
    *above, last = path
    inner = raw
    for name in above:
        inner = inner[name]
    inner[last] = value
    (tmp_path / NAME).write_text(json.dumps(raw))
    with pytest.raises(CryoError, match=rf"is damaged: {path[0]}.*Remove it and run"):
        load_result(tmp_path)


def test_a_result_without_its_baseline_is_damaged(tmp_path):
    raw = json.loads(a_result().model_dump_json())
    raw["arms"] = [arm for arm in raw["arms"] if arm["name"] != "baseline"]
    (tmp_path / NAME).write_text(json.dumps(raw))
    with pytest.raises(
        CryoError, match=r"is damaged: arms: .*there is no baseline among paper, tuned"
    ):
        load_result(tmp_path)


def test_an_interval_is_stored_as_one_value_with_null_for_a_limit_that_is_not_set(tmp_path):
    write(a_result(improvement=SCENES), tmp_path)
    stored = json.loads((tmp_path / NAME).read_text())["improvement"]
    assert stored["scenes_pct"] == {"low": -1.5, "mid": 2.0, "high": None, "level": 0.95}
    assert stored["relative_pct"]["mid"] == pytest.approx(15.8, abs=0.05)


def test_a_result_that_0_1_0_wrote_is_read_in_the_terms_of_today(tmp_path):
    raw = json.loads((GOLDEN / "result-0.1.0.json").read_text())
    result = load_result(GOLDEN / "result-0.1.0.json")
    assert (raw["version"], result.version) == (1, VERSION)
    assert [step.decision for step in result.trials[2].steps] == [
        "continued", "paused", "promoted", "paused", "pruned",
    ]  # fmt: skip
    improvement = result.improvement
    assert improvement is not None
    scores = ([seed.test_miou for seed in result.arm(arm).seeds] for arm in ("tuned", "baseline"))
    assert improvement == replace(
        relative_improvement(*scores),
        scenes_pct=Interval(12.5, improvement.relative_pct.mid, 19.25, 0.95),
    )
    assert load_result(write(result, tmp_path)) == result, "it is written as version 2"


def test_decisions_of_0_1_0_keep_their_meaning(tmp_path):
    words = {"went on": "continued", "waited": "paused", "carried on": "promoted"}
    words |= {"paused": "pruned", "stopped": "pruned", "promoted": "promoted"}
    raw = json.loads((GOLDEN / "result-0.1.0.json").read_text())
    raw["trials"][0]["steps"] = [{"rung": 1, "decision": old, "place": 1, "of": 3} for old in words]
    (tmp_path / NAME).write_text(json.dumps(raw))
    steps = load_result(tmp_path).trials[0].steps
    assert [step.decision for step in steps] == list(words.values())


def test_limits_that_0_1_0_left_open_are_infinite(tmp_path):
    raw = json.loads((GOLDEN / "result-0.1.0.json").read_text())
    names = ("relative_pct", "low_pct", "high_pct", "typical_low_pct", "scenes_low_pct")
    raw["improvement"] |= dict.fromkeys((*names, "scenes_high_pct"))
    (tmp_path / NAME).write_text(json.dumps(raw))
    improvement = load_result(tmp_path).improvement
    assert improvement is not None
    assert improvement.relative_pct == UNBOUNDED
    assert improvement.typical_pct.low == -math.inf
    assert improvement.scenes_pct is None


def test_a_field_of_a_later_version_is_not_passed_over(tmp_path):
    file = write(a_result(), tmp_path)
    file.write_text(json.dumps({**json.loads(file.read_text()), "later": 1}))
    with pytest.raises(CryoError, match="1 problems"):
        load_result(tmp_path)


def test_an_arm_is_found_by_its_name():
    assert a_result().arm("tuned").name == "tuned"
