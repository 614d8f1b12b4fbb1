"""Where a study's search starts is chosen once and kept in its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.ours import study_of
from benchmarks.simulate import lr_tables
from cryo_hpo.config import Site, Study
from cryo_hpo.errors import StorageError
from cryo_hpo.results.portfolio import Portfolio
from cryo_hpo.search.known_start import KnownStart
from cryo_hpo.search.portfolio import shipped_portfolio
from cryo_hpo.search.trials import Record
from cryo_hpo.study import start as starts
from cryo_hpo.study.start_words import describe, start_lines
from cryo_hpo.study.timing import EpochSize

TABLE = Path(__file__).parents[2] / "benchmarks" / "data" / "lr_table.npz"


@pytest.fixture
def _steps(monkeypatch: pytest.MonkeyPatch) -> None:
    size = EpochSize(scenes=32, crops=32, steps=4, share=1.0)
    monkeypatch.setattr(starts, "measure_epoch", lambda *_: size)


def _study(start: object) -> Study:
    return study_of(lr_tables(TABLE)[0], 0, start=start)


def test_an_even_start_reads_no_data_and_writes_nothing(tmp_path):
    site = Site.from_env({"CRYO_STORAGE": str(tmp_path)})
    assert starts.start_of(_study("even"), tmp_path, site=site) == KnownStart()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_steps")
def test_a_resumed_study_starts_where_it_did_whatever_the_portfolio_has_become(tmp_path):
    site = Site.from_env({"CRYO_STORAGE": str(tmp_path)})
    own = tmp_path / "ours.json"
    own.write_text(Portfolio(lessons=()).model_dump_json())
    study = _study({"from": str(own)})
    first = starts.start_of(study, tmp_path, site=site)
    assert len(first.points) == 2
    own.unlink()
    assert starts.start_of(study, tmp_path, site=site) == first
    assert json.loads((tmp_path / starts.NAME).read_text())["rung"] == 3


@pytest.mark.usefixtures("_steps")
def test_what_was_learned_on_the_studys_own_data_does_not_start_its_search(tmp_path):
    site = Site.from_env({"CRYO_STORAGE": str(tmp_path)})
    own = tmp_path / "ours.json"
    seen = [x for x in shipped_portfolio().lessons if x.problem == "lakes-demo"]
    far = [x.model_copy(update={"best": {"optim.lr": 2e-6}, "source": "ours"}) for x in seen]
    own.write_text(Portfolio(lessons=tuple(far)).model_dump_json())
    start = starts.start_of(_study({"from": str(own)}), tmp_path, site=site)
    assert "lakes-demo" not in start.problems
    assert "rock-glaciers" in start.problems
    assert "ours" not in start.sources
    assert min(float(point["optim.lr"]) for point in start.points) > 1e-4
    assert "Nothing recorded on this study's own dataset counts" in starts.describe_kept(tmp_path)


def test_a_start_is_told_in_words(tmp_path):
    known = KnownStart(points=({"optim.lr": 2e-3, "batch_size": 8},), problems=("a", "b"))
    told = (
        "The search starts at known points (optim.lr 0.002, batch_size 8), around the best of a, b"
    )
    assert describe(known).startswith(f"{told}. Nothing recorded on this study")
    kept = known.model_copy(update={"sources": ("t.npz 1a2b", "ours.json 3c4d")})
    assert describe(kept).startswith(f"{told} (from t.npz 1a2b, ours.json 3c4d). Nothing")
    assert "evenly: no rung" in describe(KnownStart(reason="no rung"))
    assert starts.describe_kept(tmp_path) == "", "an even start by choice"


def test_a_calibrated_start_is_kept_without_reading_the_data_and_told_with_its_outcome(tmp_path):
    site = Site.from_env({"CRYO_STORAGE": str(tmp_path)})
    study = _study("calibrated")
    start = starts.start_of(study, tmp_path, site=site)
    assert starts.start_of(study, tmp_path, site=site) == start
    (told,) = start_lines(study)
    assert told.startswith(
        "The search starts at the calibrated default (optim.lr 0.0056), the mean"
    )
    assert "and beside it (optim.lr 0.0019; optim.lr 0.017)" in told
    assert "If it leads the baseline at epoch 3" in told
    assert starts.describe_kept(tmp_path) == told
    scores = {"led": 0.5, "did not": 0.1}
    kept = {
        what: starts.describe_kept(
            tmp_path, [_record(0, 0.3), _record(1, x), _record(2), _record(3)]
        )
        for what, x in scores.items()
    }
    assert kept["led"] == f"{told} It did lead."
    end = "The calibrated default did not lead the baseline at epoch 3, so the search went on evenly at once."
    assert kept["did not"] == f"{told} {end}"
    assert "too short" in starts.describe_kept(tmp_path, [_record(0, 0.3)])
    assert start_lines(_study("even")) == start_lines(_study("known")) == []


def _record(number: int, score: float = 0.2) -> Record:
    return Record(number, {}, "pruned", curve={3: score})


def test_a_start_that_does_not_apply_is_told_before_the_study(tmp_path):
    raw = json.loads(_study("calibrated").model_dump_json())
    raw["base"]["model"] |= {"encoder": "galileo-nano", "decoder": "upernet", "tune": "frozen"}
    study = Study.model_validate_json(json.dumps(raw))
    (told,) = start_lines(study)
    assert told.startswith("The search starts evenly: fewer than 3 recorded problems")
    site = Site.from_env({"CRYO_STORAGE": str(tmp_path)})
    assert not starts.start_of(study, tmp_path, site=site).points
    assert starts.describe_kept(tmp_path, [_record(0)]) == told


@pytest.mark.parametrize("content", ["", "{", '{"first_rung": 3, "noise": 0.1}', '{"rung": "x"}'])
def test_a_start_that_cannot_be_read_is_a_message(tmp_path, content):
    (tmp_path / starts.NAME).write_text(content)
    with pytest.raises(StorageError, match="keeps where the search started"):
        starts.describe_kept(tmp_path)
