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
from cryo_hpo.execution.worker import train_job
from cryo_hpo.prediction.model import open_model
from cryo_hpo.report.verdict import verdict_text
from cryo_hpo.results.study import Result, load_result, write
from cryo_hpo.storage.event_log import EventLog
from cryo_hpo.study import folder as folders
from cryo_hpo.study.proof import Proof
from cryo_hpo.study.run import open_records
from cryo_hpo.study.trainings import search_source
from cryo_hpo.study.verdict import result, score_arms
from cryo_hpo.study.winner import keep_winner

from ..support.fakes import fake_folder


class Counting(InlineExecutor):
    """Count the trainings that are trained and scored."""

    def __init__(self) -> None:
        super().__init__(self._train_and_count)
        self.trained: list[str] = []
        self.scored: list[str] = []

    def _train_and_count(self, config: Any, **given: Any) -> Any:
        self.trained.append(config["key"])
        return train_job(config, **given)

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


def _search_and_prove(site: Site, base: Any, proof: str) -> tuple[Counting, Result, Path]:
    """Run what a study runs besides MLflow: search, comparison, test split, result."""
    lr = {"kind": "float", "low": 1e-2, "high": 5e-2, "log": True}
    rule = {"kind": "asha", "rule": "promote", "grace_epochs": 5, "reduction": 3}
    search = {"space": {"params": {"optim.lr": lr}}, "trials": 3, "scheduler": rule}
    fields = {
        "name": proof,
        "proof": proof,
        "base": {**base, "epochs": 6, "optim": {"lr": 1e-7, "schedule": "constant"}},
        "search": search,
        "resources": {"gpus": 0},
    }
    study = Study.model_validate_json(json.dumps(fields))
    path, executor = folders.claim(study, site), Counting()
    folders.keep_spec(study, path)
    assert study.search is not None
    with closing(EventLog(path / folders.EVENTS)) as log, executor.cluster():
        records = open_records(study, cast(Any, SimpleNamespace(events=log)), site, path)
        slots = executor.slots(study.resources, None)
        source = search_source(study, study.search, path, site=site, listener=records)
        executor.run(source, site=site, slots=slots)
        keep_winner(study, site, path, source.records)
        executor.trained.clear()
        compared = Proof.of(study, path, source.records)
        list(compared.run(site, slots=slots, executor=executor, listener=records))
        scores = compared.score(site, slots=slots, executor=executor)
    arms = score_arms(compared.arms, path, scores)
    write(result(study, site, path, trials=source.records, best=compared.best, arms=arms), path)
    return executor, load_result(path), path


@pytest.mark.slow
def test_a_quick_proof_trains_only_what_the_search_has_not(site: Site, base: Any) -> None:
    executor, found, _ = _search_and_prove(site, base, "quick")
    assert found.trials[0].state == "pruned", [(t.lr, t.curve) for t in found.trials]
    assert executor.trained == ["baseline-seed0"]
    assert sorted(executor.scored) == ["baseline-seed0", "tuned-seed0"]
    baseline, tuned = (found.arm(name).seeds[0] for name in ("baseline", "tuned"))
    assert tuned.reused is not None
    assert (tuned.reused.training, tuned.reused.epochs) == (f"trial-{found.winner:04d}", 6)
    assert baseline.reused is not None
    assert (baseline.reused.epochs, baseline.epochs) == (5, 6)
    assert (found.costs.epochs_confirm, found.costs.epochs_reused) == (1, 11)
    assert (found.verdict, found.improvement) == ("unproven", None)
    assert "Improved" not in verdict_text(found)


@pytest.mark.slow
def test_without_a_proof_the_test_split_stays_closed(site: Site, base: Any) -> None:
    executor, found, path = _search_and_prove(site, base, "none")
    assert (executor.trained, executor.scored, found.arms) == ([], [], ())
    assert not (path / folders.TEST_SCORES).exists()
    assert json.loads((path / "result.json").read_text())["verdict"] == "unproven"
    assert open_model(path, site=site).card.trial == found.winner
