"""A name that is no study is answered with the nearest one and those there are."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cryo_hpo.cli.main import main
from cryo_hpo.errors import SpecError
from cryo_hpo.results.known import SHOWN, no_such_study, study_path
from cryo_hpo.results.study import load_result


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CRYO_STORAGE", str(tmp_path))
    for name in ("small", "lakes-lr"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.yaml").write_text(f"name: {name}")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ["status", "smoll"],
        ["resume", "smoll"],
        ["extend", "smoll", "--seeds", "7"],
        ["compare", "smoll", "lakes-lr"],
        ["report", "smoll"],
    ],
    ids=lambda words: words[0],
)
def test_a_misspelt_name_is_answered_with_the_nearest(words: list[str], storage: Path) -> None:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2, done.output
    assert "Did you mean 'small'?" in done.output
    assert "lakes-lr, small" in done.output


@pytest.mark.parametrize("command", ["predict", "export"])
def test_a_misspelt_model_is_answered_with_the_nearest_study(
    command: str, storage: Path, tmp_path: Path
) -> None:
    scenes = [str(tmp_path / "scene.tif")] if command == "predict" else []
    for scene in scenes:
        Path(scene).touch()
    done = CliRunner().invoke(main, [command, "smoll", *scenes, "--out", str(tmp_path / "out.pt")])
    assert done.exit_code == 2, done.output
    assert "Did you mean 'small'?" in done.output


def test_many_names_are_counted(tmp_path: Path) -> None:
    for number in range(SHOWN + 3):
        (tmp_path / f"s{number:02d}").mkdir()
        (tmp_path / f"s{number:02d}" / "study.yaml").touch()
    assert str(no_such_study(tmp_path / "zzz")).endswith("s11 and 3 more.")


def test_a_result_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"There is no study 'gone'.*Known: none"):
        load_result(tmp_path / "gone")


@pytest.mark.parametrize("sign", ["", "study.yaml", "result.json", "config.json"])
def test_a_folder_of_images_does_not_hide_the_study_of_its_name(
    sign: str, storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`init lakes-lr` names the study after the folder of the images, which lies where one works."""
    here = tmp_path / "work" / "lakes-lr"
    (here / "images").mkdir(parents=True)
    if sign:
        (here / sign).touch()
    monkeypatch.chdir(here.parent)
    meant = study_path("lakes-lr", storage)
    assert meant == (Path("lakes-lr") if sign else storage / "lakes-lr")
    assert study_path("small", storage) == storage / "small"
    assert study_path("gone", storage) == storage / "gone"
