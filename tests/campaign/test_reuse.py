"""A later campaign, and a study, take the trainings that a campaign has left in the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cryo_hpo.cli.main import main
from cryo_hpo.config import cell_studies, dump_study, load_campaign
from cryo_hpo.results.campaign import load_campaign_result
from cryo_hpo.results.study import Result, load_result

from ..support.campaigns import small_campaign

pytestmark = pytest.mark.slow

RATE = {"kind": "float", "low": 1e-3, "high": 1e-1, "log": True}
ONE_CELL = {
    "matrix": {"encoders": {"narrow": {"width": 4}}, "datasets": {"one": {"card": "one.yaml"}}},
    "skip": [],
    "transfer": False,
    "log_model": False,
    "search": {"space": {"params": {"optim.lr": RATE}}, "trials": 1, "parallel": 1},
    "baselines": {"faster": {"optim.lr": 1e-2}},
}


def _run(root: Path, spec: Path) -> str:
    names = {"CRYO_DATA": "data", "CRYO_CACHE": "cache", "CRYO_STORAGE": "runs"}
    places = {name: str(root / path) for name, path in names.items()}
    words = ["run", "--inline", str(spec)]
    done = CliRunner().invoke(main, words, env=places, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def _campaign(root: Path, **changes: Any) -> Path:
    return small_campaign(root, **{**ONE_CELL, **changes})


def _weights(storage: Path, result: Result, training: str) -> Path:
    return storage / result.study / "confirm" / training / "best.pt"


def _sources(result: Result, arm: str) -> list[str | None]:
    return [s.reused.study if s.reused else None for s in result.arm(arm).seeds]


def test_a_later_campaign_and_a_study_train_only_what_no_cell_has(tmp_path: Path) -> None:
    storage = tmp_path / "runs"
    _run(tmp_path, _campaign(tmp_path, name="first", reuse=True, seeds=[1]))
    _run(tmp_path, _campaign(tmp_path, name="second", reuse=True, seeds=[1, 2]))
    one, two = (load_result(storage / f"{name}.one.narrow") for name in ("first", "second"))
    assert _sources(one, "baseline") == [None]
    assert _sources(two, "baseline") == _sources(two, "faster") == ["first.one.narrow", None]
    for name in ("baseline-seed1", "faster-seed1"):
        assert _weights(storage, two, name).samefile(_weights(storage, one, name))
    assert (two.costs.epochs_confirm, two.costs.epochs_reused) == (4, 4)
    (cell,) = load_campaign_result(storage / "second").cells
    (before,) = load_campaign_result(storage / "first").cells
    assert cell.baseline[0] == before.baseline[0]

    (study,) = cell_studies(load_campaign(tmp_path / "camp.yaml")).values()
    spec = tmp_path / "alone.yaml"
    spec.write_text(dump_study(study.model_copy(update={"name": "alone"})))
    output = _run(tmp_path, spec)
    alone = load_result(storage / "alone")
    assert _sources(alone, "baseline") == ["first.one.narrow", "second.one.narrow"]
    assert alone.costs.epochs_confirm == 0
    assert "baseline, seed 2: reused from study 'second.one.narrow'" in " ".join(output.split())
    assert [s.test_miou for s in alone.arm("baseline").seeds] == list(cell.baseline)


def test_a_campaign_that_reuses_nothing_leaves_nothing(tmp_path: Path) -> None:
    _run(tmp_path, _campaign(tmp_path, name="first", reuse=False, seeds=[1]))
    assert not list((tmp_path / "runs").glob(".trainings/*"))
    _run(tmp_path, _campaign(tmp_path, name="second", reuse=True, seeds=[1]))
    assert _sources(load_result(tmp_path / "runs" / "second.one.narrow"), "baseline") == [None]
