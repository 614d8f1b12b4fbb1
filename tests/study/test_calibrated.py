"""A calibrated baseline: a good default from other data, the same one until the study ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cryo_hpo.config import Campaign, Site, Study, cell_studies
from cryo_hpo.errors import CryoError, SpecError, StorageError
from cryo_hpo.report.calibrated import calibrated_notes
from cryo_hpo.results.portfolio import Portfolio
from cryo_hpo.search.calibrated import calibrate, calibrated_arms
from cryo_hpo.search.portfolio import RATE, shipped_portfolio
from cryo_hpo.study import calibrated as kept
from cryo_hpo.study.preflight import check, recipes_of
from cryo_hpo.study.proof import Proof

from ..support.pool import a_study
from ..support.results import TEST, a_result, an_arm

UNET = {"encoder": "unet", "decoder": "unet"}


def _study(dataset: str = "lakes-demo", **base: Any) -> Study:
    fields = {
        "name": "s",
        "base": {"data": {"name": dataset}, "model": UNET, "loss": {"name": "ce+dice"}, **base},
        "baselines": {"known": "calibrated", "paper": {"optim.lr": 1e-4}},
    }
    return Study.model_validate_json(json.dumps(fields))


def _shipped_with(best: dict[str, float]) -> Portfolio:
    """Return the shipped portfolio with other best rates for some problems."""
    lessons = shipped_portfolio().lessons
    rate = RATE
    return Portfolio(
        lessons=tuple(
            x.model_copy(update={"best": {rate: best.get(x.problem, x.best[rate])}})
            for x in lessons
        )
    )


def test_the_default_is_the_mean_of_the_best_on_every_other_problem() -> None:
    found = calibrate(_study("lakes-demo"))
    assert found.problems == ("rock-glaciers", "calving-fronts", "melt-ponds", "fronts-demo")
    assert found.values == {"optim.lr": pytest.approx(5.62e-3, rel=0.01)}


def test_what_was_learned_on_the_studys_own_data_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = calibrate(_study("lakes-demo"))
    monkeypatch.setattr(
        "cryo_hpo.search.portfolio.shipped_portfolio", lambda: _shipped_with({"lakes-demo": 1e-6})
    )
    assert calibrate(_study("lakes-demo")) == before
    other = calibrate(_study("fronts-demo"))
    assert float(other.values[RATE]) < float(before.values[RATE]), "there it counts"


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ({"model": {"encoder": "dofa-base", "decoder": "upernet"}}, "family of 'dofa-base'"),
        ({"optim": {"name": "sgd"}}, "mean nothing for sgd"),
    ],
)
def test_a_default_that_nothing_supports_is_refused_with_its_place(
    base: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message) as refused:
        calibrated_arms(_study(**base))
    assert refused.value.key == ("baselines", "known")
    assert "Give the values: {optim.lr: ...}" in str(refused.value)


def test_another_word_is_refused() -> None:
    raw = _study().model_dump(mode="json")
    with pytest.raises(ValidationError, match="calibrated"):
        Study.model_validate_json(json.dumps({**raw, "baselines": {"known": "clever"}}))


def test_a_resumed_study_compares_with_the_default_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = _study()
    first = {arm.name: arm.recipe.optim.lr for arm in Proof(study, tmp_path, None).arms}
    assert first == {"baseline": 1e-4, "known": 5.62e-3, "paper": 1e-4}
    monkeypatch.setattr(
        "cryo_hpo.search.portfolio.shipped_portfolio", lambda: _shipped_with({"melt-ponds": 1e-6})
    )
    assert float(calibrate(study).values[RATE]) < 1e-3, "the portfolio is another one now"
    again = {arm.name: arm.recipe.optim.lr for arm in Proof(study, tmp_path, None).arms}
    assert again == first
    assert kept.read_calibrated(tmp_path)["known"].problems[0] == "rock-glaciers"


@pytest.mark.parametrize("content", [b"", b'{"known": {"values": 3}}', b"\xff{", b"[1]"])
def test_a_damaged_default_is_refused_with_the_remedy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / kept.NAME).write_bytes(content)
    with pytest.raises(StorageError, match=r"calibrated\.json' is damaged \(.*remove it and run"):
        kept.baselines_in(_study(), tmp_path)


def test_a_study_without_the_word_writes_nothing(tmp_path: Path) -> None:
    study = a_study(baselines={"paper": {"optim.lr": 1e-4}})
    assert kept.baselines_in(study, tmp_path) == {"paper": {"optim.lr": 1e-4}}
    assert not list(tmp_path.iterdir())


def test_check_tells_the_default_and_where_it_comes_from() -> None:
    assert kept.calibrated_lines(_study()) == [
        "Calibrated default 'known': optim.lr 0.00562, the mean of the best on rock-glaciers, "
        "calving-fronts, melt-ponds, fronts-demo."
    ]
    assert recipes_of(_study()) == [_study().base], "it is no other model"


def test_each_cell_of_a_campaign_has_the_default_of_its_own_encoder() -> None:
    nano = {"encoder": "galileo-nano", "decoder": "upernet"}
    rate = {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True}
    fields = {
        "name": "c",
        "matrix": {
            "encoders": {"net": UNET, "nano": nano},
            "datasets": {"lakes": {"name": "lakes-demo"}},
        },
        "rivals": ["unet"],
        "search": {"space": {"params": {"optim.lr": rate}}, "trials": 3},
        "baselines": {"known": "calibrated"},
    }
    studies = cell_studies(Campaign.model_validate_json(json.dumps(fields))).values()
    rates = [calibrate(study).values["optim.lr"] for study in studies]
    assert rates == [5.62e-3, 2.15e-3, 5.62e-3]


def test_the_report_says_whether_tuning_is_worth_more_than_the_default() -> None:
    known = an_arm("known", tuple(s - 0.01 for s in TEST["tuned"]), lr=5e-3)
    known = known.model_copy(update={"calibrated_on": ("melt-ponds", "fronts-demo")})
    arms = (an_arm("baseline", TEST["baseline"]), known, an_arm("tuned", TEST["tuned"]))
    (note,) = calibrated_notes(a_result(arms=arms))
    assert note.startswith(
        "Improved: the tuned recipe against the calibrated default 'known' (learning rate 5e-3, the "
        "mean of the best on melt-ponds, fronts-demo; not on this dataset). 4 of 4 repeats gain; test "
        "mIoU changes by +1.00 points, from "
    )
    assert note.endswith("The study's verdict is over the fixed learning rate.")
    (alone,) = calibrated_notes(a_result(arms=arms[:2], improvement=None))
    assert "the fixed learning rate against the calibrated default" in alone
    assert calibrated_notes(a_result(arms=arms, proof="quick")) == []


def test_check_reports_a_refused_default_beside_the_other_problems(tmp_path: Path) -> None:
    site = Site.from_env({"CRYO_STORAGE": str(tmp_path), "CRYO_DATA": str(tmp_path / "none")})
    with pytest.raises(CryoError) as refused:
        check(_study("GLID", optim={"name": "sgd"}), site=site)
    lines = str(refused.value).splitlines()
    assert len(lines) > 1
    assert any("mean nothing for sgd" in line for line in lines)
