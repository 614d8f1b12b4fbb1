"""The command line in process, where no cluster is needed."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import cryo_hpo
from cryo_hpo.cli.main import main
from cryo_hpo.config import load_space
from cryo_hpo.results.study import write

from ..support.fakes import fake_folder
from ..support.results import a_result

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(main.commands)


def _run(*words: str | Path):
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def site(tmp_path, monkeypatch):
    for name in ("DATA", "STORAGE", "CACHE", "WEIGHTS"):
        monkeypatch.setenv(f"CRYO_{name}", str(tmp_path / name.lower()))
    return tmp_path


@pytest.fixture
def study(site):
    card = fake_folder(site / "data", num=(4, 2, 2), size=(32, 32))
    path = site / "tiny.yaml"
    recipe = {
        "data": {"card": json.loads(card.model_dump_json()), "crop": 32},
        "model": {"encoder": "unet", "decoder": "unet", "width": 4},
        "batch_size": 2,
        "epochs": 9,
    }
    space = {"params": {"optim.lr": {"kind": "float", "low": 1e-5, "high": 1e-2, "log": True}}}
    path.write_text(
        json.dumps({"name": "tiny", "base": recipe, "search": {"space": space, "trials": 6}})
    )
    return path


def test_the_help_names_every_command_and_variable():
    done = _run("--help")
    assert done.exit_code == 0
    for word in (*COMMANDS, "CRYO_DATA", "CRYO_STORAGE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        assert word in done.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches(command):
    done = _run(command, "--help")
    assert done.exit_code == 0
    assert len(done.output.splitlines()) > 4


def test_the_commands_are_the_promised_ones():
    promised = "run check plan report resume space schema list ui"
    assert set(promised.split()) <= set(COMMANDS)


def test_check_prints_splits_groups_and_the_next_command(study):
    done = _run("check", study)
    assert done.exit_code == 0, done.output
    assert "train: 4 scenes, 3 bands, uint8" in done.output
    assert "decoder/decay" in done.output
    assert "band of unet     um  filled with  layer of the image" in done.output
    assert "\nB3            0.560  B3                            2\n" in done.output
    assert "Every trainable parameter is in exactly one of" in done.output
    assert f"cryo-hpo run {study}" in done.output


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            ["Protocol: corrected (the study's own settings; no published procedure is repeated)."],
        ),
        (
            {"protocol": "cryo-bench", "precision": "fp32"},
            [
                "Protocol: cryo-bench@1, but for what this study says:",
                "  batch_size: 2 instead of 8",
                "  epochs: 9 instead of 80",
            ],
        ),
    ],
)
def test_check_says_where_a_study_departs_from_the_protocol(study, changes, said):
    spec = json.loads(study.read_text())
    del spec["search"]
    study.write_text(json.dumps({**spec, "base": {**spec["base"], **changes}}))
    done = _run("check", study)
    assert done.exit_code == 0, done.output
    assert "\n".join(said) in done.output


def _odd(spec, *path, to):
    """Set a key of a study's file, given as its path."""
    for name in path[:-1]:
        spec = spec.setdefault(name, {})
    spec[path[-1]] = to


ODD = {
    ("base", "optim"): (
        {"lr": 10.0},
        "base.optim.lr: 10 is above 1, and adamw moves every weight by about the learning rate at "
        "each step, so training diverges. Did you mean 1e-4, its default?",
    ),
    ("baselines", "hot"): ({"optim.lr": 3.0}, "baselines.hot.optim.lr: 3 is above 1"),
    ("search", "space", "params", "optim.lr"): (
        {"kind": "float", "low": 1e-5, "high": 2.0, "log": True},
        "search.space.params.optim.lr: 2 is above 1",
    ),
    ("search", "trials"): (1, "search.trials: 1 trains only the baseline"),
    ("base", "batch_size"): (
        64,
        "base.batch_size: 64 is more than the 4 crops of an epoch (of 4 training scenes): an epoch "
        "is one step, and its batch holds 4. Lower it to 4 or less",
    ),
    ("search", "space", "params", "batch_size"): (
        {"kind": "choice", "values": [2, 16]},
        "search.space.params.batch_size: 16 is more than the 4 crops",
    ),
    ("base", "data", "crop"): (
        256,
        "base.data.crop: 256 is more than the largest training scene has (32 x 32 pixels): every scene "
        "is padded up to the crop. Lower it to 32 or less",
    ),
}


@pytest.mark.parametrize("path", ODD)
def test_check_warns_of_what_makes_no_sense_and_lets_it_run(study, path):
    value, words = ODD[path]
    spec = json.loads(study.read_text())
    assert "is above 1" not in (good := _run("check", study)).stderr
    assert "more than the" not in good.stderr
    _odd(spec, *path, to=value)
    study.write_text(json.dumps(spec))
    done = _run("check", study)
    assert done.exit_code == 0, done.output
    assert words in done.stderr
    assert "can run: cryo-hpo run" in done.stdout


def test_a_high_rate_of_another_optimizer_is_nothing_odd(study):
    spec = json.loads(study.read_text())
    spec["base"]["optim"] = {"name": "prodigy", "lr": 2.0}
    del spec["search"]
    study.write_text(json.dumps(spec))
    assert "is above 1" not in _run("check", study).stderr


