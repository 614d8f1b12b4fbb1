"""A worker that trains several jobs side by side reports of each what it reports of it alone."""

from __future__ import annotations

import bdb
import itertools
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from cryo_hpo.config import DataSpec, ModelSpec, Recipe, Site
from cryo_hpo.errors import DataError, Diverged, StorageError
from cryo_hpo.execution import worker
from cryo_hpo.search.jobs import MESSAGE, OUTCOME, Job
from cryo_hpo.training import checkpoints
from cryo_hpo.training.checkpoints import BEST
from cryo_hpo.training.member_run import MemberRun
from cryo_hpo.training.run import Run
from cryo_hpo.training.step import check_steps

from ..support.fakes import fake_folder

TIMES = ("seconds", "data_seconds", "together")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    places = {"CRYO_DATA": "data", "CRYO_STORAGE": "runs", "CRYO_CACHE": "cache"}
    return Site.from_env({key: str(tmp_path / place) for key, place in places.items()})


@pytest.fixture
def recipe(site: Site) -> Recipe:
    card = fake_folder(site.data, num=(4, 2, 2), size=(16, 20))
    return Recipe(
        data=DataSpec(card=card, crop=16),
        model=ModelSpec(encoder="unet", width=4, channels=8, tune="frozen"),
        batch_size=2,
        epochs=4,
    )


def _job(recipe: Recipe, site: Site, key: str, **fields: Any) -> dict[str, Any]:
    folder = str(site.storage / key)
    return asdict(Job(key, recipe.model_dump_json(), folder, **{"keep_best": True, **fields}))


def _pack(jobs: Iterable[dict[str, Any]], site: Site) -> list[tuple[str, Any]]:
    return list(worker.train_pack(list(jobs), site=site, cpus=1, gpus=0))


def _of(reports: list[tuple[str, Any]], key: str) -> list[Any]:
    return [report for name, report in reports if name == key]


def _numbers(report: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in report.items() if key not in TIMES}


def test_each_job_reports_what_it_reports_alone(recipe, site):
    recipes = {"a": recipe, "b": recipe.replace({"optim.lr": 1e-2})}
    reports = _pack((_job(one, site, key) for key, one in recipes.items()), site)
    assert [key for key, _ in reports] == ["a", "b"] * 4
    for key, one in recipes.items():
        alone = worker.train_job(_job(one, site, f"{key}-alone"), site=site, cpus=1, gpus=0)
        assert [_numbers(r) for r in _of(reports, key)] == [_numbers(dict(r)) for r in alone]


STOPS = {
    "to the first stop": ({"decisions": (1, 3)}, [1]),
    "past one that is cleared": ({"decisions": (1, 3), "cleared": 1}, [1, 2, 3]),
    "to the end": ({"decisions": (1, 3), "cleared": 3}, [1, 2, 3, 4]),
    "without stops": ({}, [1, 2, 3, 4]),
}


@pytest.mark.parametrize(("fields", "epochs"), STOPS.values(), ids=STOPS)
def test_a_job_ends_where_it_may_be_stopped(fields, epochs, recipe, site):
    reports = _pack([_job(recipe, site, "a", **fields), _job(recipe, site, "b", **fields)], site)
    assert [r["epoch"] for r in _of(reports, "a")] == epochs
    assert [r["epoch"] for r in _of(reports, "b")] == epochs


def test_a_job_goes_on_where_it_was_stopped(recipe, site):
    rungs = {"decisions": (1, 3)}
    _pack([_job(recipe, site, key, **rungs) for key in "ab"], site)
    further = {"cleared": 1, "recorded": 1, **rungs}
    second = _pack([_job(recipe, site, key, **further) for key in "ab"], site)
    assert [(key, r["epoch"]) for key, r in second] == [(k, e) for e in (1, 2, 3) for k in "ab"]
    undecided = _pack(
        [_job(recipe, site, key, cleared=1, recorded=3, **rungs) for key in "ab"], site
    )
    assert [(key, r["epoch"]) for key, r in undecided] == [("a", 3), ("b", 3)], "it may decide"
    alone = list(worker.train_job(_job(recipe, site, "alone"), site=site, cpus=1, gpus=0))
    assert [_numbers(r) for r in _of(second, "a")] == [_numbers(dict(r)) for r in alone[:3]]


