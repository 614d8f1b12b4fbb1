"""A second study takes the trainings of the first, with real trainings of one epoch."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cryo_hpo.config import Site, Study
from cryo_hpo.execution.inline import InlineExecutor
from cryo_hpo.prediction.model import open_model
from cryo_hpo.report.verdict import verdict_text
from cryo_hpo.results.study import Result, load_result, write
from cryo_hpo.storage.event_log import EventLog
from cryo_hpo.study import folder as folders
from cryo_hpo.study.proof import Proof
from cryo_hpo.study.run import open_records
from cryo_hpo.study.verdict import result, score_arms

from ..support.fakes import fake_folder


class Counting(InlineExecutor):
    """Count the trainings that are trained and scored."""

    def __init__(self) -> None:
        super().__init__()
        self.trained: list[str] = []
        self.scored: list[str] = []

    def _run_job(self, source: Any, job: Any, *given: Any) -> Any:
        self.trained.append(job.key)
        return super()._run_job(source, job, *given)

    def score(self, jobs: Any, **given: Any) -> Any:
        self.scored += [job.key for job in jobs]
        return super().score(jobs, **given)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    root = tmp_path_factory.mktemp("site")
    places = {f"CRYO_{n}": str(root / n.lower()) for n in ("DATA", "STORAGE", "CACHE", "WEIGHTS")}
    return Site.from_env(places)


@pytest.fixture(scope="module")
def base(site: Site) -> dict[str, Any]:
    card = fake_folder(site.data, num=(4, 2, 2), size=(32, 32), bands=3, dtype="uint8")
    return {
        "data": {"card": json.loads(card.model_dump_json()), "crop": 16},
        "model": {"encoder": "unet", "decoder": "unet", "width": 4},
        "optim": {"lr": 1e-2, "schedule": "constant"},
        "batch_size": 2,
        "epochs": 1,
    }


def _prove(site: Site, **fields: Any) -> tuple[Counting, Result, Path]:
    study = Study.model_validate_json(json.dumps(fields))
    path, executor = folders.claim(study, site), Counting()
    folders.keep_spec(study, path)
    proof = Proof.of(study, path, [])
    with closing(EventLog(path / folders.EVENTS)) as log:
        records = open_records(study, cast(Any, SimpleNamespace(events=log)), site, path)
        with executor.cluster():
            slots = executor.slots(study.resources, None)
            list(proof.run(site, slots=slots, executor=executor, listener=records))
            scores = proof.score(site, slots=slots, executor=executor)
    arms = score_arms(proof.arms, path, scores)
    write(result(study, site, path, trials=[], best=None, arms=arms), path)
    return executor, load_result(path), path


def test_an_equal_training_is_neither_trained_nor_scored_again(site: Site, base: Any) -> None:
    gpus = {"gpus": 0}
    one, before, first = _prove(site, name="first", base=base, seeds=[1], resources=gpus)
    two, after, second = _prove(site, name="second", base=base, seeds=[1, 2], resources=gpus)
    assert (one.trained, one.scored) == (["baseline-seed1"], ["baseline-seed1"])
    assert (two.trained, two.scored) == (["baseline-seed2"], ["baseline-seed2"])
    taken, trained = after.arm("baseline").seeds
    assert taken.reused is not None
    assert (taken.reused.study, taken.reused.training) == ("first", "baseline-seed1")
    assert trained.reused is None
    assert taken.model_copy(update={"reused": None}) == before.arm("baseline").seeds[0]
    assert (after.costs.epochs_confirm, after.costs.epochs_reused) == (1, 1)
    assert "baseline, seed 1: reused from study 'first' (baseline-seed1)" in verdict_text(after)
    assert (
        open_model(second, seed=1, site=site).card.weights_sha256
        == open_model(first, seed=1, site=site).card.weights_sha256
    )
    fresh, again, _ = _prove(site, name="third", base=base, seeds=[1], resources=gpus, reuse=False)
    assert fresh.trained == ["baseline-seed1"]
    same = ("test_miou", "val_miou", "train_loss")
    assert [getattr(again.arm("baseline").seeds[0], name) for name in same] == [
        getattr(taken, name) for name in same
    ], "what is reused is what a new training gives"
