from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryo_hpo import Float, SearchSpace, Study, load_card, load_space, load_study
from cryo_hpo.config import DefineByRun, differences, dump_space, dump_study, load_callable
from cryo_hpo.config.files.marked_yaml import read, write
from cryo_hpo.config.messages import MOST_UNKNOWN
from cryo_hpo.errors import SpecError

from ..support.spaces import calm, scalars, spaces, studies, texts

STUDY = """\
name: x
base: {data: {name: lakes-demo}}
search:
  space: SPACE
  trials: 3
"""
LR = "params:\n  optim.lr: {kind: float, low: 1e-6, high: 1e-2, log: true}\n"
CARD = """\
name: mine
root: mine
images: "{split}/images/{id}.tif"
masks: "{split}/masks/{id}.png"
bands: [B4, B3]
classes: [other, lake]
"""
PYTHON = """\
from cryo_hpo import Float, SearchSpace


def space():
    return SearchSpace(params={"optim.lr": Float(low=1e-6, high=1e-2, log=True)})


def misspelt():
    return SearchSpace(params={"optim.lrr": Float(low=1, high=1)})


def reversed_bounds():
    return SearchSpace(params={"optim.lr": Float(low=2, high=1)})


def nothing():
    pass


def two(trial, more):
    pass


def asks(trial):
    return {"optim.lr": trial.suggest_float("optim.lr", 1e-6, 1e-2, log=True)}


def asks_misspelt(trial):
    return {"optim.lrr": trial.suggest_float("optim.lrr", 1e-6, 1e-2, log=True)}


def asks_far(trial):
    return {"batch_size": trial.suggest_int("batch_size", 0, 8)}


def asks_other(trial):
    return {"batch_size": trial.suggest_uniform("batch_size", 0, 8)}


def gives_nothing(trial):
    return {}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a space and a card in it."""
    monkeypatch.chdir(tmp_path)
    Path("lr.yaml").write_text(LR)
    Path("card.yaml").write_text(CARD)
    Path("spaces.py").write_text(PYTHON)
    return tmp_path


def _refused(text: str | bytes) -> list[str]:
    Path("study.yaml").write_bytes(text if isinstance(text, bytes) else dedent(text).encode())
    with pytest.raises(SpecError) as caught:
        load_study(Path("study.yaml"))
    return str(caught.value).splitlines()


def _loaded(text: str, file: str = "study.yaml") -> Study:
    Path(file).parent.mkdir(exist_ok=True)
    Path(file).write_text(dedent(text))
    return load_study(Path(file))


# --- round trips ---------------------------------------------------------------------------------