def test_plan_says_what_a_study_costs(study):
    done = _run("plan", study)
    assert done.exit_code == 0, done.output
    assert "trials: 6" in done.output
    assert "at most 54" in done.output
    assert "paired retraining: 90" in done.output


@pytest.mark.parametrize(
    ("what", "word"),
    [("encoders", "galileo-nano"), ("decoders", "upernet"), ("datasets", "lakes-demo")],
)
def test_list_shows_what_a_spec_can_name(what, word):
    done = _run("list", what)
    assert done.exit_code == 0
    assert word in done.output


@pytest.mark.parametrize(
    ("what", "name", "file"),
    [
        ("spaces", "lr", "search_spaces/lr.yaml"),
        ("studies", "quickstart", "search_spaces/studies/quickstart.yaml"),
        ("cards", "melt-ponds", "search_spaces/studies/cards/melt-ponds.yaml"),
        ("notebooks", "quickstart", "search_spaces/notebooks/quickstart.ipynb"),
    ],
)
def test_list_shows_what_ships_with_its_files(what, name, file, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    assert any(
        line.startswith(name) and line.endswith(file)
        for line in _run("list", what).output.splitlines()
    )
    monkeypatch.chdir(tmp_path)
    file = _run("list", what).output.split(f"\n{name} ")[1].split("\n")[0].split()[-1]
    assert Path(file).is_file()


def test_a_study_that_ships_is_named_anywhere(site, monkeypatch):
    monkeypatch.chdir(site)
    done = _run("plan", "quickstart")
    assert done.exit_code == 0, done.output
    assert "trials: 12" in done.output
    done = _run("plan", "quikstart")
    assert done.exit_code == 2
    assert "Did you mean 'quickstart'?" in done.output


def test_plan_takes_the_name_of_a_study_that_has_begun(site, study, monkeypatch):
    by_file = _run("plan", study)
    monkeypatch.chdir(site)
    shutil.copy(study, "mine.yaml")
    done = _run("plan", "mine")
    assert done.exit_code == 2
    assert "'mine' has not begun" in done.output
    assert "Write mine.yaml" in done.output
    folder = site / "storage/mine"
    folder.mkdir(parents=True)
    shutil.copy(study, folder / "study.yaml")
    for word in ("mine", folder):
        begun = _run("plan", word)
        assert begun.exit_code == 0, begun.output
        assert begun.output.splitlines()[:4] == by_file.output.splitlines()[:4]


def test_space_prints_yaml_that_is_the_same_space(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    done = _run("space", "search_spaces/wide.py:space")
    (tmp_path / "again.yaml").write_text(done.output)
    assert load_space(tmp_path / "again.yaml") == load_space("search_spaces/wide.py:space")


@pytest.mark.parametrize(("flag", "name"), [([], "study"), (["--space"], "space")])
def test_schema_prints_the_shipped_schema(flag, name):
    shipped = (ROOT / "search_spaces" / f"{name}.schema.json").read_text()
    assert json.loads(_run("schema", *flag).output) == json.loads(shipped)


def test_report_writes_tables_and_figures_of_a_result(site):
    folder = site / "storage" / "glid"
    folder.mkdir(parents=True)
    write(a_result(), folder)
    done = _run("report", "glid", "--out", site / "out")
    assert done.exit_code == 0, done.output
    assert (site / "out" / "report.md").exists()
    assert "4 of 4 repeats (seeds) gain" in done.output


def test_report_of_nothing_says_what_to_do(site):
    done = _run("report", "nothing")
    assert done.exit_code == 2
    assert "There is no study 'nothing' in" in done.output


def test_resume_names_the_studies_there_are(site):
    done = _run("resume", "nothing")
    assert done.exit_code == 2
    assert "There is no study 'nothing' in" in done.output


def test_ui_prints_one_command(site, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://nobody@127.0.0.1:1/none")
    done = _run("ui", "--print")
    assert (
        done.output
        == "mlflow ui --backend-store-uri postgresql://nobody@127.0.0.1:1/none --port 5000\n"
    )


def test_ui_names_the_database_that_is_not_there_and_makes_none(site, tmp_path):
    done = _run("ui")
    assert done.exit_code == 1
    assert "There is no MLflow database at" in done.output
    assert "CRYO_STORAGE" in done.output
    assert not list(tmp_path.rglob("mlflow.db"))


def test_an_unknown_command_is_a_usage_error():
    assert _run("rnu").exit_code == 2


def test_the_public_names_are_these():
    assert cryo_hpo.__all__ == sorted(cryo_hpo.__all__)
    for name in cryo_hpo.__all__:
        assert hasattr(cryo_hpo, name)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_refuses_is_one_message_wherever_it_does(site, study, monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), "/full/disk")

    monkeypatch.setattr("cryo_hpo.study.preflight.check", refuse)
    done = _run("check", str(study))
    assert done.exit_code == 1
    assert f"{os.strerror(number)} ('/full/disk'). Free space" in done.output