def test_one_that_diverges_ends_alone(recipe, site, monkeypatch):
    measured = MemberRun.step

    def diverges(self: MemberRun, *args: Any, position: int) -> None:
        measured(self, *args, position=position)
        if position == 2 and self.number == 1:
            self.error = Diverged("too far")

    monkeypatch.setattr(MemberRun, "step", diverges)
    reports = _pack([_job(recipe, site, key) for key in "abc"], site)
    assert _of(reports, "b") == [
        {**_of(reports, "a")[0], **{key: _of(reports, "b")[0][key] for key in TIMES}},
        {OUTCOME: "diverged", MESSAGE: "too far"},
    ]
    assert [r["epoch"] for r in _of(reports, "c")] == [1, 2, 3, 4]


def test_the_best_model_of_one_that_diverged_is_stored_before_its_end_is_reported(
    recipe, site, monkeypatch
):
    """Nothing trains it again: a node that is lost before the others end must not take it along."""

    def diverges(run: Run, values: Any) -> float:
        if run.recipe.optim.lr == 1e-2 and any(v.position == run.steps for v in values):
            raise Diverged("too far")
        return check_steps(run, values)

    monkeypatch.setattr("cryo_hpo.training.member_run.check_steps", diverges)
    site.storage.mkdir()
    away = site.model_copy(update={"checkpoint_minutes": 60.0})
    lost = recipe.replace({"optim.lr": 1e-2})
    jobs = [_job(recipe, away, "a"), _job(lost, away, "b")]
    reports = worker.train_pack(jobs, site=away, cpus=1, gpus=0)
    before = [key for key, _ in itertools.takewhile(lambda r: OUTCOME not in r[1], reports)]
    assert before == ["a", "b", "a"]
    assert checkpoints.load(site.storage / "b" / BEST) is not None
    reports.close()


def test_one_that_cannot_be_prepared_ends_alone(recipe, site, monkeypatch):
    prepare = worker._prepare

    def failing(place: Any, *args: Any, **given: Any) -> None:
        if place.folder.name == "b":
            raise StorageError("the disk is gone")
        prepare(place, *args, **given)

    monkeypatch.setattr(worker, "_prepare", failing)
    reports = _pack([_job(recipe, site, key) for key in "abc"], site)
    assert _of(reports, "b") == [{OUTCOME: "unwritable", MESSAGE: "the disk is gone"}]
    assert [r["together"] for r in _of(reports, "c")] == [2] * 4


@pytest.mark.parametrize(
    ("error", "outcome"), [(DataError("no data"), "refused"), (ValueError("odd"), "crashed")]
)
def test_an_error_of_their_common_part_is_that_of_all(error, outcome, recipe, site, monkeypatch):
    def fails(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr("cryo_hpo.training.pack._train", fails)
    reports = _pack([_job(recipe, site, key) for key in "ab"], site)
    assert [(key, r[OUTCOME]) for key, r in reports] == [("a", outcome), ("b", outcome)]


def test_leaving_the_debugger_is_no_crash_of_a_training(recipe, site, monkeypatch):
    def quits(*_: Any, **__: Any) -> Any:
        raise bdb.BdbQuit

    monkeypatch.setattr("cryo_hpo.training.member_run.take_step", quits)
    with pytest.raises(bdb.BdbQuit):
        _pack([_job(recipe, site, key) for key in "ab"], site)


def test_a_pack_that_is_closed_leaves_checkpoints_that_resume(recipe, site):
    jobs = [_job(recipe, site, key) for key in "ab"]
    reports = worker.train_pack(jobs, site=site, cpus=1, gpus=0)
    assert [r["epoch"] for _, r in itertools.islice(reports, 3)] == [1, 1, 2]
    reports.close()
    rest = _pack([{**job, "recorded": 1} for job in jobs], site)
    assert [(key, r["epoch"]) for key, r in rest] == [
        *[("a", 2), ("b", 2)],
        *[(key, epoch) for epoch in (3, 4) for key in "ab"],
    ]
    for key in "ab":
        assert checkpoints.load(site.storage / key / BEST) is not None


def test_a_worker_returns_the_threads_it_was_given(recipe, site):
    before = torch.get_num_threads()
    _pack([_job(recipe, site, key) for key in "ab"], site)
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)