@calm
@given(study=studies)
def test_a_study_reads_back_as_it_was_written(
    study: Study, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "dumped.yaml"
    path.write_text(dump_study(study), encoding="utf-8")
    again = load_study(path)
    assert again == study
    assert again.base.id == study.base.id
    assert differences(again, study) == []


@calm
@given(space=spaces())
def test_a_space_reads_back_as_it_was_written(
    space: SearchSpace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "space.yaml"
    path.write_text(dump_space(space), encoding="utf-8")
    again = load_space(path)
    assert again == space
    assert list(again.params) == list(space.params)


@calm
@given(raw=st.dictionaries(texts, scalars | st.none() | st.lists(scalars), min_size=1))
def test_yaml_reads_back_with_types(
    raw: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "raw.yaml"
    path.write_text(write(raw), encoding="utf-8")
    again = read(path, what="study").raw
    assert again == raw
    assert repr(again) == repr(raw)


def test_python_and_yaml_are_two_views_of_one_value(here: Path) -> None:
    space = SearchSpace(params={"optim.lr": Float(low=1e-6, high=1e-2, log=True)})
    assert load_space("lr.yaml") == load_space("spaces.py:space") == space


# --- YAML 1.2 ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E+3", 1e3),
        (".5", 0.5),
        ("1.", 1.0),
        ("-.inf", -float("inf")),
        ("010", 10),
        ("0o10", 8),
        ("0x10", 16),
        ("+3", 3),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("y", "y"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("2024-01-01", "2024-01-01"),
        ("'1e-4'", "1e-4"),
        ("=", "="),
    ],
)
def test_scalars_are_those_of_yaml_1_2(here: Path, text: str, value: object) -> None:
    Path("a.yaml").write_text(f"a: {text}\n")
    got = read(Path("a.yaml"), what="study").raw["a"]
    assert got == value
    assert type(got) is type(value)


def test_keys_are_text_and_aliases_are_copies(here: Path) -> None:
    Path("a.yaml").write_text("on: &x [1]\n12: *x\n")
    raw = read(Path("a.yaml"), what="study").raw
    assert raw == {"on": [1], "12": [1]}
    assert raw["on"] is not raw["12"]


# --- what a study may name -----------------------------------------------------------------------


def test_space_and_card_files_are_relative_to_the_study_and_inlined(here: Path) -> None:
    text = STUDY.replace("SPACE", "../lr.yaml").replace(
        "{name: lakes-demo}", "{card: ../card.yaml}"
    )
    study = _loaded(text, "studies/a.yaml")
    assert study.search is not None
    assert study.search.space == load_space("lr.yaml")
    assert study.base.data.card is not None
    assert study.base.data.card.classes == ("other", "lake")
    Path("elsewhere.yaml").write_text(dump_study(study))
    assert load_study("elsewhere.yaml") == study


def test_a_function_without_parameters_gives_the_value(here: Path) -> None:
    study = _loaded(STUDY.replace("SPACE", "../spaces.py:space"), "studies/a.yaml")
    assert study.search is not None
    assert study.search.space == load_space("lr.yaml")


def test_a_function_of_a_trial_stays_a_function(here: Path) -> None:
    study = _loaded(STUDY.replace("SPACE", "../spaces.py:asks"), "studies/a.yaml")
    assert study.search is not None
    assert study.search.space == DefineByRun(file="spaces.py", function="asks")
    Path("b").mkdir()
    Path("b/dumped.yaml").write_text(dump_study(study))
    assert load_study("b/dumped.yaml") == study

    class Fixed:
        def suggest_float(self, *args: object, **kwargs: object) -> float:
            assert (args, kwargs) == (("optim.lr", 1e-6, 1e-2), {"log": True})
            return 1e-3

    assert load_callable(study.search.space)(Fixed()) == {"optim.lr": 1e-3}


def test_differences_name_paths_and_both_values(here: Path) -> None:
    a = _loaded(STUDY.replace("SPACE", "lr.yaml"))
    b = _loaded(STUDY.replace("SPACE", "lr.yaml").replace("demo}", "demo}, epochs: 27"))
    c = _loaded(STUDY.split("search")[0])
    assert differences(a, b) == ["base.epochs: 80 -> 27"]
    assert "search: absent -> None" in differences(a, c)
    assert "search.trials: 3 -> absent" in differences(a, c)


# --- messages ------------------------------------------------------------------------------------


def test_all_problems_of_all_files_come_at_once_in_order(here: Path) -> None:
    Path("bad.yaml").write_text("params:\n  optim.lr: {kind: float, low: 1e-2, high: 1e-6}\n")
    lines = _refused(
        """\
        name: x
        base:
          data: {name: lakes-demo, crop: 64.5}
          optim:
            lr: fast
            schedule: cosin
        search:
          space: bad.yaml
          trails: 3
        seeds: [1, 1]
        baselines: {paper: {optim.lrr: 1}}
        """
    )
    starts = [line[: line.index(": ", line.index(": ") + 1)] for line in lines]
    assert starts == [
        "study.yaml:3: base.data.crop",
        "study.yaml:5: base.optim.lr",
        "study.yaml:6: base.optim.schedule",
        "study.yaml:7: search.trials",
        "study.yaml:9: search.trails",
        "study.yaml:10: seeds",
        "study.yaml:11: baselines.paper.optim.lrr",
        "bad.yaml:2: params.optim.lr",
    ]


def test_unknown_encoders_are_reported_with_all_other_problems(here: Path) -> None:
    lines = _refused(
        """\
        name: x
        base:
          data: {name: lakes-demo}
          model: {decoder: upernot, encoder: galilei}
          epochs: -3
        baselines: {paper: {model.encoder: dofa}, small: {model.encoder: unet}}
        search:
          trials: 3
          space: {params: {model.encoder: {kind: categorical, values: [unet, prest]}}}
        """
    )
    encoders = [line for line in lines if "No encoder named" in line]
    assert [line.partition(" Known:")[0] for line in encoders] == [
        "study.yaml:4: base.model.encoder: No encoder named 'galilei'. Did you mean 'galileo-nano'?",
        "study.yaml:6: baselines.paper.model.encoder: No encoder named 'dofa'. Did you mean 'dofa-base'?",
        "study.yaml:9: search.space.params.model.encoder.values[1]: No encoder named 'prest'. "
        "Did you mean 'presto'?",
    ]
    assert any("base.model.decoder" in line for line in lines)
    assert any("base.epochs" in line for line in lines)


def test_what_is_wrong_in_one_place_does_not_bring_up_more_elsewhere(here: Path) -> None:
    for text in (
        "name: x\nbase: {data: {name: a}}\nseeds: [one]\n",
        "name: x\nbase: 3\n",
        "name: [x]\nbase: {data: {name: a}}\n",
        "name: x\nbase: {data: {name: a}, epochs: many}\n",
        "name: x\nbase: {data: {name: a}, data_: 1}\n",
    ):
        assert len(_refused(text)) == 1, text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "study.yaml: The file is empty."),
        ("# nothing\n", "study.yaml: The file is empty."),
        ("- a\n", "study.yaml:1: A list is not a study."),
        ("name: x\nbase: {a: 1\n", "study.yaml:3: Not valid YAML: expected ',' or '}'"),
        ("name: x\nbase:\n\tdata: 1\n", "study.yaml:3: Not valid YAML: found character '\\t'"),
        ("name: x\n---\nname: y\n", "study.yaml:2: Not valid YAML: expected a single document"),
        ("name: x\nbase: \x07\n", "study.yaml:2: Unprintable character U+0007."),
        (b"name: \xff\n", "study.yaml: Not text in UTF-8: invalid start byte."),
        (
            "name: x\nbase: {data: {name: a}}\n\nname: y\n",
            "study.yaml:4: name: Key 'name' is repeated; it is also on line 1. Remove one of them.",
        ),
        ("name: !!python/name:os.x y\n", "study.yaml:1: name: Tag '"),
        ("name: x\nbase: &a [*a]\n", "study.yaml:2: base[0]: Alias refers to itself."),
        ("name: x\n? [a]\n: 1\n", "study.yaml:2: Key is a collection."),
        (
            "name: x\nbase: " + "[" * 5000 + "]" * 5000,
            "study.yaml:2: Collections are nested more than",
        ),
        (
            "a0: &a0 {k: 1}\n"
            + "".join(f"a{i}: &a{i} {{l: *a{i - 1}, r: *a{i - 1}}}\n" for i in range(1, 26)),
            "Aliases expand to more than 100,000 values",
        ),
        (
            "name: x\nbase: {seed: 0x" + "f" * 4000 + "}\n",
            "study.yaml:2: base.seed: Number is beyond",
        ),
        ("name: x\nbase: {seed: 1" + "0" * 29 + "}\n", "study.yaml:2: base.seed: Number is beyond"),
        ("# " + "x" * 2**20, "study.yaml: The file is larger than 1,048,576 bytes"),
        (
            "name: x\nbse: {data: {name: a}}\n",
            "study.yaml:2: bse: No key named 'bse' here. Did you mean 'base'?",
        ),
        ("name: x\n", "study.yaml:1: base: Required key is missing. Add it."),
        ("name: x\nbase: {data: {}}\n", "study.yaml:2: base.data: No dataset is given. Set `name`"),
        (
            STUDY.replace("SPACE", "lrr.yaml"),
            "study.yaml:4: search.space: There is no search space file 'lrr.yaml'. "
            "Did you mean 'lr.yaml'?",
        ),
        (
            STUDY.replace("SPACE", "lr.yaml").replace("{name: lakes-demo}", "{card: crd.yaml}"),
            "study.yaml:2: base.data.card: There is no dataset card file 'crd.yaml'. "
            "Did you mean 'card.yaml'?",
        ),
        (
            STUDY.replace("SPACE", "../lr.py:space"),
            "and a Python space is code that runs. Copy it there",
        ),
        (
            STUDY.replace("SPACE", "spaces.py"),
            "No function is named in 'spaces.py'. Write 'file.py:function'.",
        ),
        (
            STUDY.replace("SPACE", "sp.py:space"),
            "search.space: There is no search space file 'sp.py'.",
        ),
        (
            STUDY.replace("SPACE", "spaces.py:spce"),
            "study.yaml:4: search.space: No function in 'spaces.py' named 'spce'. Did you mean 'space'?",
        ),
        (
            STUDY.replace("SPACE", "spaces.py:nothing"),
            "spaces.py:16: 'nothing' returned ",
        ),
        (
            STUDY.replace("SPACE", "spaces.py:two"),
            "spaces.py:20: 'two' takes 2 parameters.",
        ),
        (
            STUDY.replace("SPACE", "spaces.py:reversed_bounds"),
            "spaces.py:13: Float: low must not exceed high, got low=2, high=1. Swap them.",
        ),
        (
            STUDY.replace("SPACE", "spaces.py:misspelt"),
            "spaces.py:8: params.optim.lrr: No recipe parameter named",
        ),
        (
            STUDY.replace("SPACE", "spaces.py:asks_misspelt"),
            "study.yaml:4: search.space: 'asks_misspelt' gives 'optim.lrr': No recipe parameter named 'optim.lrr'.",
        ),
        (
            STUDY.replace("SPACE", "spaces.py:asks_far"),
            "'asks_far' gives 'batch_size': Must be at least 1, got 0.",
        ),
        (
            STUDY.replace("SPACE", "spaces.py:asks_other"),
            "spaces.py:37: The code of the space raised",
        ),
        (
            STUDY.replace("SPACE", "spaces.py:gives_nothing"),
            "'gives_nothing' returned an empty mapping, not recipe paths",
        ),
        (
            STUDY.replace("SPACE", "{file: spaces.py, function: space}"),
            "spaces.py:4: 'space' takes 0 parameters, and a define-by-run function takes one",
        ),
    ],
)
def test_messages(here: Path, text: str | bytes, message: str) -> None:
    lines = _refused(text)
    assert any(message in line for line in lines), lines


