"""Everything that is shipped in `search_spaces/` loads, suggests and says what it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import optuna
import pytest

from cryo_hpo import SearchSpace, load_space, load_study
from cryo_hpo.config import (
    PATHS,
    DefineByRun,
    campaign_schema,
    dump_space,
    is_campaign,
    load_callable,
    load_campaign,
    schema,
    space_schema,
)
from cryo_hpo.config.files.marked_yaml import read

jsonschema = pytest.importorskip("jsonschema")
FOLDER = Path(__file__).parents[1] / "search_spaces"
SCHEMAS = {
    "study.schema.json": schema,
    "space.schema.json": space_schema,
    "campaign.schema.json": campaign_schema,
}
SPACES = sorted(FOLDER.glob("*.yaml"))
STUDIES = sorted((FOLDER / "studies").glob("*.yaml"))


def _name(path: Path) -> str:
    return path.name


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER.parent)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schema_in_the_file_is_the_one_of_the_code(name: str) -> None:
    text = json.dumps(SCHEMAS[name](), indent=2) + "\n"
    kind = name.split(".")[0]
    remedy = (
        f"run `cryo-hpo schema{'' if kind == 'study' else f' --{kind}'} > search_spaces/{name}`"
    )
    assert (FOLDER / name).read_text() == text, remedy
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name]())


@pytest.mark.parametrize("path", [*SPACES, *STUDIES], ids=_name)
def test_files_name_their_schema_and_keep_it(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert found, first
    file = (path.parent / found[1]).resolve()
    kind = "space" if path in SPACES else "campaign" if is_campaign(path) else "study"
    assert file == FOLDER / f"{kind}.schema.json"
    what = "search space" if kind == "space" else kind
    jsonschema.validate(read(path, what=what).raw, json.loads(file.read_text()))


@pytest.mark.parametrize("path", SPACES, ids=_name)
def test_spaces_suggest_what_they_contain(path: Path) -> None:
    space = load_space(path)
    assert set(space.params) <= set(PATHS)
    assert space.contains(space.suggest(_trial()))


@pytest.mark.parametrize("path", STUDIES, ids=_name)
def test_studies_load(path: Path) -> None:
    if is_campaign(path):
        assert path.stem == f"campaign-{load_campaign(path).name}"
    else:
        assert load_study(path).name == path.stem


def test_the_question_of_the_learning_rate_alone() -> None:
    (lr,) = load_space(FOLDER / "lr.yaml").params.items()
    assert lr[0] == "optim.lr"
    assert (lr[1].model_dump()) == {"kind": "float", "low": 1e-6, "high": 1e-2, "log": True}


def test_the_python_space_is_a_value_like_any_other(tmp_path: Path) -> None:
    space = load_space(f"{FOLDER / 'wide.py'}:space")
    (tmp_path / "wide.yaml").write_text(dump_space(space))
    assert load_space(tmp_path / "wide.yaml") == space
    points = [space.suggest(_trial(seed)) for seed in range(20)]
    assert all(space.contains(point) for point in points)
    assert {("loss.focal_gamma" in p) == (p["loss.name"] == "focal") for p in points} == {True}
    assert {len(p) for p in points} > {len(points[0])}


@pytest.mark.parametrize("source", ["wide.py:space", "define_by_run.py:space", "lr-groups.yaml"])
def test_a_study_takes_every_kind_of_space(source: str, tmp_path: Path) -> None:
    study = (FOLDER / "studies" / "quickstart.yaml").read_text()
    path = tmp_path / "study.yaml"
    path.write_text(re.sub(r"space: \S+", f"space: {FOLDER / source}", study))
    search = load_study(path).search
    assert search is not None
    assert isinstance(search.space, DefineByRun if "define" in source else SearchSpace)


def test_the_define_by_run_example_suggests_recipe_paths_by_their_names() -> None:
    function = load_callable(DefineByRun(file="search_spaces/define_by_run.py", function="space"))
    for seed in range(8):
        trial = _trial(seed)
        assert function(trial) == trial.params
        assert set(trial.params) <= set(PATHS)


def test_readme_names_every_file_and_its_yaml_is_its_python(tmp_path: Path) -> None:
    text = (FOLDER / "README.md").read_text()
    assert all(f"({path.name})" in text for path in [*SPACES, *FOLDER.glob("*.py")])
    yaml, python = (
        re.search(rf"```{lang}\n(.*?)```", text, re.DOTALL) for lang in ("yaml", "python")
    )
    assert yaml
    assert python
    (tmp_path / "a.yaml").write_text(yaml[1])
    names: dict[str, object] = {}
    exec(python[1].replace("\nSearchSpace(", "\nspace = SearchSpace("), names)
    assert names["space"] == load_space(tmp_path / "a.yaml")


def _trial(seed: int = 0) -> optuna.Trial:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
