from __future__ import annotations

import json

import pytest

from cryo_hpo.errors import CryoError
from cryo_hpo.results.study import NAME, VERSION, Result, load_result, write

from ..support.results import a_result, an_improvement

UNBOUNDED = an_improvement(relative_pct=None, low_pct=None, high_pct=None)


@pytest.mark.parametrize(
    "result",
    [
        a_result(),
        a_result(improvement=UNBOUNDED),
        a_result(winner=None, improvement=None, trials=(), mlflow_run_id=None),
        a_result(winner=0, winner_is_baseline=True),
    ],
    ids=["whole", "unbounded", "no search", "baseline won"],
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
        (json.dumps({"version": 2}), "it says 2"),
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


def test_a_result_of_version_1_is_read_with_the_words_of_today(tmp_path):
    words = {"went on": "continued", "waited": "paused", "carried on": "promoted"}
    words |= {"paused": "pruned", "stopped": "pruned", "promoted": "promoted"}
    raw = json.loads(a_result().model_dump_json())
    raw["version"] = 1
    raw["trials"][8]["steps"] = [{"rung": 1, "decision": old, "place": 1, "of": 3} for old in words]
    (tmp_path / NAME).write_text(json.dumps(raw))
    result = load_result(tmp_path)
    assert [step.decision for step in result.trials[8].steps] == list(words.values())
    assert result.version == VERSION
    assert load_result(write(result, tmp_path)) == result, "it is written as version 2"


def test_a_field_of_a_later_version_is_not_passed_over(tmp_path):
    file = write(a_result(), tmp_path)
    file.write_text(json.dumps({**json.loads(file.read_text()), "later": 1}))
    with pytest.raises(CryoError, match="1 problems"):
        load_result(tmp_path)


def test_an_arm_is_found_by_its_name():
    assert a_result().arm("tuned").name == "tuned"
