"""Spaces, studies and cards that ship are found by their names, from any folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryo_hpo import load_campaign, load_space, load_study
from cryo_hpo.config import (
    find_source,
    format_source,
    is_shipped,
    list_shipped,
    load_card,
)
from cryo_hpo.errors import SpecError

SOURCES = Path(__file__).parents[2] / "search_spaces"
STUDY = """\
name: mine
base:
  data: {card: rock-glaciers}
search: {space: SPACE, trials: 3}
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _study(folder: Path, space: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(STUDY.replace("SPACE", space))
    return path


def test_every_file_of_the_repository_ships():
    shipped = Path(str(find_source("lr", "search space", beside=Path()))).parent
    files = {path.relative_to(SOURCES) for path in SOURCES.rglob("*.yaml")}
    assert {path.relative_to(shipped) for path in shipped.rglob("*.yaml")} == files
    assert {"lr", "lr-groups", "wide"} == set(list_shipped("search space"))
    assert {p.stem for p in (SOURCES / "studies").glob("*.yaml")} == set(list_shipped("study"))


@pytest.mark.parametrize("name", list_shipped("search space"))
def test_a_space_is_the_one_of_its_file(name, elsewhere):
    space = load_space(name)
    assert load_study(_study(elsewhere, name)).search.space == space  # type: ignore[union-attr]
    if (SOURCES / f"{name}.yaml").exists():
        assert load_space(SOURCES / f"{name}.yaml") == space


def test_a_study_a_campaign_and_a_card_load_by_name(elsewhere):
    assert load_study("quickstart") == load_study(SOURCES / "studies/quickstart.yaml")
    assert load_campaign("campaign-analogues").name == "analogues"
    card = load_card("rock-glaciers")
    assert load_study(_study(elsewhere, "lr")).base.data.card == card


def test_a_name_that_nothing_has_is_answered_with_those_there_are(elsewhere):
    with pytest.raises(SpecError, match=r"Did you mean 'quickstart'\? Known: calving-fronts, "):
        load_study("quickstrat")
    place = "mine.yaml:4: search.space: No file or shipped search space named 'lrr'. Did you mean"
    with pytest.raises(SpecError, match=place):
        load_study(_study(elsewhere, "lrr"))


def test_a_file_without_an_ending_is_read_unless_its_name_means_two(elsewhere):
    (elsewhere / "own").write_text("params: {optim.lr: {kind: float, low: 1, high: 2}}\n")
    assert list(load_space("own").params) == ["optim.lr"]
    (elsewhere / "own").rename(elsewhere / "lr")
    with pytest.raises(SpecError, match=r"'lr' names two: .* Write './lr' for the file"):
        load_space("lr")
    assert load_space("./lr").params["optim.lr"].low == 1  # type: ignore[union-attr]


def test_a_folder_of_the_same_name_is_no_file(elsewhere):
    (elsewhere / "quickstart").mkdir()
    assert load_study("quickstart").name == "quickstart"


def test_the_word_for_a_study_is_its_name_or_its_path(elsewhere):
    source = find_source("quickstart", "study", beside=Path())
    assert is_shipped(source)
    assert format_source(Path(source)) == "quickstart"
    assert not is_shipped(find_source("mine.yaml", "study", beside=Path()))
    assert format_source(Path("mine.yaml")) == "mine.yaml"