def test_of_many_unknown_keys_the_first_are_named_and_the_others_counted(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        "name: x\nbase:\n  data: {name: lakes-demo}\n"
        + "".join(f"  key{number}: 1\n" for number in range(3000))
    )
    with pytest.raises(SpecError) as refused:
        load_study(tmp_path / "study.yaml")
    lines = str(refused.value).splitlines()
    assert len(lines) == MOST_UNKNOWN + 1
    assert "study.yaml:2: base: 2,980 more keys here are unknown." in str(refused.value)
    assert "study.yaml:23: base.key19: No key named 'key19' here" in lines[-1]


@pytest.mark.parametrize("word", ["Value error", "Input should be", "invalid", "failed", "union"])
def test_messages_are_not_pydantics(here: Path, word: str) -> None:
    lines = _refused(
        """\
        name: 3
        base: {data: 1, model: {drop_path: 2, tune: some}, optim: {lr: [1]}, epochs: 1.5}
        search: {space: {params: {a: 1, b: {kind: x}, c: {kind: choice, values: [[]]}}}, trials: x}
        seeds: {}
        resources: {gpus: {}}
        baselines: {paper: {optim.lr: null}}
        """
    )
    assert len(lines) > 10
    assert not any(word in line for line in lines)
    assert all(re.match(r"study\.yaml:[1-6]: [\w.\[\]]+: [A-Z'].*\.( |$)", line) for line in lines)


