"""A plan gives minutes: from recorded trainings, or from one timed step per distinct recipe."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from cryo_hpo.campaign import plan_campaign, time_campaign
from cryo_hpo.config import Site, Study, cell_studies, load_campaign
from cryo_hpo.results.study import write
from cryo_hpo.study import folder as folders
from cryo_hpo.study import minutes as estimating
from cryo_hpo.study.hours import HoursPlan, resolve
from cryo_hpo.study.minutes import UNKNOWN, Clock, Minutes, minutes_line, sum_minutes
from cryo_hpo.study.plan import plan
from cryo_hpo.study.timing import measure_epoch

from ..support.campaigns import small_campaign
from ..support.fakes import fake_folder
from ..support.results import a_result

STEP_S = 6.0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    names = ("DATA", "STORAGE", "CACHE", "WEIGHTS")
    return Site.from_env({f"CRYO_{name}": str(tmp_path / name.lower()) for name in names})


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Widths of the models of which a step was timed."""
    widths: list[int] = []

    def time_step(recipe: Any, _: Site, *, on_gpu: bool) -> float:
        assert not on_gpu
        widths.append(recipe.model.width)
        return STEP_S

    monkeypatch.setattr(estimating, "time_step", time_step)
    return widths


def _study(root: Path, site: Site) -> Study:
    card = fake_folder(site.data, num=(6, 2, 2), size=(32, 32))
    fields = {
        "name": "mine",
        "base": {
            "data": {"card": json.loads(card.model_dump_json()), "crop": 16},
            "model": {"encoder": "unet", "decoder": "unet", "width": 4},
            "optim": {"lr": 1e-2, "schedule": "constant"},
            "batch_size": 2,
            "epochs": 5,
        },
        "seeds": [1, 2],
        "resources": {"gpus": 0},
    }
    return Study.model_validate_json(json.dumps(fields))


def test_minutes_are_epochs_times_steps_times_a_timed_step(
    tmp_path: Path, site: Site, timed: list[int]
) -> None:
    study = _study(tmp_path, site)
    size = plan(study, site=site)
    minutes = Clock(site).minutes(study, size)
    steps = measure_epoch(study.base, site).steps
    assert steps > 1
    assert minutes is not None
    assert minutes.proof == pytest.approx(2 * 5 * steps * STEP_S / 60)  # one arm on two seeds
    assert minutes.search == 0
    assert "timed now on one core of this machine, so validation, scoring" in minutes_line(minutes)


def test_a_finished_study_is_planned_by_its_recorded_epochs(
    tmp_path: Path, site: Site, timed: list[int]
) -> None:
    study = _study(tmp_path, site)
    costs = a_result().costs.model_copy(
        update={
            "epochs_search": 6,
            "epochs_confirm": 4,
            "seconds_search": 60.0,
            "seconds_confirm": 60.0,
        }
    )
    spec = json.loads(study.model_dump_json())
    write(a_result(study="mine", spec=spec, costs=costs), folders.make(folders.of(study, site)))
    minutes = Clock(site).minutes(study, plan(study, site=site))
    assert minutes is not None
    assert minutes.proof == pytest.approx(2 * 5 * 12.0 / 60)
    assert minutes_line(minutes).endswith("from recorded epochs")
    assert timed == []
    other = study.model_copy(update={"base": study.base.replace({"batch_size": 1})})
    minutes = Clock(site).minutes(other, plan(other, site=site))
    assert minutes is not None
    assert timed == [4], "records of another recipe are no measure"


@pytest.mark.parametrize(
    ("budget", "resources", "expected"),
    [
        ({"core_hours": 0.5}, {"gpus": 0, "cpus": 1}, 30),
        ({"core_hours": 0.5}, {"gpus": 0, "cpus": 2}, 15),
        ({"gpu_hours": 0.5}, {"gpus": 0.25}, 120),
        ({"gpu_hours": 0.5}, {"gpus": "auto"}, 30),
    ],
)
def test_a_budget_of_hours_is_what_a_study_takes(
    tmp_path: Path, site: Site, timed: list[int], budget: Any, resources: Any, expected: float
) -> None:
    """The timed step knows no validation, which the hours pay for; records may be of fewer epochs."""
    given = json.loads(_study(tmp_path, site).model_dump_json())
    space = {"params": {"optim.lr": {"kind": "float", "low": 1e-5, "high": 1e-2, "log": True}}}
    given |= {"search": {"space": space}, "budget": budget, "resources": resources}
    study = Study.model_validate_json(json.dumps(given))
    sized = resolve(study, HoursPlan(epoch_s=1.0, search=900, proof=20, at_most=None))
    minutes = Clock(site).minutes(study, plan(sized, site=site))
    assert minutes is not None
    assert minutes.total == pytest.approx(expected)
    assert minutes.proof < minutes.search
    assert timed == []
    assert minutes_line(minutes) == (
        f"minutes: about {expected}, one training at a time, which the budget of hours allows; "
        "scoring and start-up come on top"
    )


def test_without_the_data_minutes_are_unknown(tmp_path: Path, site: Site, timed: list[int]) -> None:
    study = _study(tmp_path, site)
    away = Site.from_env({"CRYO_DATA": str(tmp_path / "away"), "CRYO_CACHE": str(tmp_path / "c")})
    assert Clock(away).minutes(study, plan(study, site=site)) is None
    assert minutes_line(None) == UNKNOWN
    assert timed == []


def test_a_campaign_times_each_distinct_step_once_and_says_so(
    tmp_path: Path, site: Site, timed: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cryo_hpo")
    campaign = load_campaign(small_campaign(tmp_path))
    size = time_campaign(campaign, plan_campaign(campaign, site=site), site=site)
    assert timed == [4, 6], "three cells, two models"
    assert caplog.text.count("timing a training step of unet (full), 2 windows") == 2
    names = [study.name for study in cell_studies(campaign).values()]
    assert list(size.minutes) == names
    parts = [minutes for minutes in size.minutes.values() if minutes is not None]
    assert len(parts) == 3
    head, *rows = list(size.lines())[:4]
    assert head.split()[-1] == "minutes"
    for row, part in zip(rows, parts, strict=True):
        assert float(row.split()[-1]) == pytest.approx(part.total, rel=0.05)
    total = sum(part.total for part in parts)
    assert sum_minutes(parts).total == pytest.approx(total)
    assert f"minutes: about {total:.0f}, one training at a time" in list(size.lines())[-1]


def test_cells_without_data_are_named_in_the_sum(
    tmp_path: Path, site: Site, timed: list[int]
) -> None:
    campaign = load_campaign(small_campaign(tmp_path))
    size = time_campaign(campaign, plan_campaign(campaign, site=site), site=site)
    first, *others = size.minutes
    known = {name: size.minutes[name] for name in others}
    lines = list(type(size)(size.cells, {first: None, **known}).lines())
    assert lines[1].split()[-1] == "unknown"
    assert lines[-1].endswith("without 1 cell whose data are not here (`check`)")
    lost = type(size)(size.cells, dict.fromkeys(size.minutes))
    assert list(lost.lines())[-1] == UNKNOWN


@pytest.mark.parametrize(
    ("minutes", "words"), [(0.25, "about 0.25,"), (4.26, "about 4.3,"), (1234.4, "about 1,234,")]
)
def test_minutes_are_rounded_as_one_reads_them(minutes: float, words: str) -> None:
    assert words in minutes_line(Minutes(minutes, 0.0, frozenset({"recorded"})))