def test_a_broken_file_within_is_named_itself(here: Path) -> None:
    Path("bad.yaml").write_text("params:\n  a: {b\n")
    lines = _refused(STUDY.replace("SPACE", "bad.yaml").replace("trials: 3", "trials: 0"))
    assert [line[: line.index(": ")] for line in lines] == ["study.yaml:5", "bad.yaml:3"]


def test_laws_of_a_study_about_a_file_are_at_its_line(here: Path) -> None:
    Path("bad.yaml").write_text(
        "# a comment\nparams:\n  optim.lrr: {kind: float, low: 1, high: 2}\n"
    )
    (line,) = _refused(STUDY.replace("SPACE", "bad.yaml"))
    assert line.startswith(
        "bad.yaml:3: params.optim.lrr: No recipe parameter named 'optim.lrr'. Did you mean"
    )


def test_a_card_file_has_its_own_lines(here: Path) -> None:
    Path("card.yaml").write_text(CARD.replace("{id}.png", "x.png"))
    (line,) = _refused("name: x\nbase: {data: {card: card.yaml}}\n")
    assert line.startswith("card.yaml:4: masks: A path template holds {id}, ")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def space(:\n", "bad.py:1: Not valid Python: "),
        (
            "import nothing_of_that_name\n",
            "bad.py:1: The code of the space raised ModuleNotFoundError",
        ),
        (
            "x = 1\nraise ValueError('why')\n",
            "bad.py:2: The code of the space raised ValueError: why.",
        ),
        (
            "from cryo_hpo import load_space\ndef space():\n    return load_space('no.yaml')\n",
            "bad.py:3: There is no search space file",
        ),
    ],
)
def test_python_that_does_not_run_is_shown_with_its_line(
    here: Path, code: str, message: str
) -> None:
    Path("bad.py").write_text(code)
    with pytest.raises(SpecError) as caught:
        load_space("bad.py:space")
    assert message in str(caught.value)


def test_load_space_wants_a_value(here: Path) -> None:
    with pytest.raises(SpecError, match="'asks' takes a trial"):
        load_space("spaces.py:asks")


def test_load_space_gives_all_problems_of_a_file(here: Path) -> None:
    Path("bad.yaml").write_text(
        "params:\n  optim.lr: {kind: flaot, low: 1}\n  batch_size: {kind: int, low: 3, hihg: 4}\nwen: {}\nwen: {}\n"  # codespell:ignore
    )
    with pytest.raises(SpecError) as caught:
        load_space(Path("bad.yaml"))
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["bad.yaml:2", "params.optim.lr.kind"],
        ["bad.yaml:3", "params.batch_size.high"],
        ["bad.yaml:3", "params.batch_size.hihg"],
        ["bad.yaml:4", "wen"],
        ["bad.yaml:5", "wen"],
    ]


def test_a_python_space_may_not_be_linked_in_from_outside(
    here: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "space.py"
    outside.write_text(PYTHON)
    Path("link.py").symlink_to(outside)
    with pytest.raises(SpecError, match="is outside the working directory"):
        load_space("link.py:space")


def test_a_python_file_runs_only_when_it_is_named(here: Path) -> None:
    Path("touch.py").write_text("open('ran', 'w').close()\n")
    _loaded(STUDY.replace("SPACE", "lr.yaml"))
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("text", "load", "message"),
    [
        ("images: a\nmasks: b\n", load_study, "a dataset card, not a study.*data check other.yaml"),
        ("params: {}\n", load_study, "a search space, not a study.*cryo-hpo space other.yaml"),
        (
            "name: x\nbase: {}\n",
            load_card,
            "a study, not a dataset card.*cryo-hpo check other.yaml",
        ),
        ("base: {}\n", load_space, "a study, not a search space"),
    ],
)
def test_a_file_of_another_kind_is_named_as_what_it_is(
    here: Path, text: str, load: Callable[[Path], object], message: str
) -> None:
    Path("other.yaml").write_text(text)
    with pytest.raises(SpecError, match=message) as caught:
        load(Path("other.yaml"))
    assert "No key named" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.yaml", "There is no study file"),
        ("a/no.yaml", "There is no folder 'a' either"),
        (".", "must be a file, it is a folder"),
    ],
)
def test_missing_study(here: Path, name: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load_study(Path(name))
