"""A store of finished trainings: what it finds, what it refuses, and that a crash leaves no part."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cryo_hpo.cli.main import main
from cryo_hpo.config import Site, Study
from cryo_hpo.execution.executor import TrialResources
from cryo_hpo.results.study import Reused
from cryo_hpo.search.confirm import ENDED, Arm, job
from cryo_hpo.search.jobs import Job
from cryo_hpo.study import holdout
from cryo_hpo.study import training_store as stores
from cryo_hpo.study.reuse import read_origin
from cryo_hpo.study.training_store import TrainingStore, list_stored, read_entry
from cryo_hpo.training.checkpoints import BEST, LAST, save

from ..support.pool import a_study

SLOTS = TrialResources(1, 0.0, None)
SOURCE = Reused(study="first", training="baseline-seed1", date="2026-01-31", epochs=2)
HISTORY = ({"epoch": 1, "best_val_miou": 0.4}, {"epoch": 2, "best_val_miou": 0.5})
SCENES = {"a": np.array([[3, 1], [1, 3]]), "b": np.array([[2, 0], [0, 2]])}
SCORES: dict[str, Any] = {"classes": ["x", "y"], "confusion_TP": [[5, 1], [1, 5]]}


class Split:
    """A split in place of files."""

    fingerprint = "f" * 8


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(stores, "scenes_of", lambda *_: Split)
    monkeypatch.setattr(TrainingStore, "_hash_weights", lambda *_: "w")
    return Site.from_env({"CRYO_STORAGE": str(tmp_path)})


def _job(folder: Path, study: Study | None = None, seed: int = 1) -> Job:
    study = study or a_study(epochs=2)
    return job(Arm("baseline", study.base, (seed,)), seed, folder / "confirm")


def _finish(one: Job) -> None:
    workdir = Path(one.workdir)
    save(workdir / BEST, {"recipe": json.loads(one.recipe)["seed"], "model": torch.ones(3)})
    (workdir / ENDED).write_text("complete\n")


def _put(store: TrainingStore, one: Job) -> None:
    store.put(one, source=SOURCE, history=HISTORY, scores=SCORES, scenes=SCENES)


@pytest.fixture
def kept(site: Site, tmp_path: Path) -> TrainingStore:
    store, one = TrainingStore(site, SLOTS), _job(tmp_path / "first")
    assert store.take(one) is None
    _finish(one)
    _put(store, one)
    return store


def test_an_equal_training_is_found_with_weights_history_and_scores(kept, tmp_path) -> None:
    one = _job(tmp_path / "second")
    found = kept.take(one)
    assert found is not None
    stored, scenes = found
    assert (stored.source, stored.history) == (SOURCE, HISTORY)
    assert {name: each.tolist() for name, each in scenes.items()} == {
        name: each.tolist() for name, each in SCENES.items()
    }
    kept.end(one, stored)
    first = tmp_path / "first" / "confirm" / "baseline-seed1" / BEST
    assert (Path(one.workdir) / BEST).read_bytes() == first.read_bytes()
    origin = read_origin(Path(one.workdir))
    assert origin is not None
    assert origin.source == SOURCE
    assert kept.take(one) is None, "what has ended is not taken again"
    holdout.adopt(one.key, stored.scores, scenes, tmp_path / "second")
    holdout.adopt(one.key, {}, {}, tmp_path / "second")
    assert json.loads((tmp_path / "second" / "test-scores.json").read_text()) == {one.key: SCORES}


CHANGES: dict[str, dict[str, Any]] = {
    "recipe": {"optim": {"lr": 3e-4}},
    "epochs": {"epochs": 3},
    "protocol": {"precision": "bf16"},
}


@pytest.mark.parametrize(
    "changed", [*CHANGES, "seed", "data", "code", "libraries", "weights", "threads", "metric"]
)
def test_whatever_decides_a_training_is_part_of_its_name(
    kept: TrainingStore, site: Site, tmp_path: Path, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, slots = a_study(epochs=2), SLOTS
    one = _job(tmp_path / "second", study, seed=2 if changed == "seed" else 1)
    if changed in CHANGES:
        base = {**study.base.model_dump(mode="json"), **CHANGES[changed]}
        recipe = {**json.loads(one.recipe), **{k: base[k] for k in CHANGES[changed]}}
        recipe["optim"] = {**json.loads(one.recipe)["optim"], **recipe["optim"]}
        one = replace(one, recipe=json.dumps(recipe))
    elif changed == "data":
        monkeypatch.setattr(Split, "fingerprint", "other")
    elif changed == "weights":
        monkeypatch.setattr(TrainingStore, "_hash_weights", lambda *_: "other")
    elif changed == "metric":
        one = replace(one, metric="front_m")
    elif changed == "threads":
        slots = TrialResources(2, 0.0, None)
    elif changed != "seed":
        name = {"code": "hash_training_code", "libraries": "training_libraries"}[changed]
        monkeypatch.setattr(stores, name, lambda: "other")
    assert TrainingStore(site, slots).take(one) is None


@pytest.mark.parametrize("part", [BEST, stores.SCENES, stores.ENTRY])
@pytest.mark.parametrize("fault", ["flip", "cut", "gone"])
def test_a_damaged_entry_is_removed_and_trained_anew(kept, tmp_path, part, fault, caplog) -> None:
    (entry,) = (e for e, _ in list_stored(tmp_path))
    content = (entry / part).read_bytes()
    (entry / part).unlink()  # the first study's file keeps its content
    if fault != "gone":
        middle = len(content) // 2
        cut = content[:middle]
        (entry / part).write_bytes(cut if fault == "cut" else cut + b"?" + content[middle + 1 :])
    one = _job(tmp_path / "second")
    assert kept.take(one) is None
    assert not (Path(one.workdir) / BEST).exists()
    assert "It is removed, and trained anew" in caplog.text
    assert list(list_stored(tmp_path)) == []
    _finish(one)
    _put(kept, one)
    assert kept.take(_job(tmp_path / "third")) is not None


@pytest.mark.parametrize("began", ["before an update", "outside"])
def test_what_other_code_began_is_not_kept_as_the_work_of_this(
    site: Site, tmp_path: Path, began: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, one = TrainingStore(site, SLOTS), _job(tmp_path / "first")
    if began == "before an update":
        assert store.take(one) is None
        monkeypatch.setattr(stores, "hash_training_code", lambda: "new")
    _finish(one)
    resumed = TrainingStore(site, SLOTS)
    assert resumed.take(one) is None
    _put(resumed, one)
    assert list(list_stored(tmp_path)) == []


def test_two_studies_keep_one_entry_and_a_crash_leaves_no_part(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, jobs = TrainingStore(site, SLOTS), [_job(tmp_path / name) for name in ("one", "two")]
    for one in jobs:
        assert store.take(one) is None
        _finish(one)
    write = TrainingStore._write

    def race(self: TrainingStore, *given: Any, **named: Any) -> None:
        monkeypatch.setattr(TrainingStore, "_write", write)
        _put(self, jobs[1])  # after the first has looked, and before it has written
        write(self, *given, **named)

    monkeypatch.setattr(TrainingStore, "_write", race)
    _put(store, jobs[0])
    assert len(list(list_stored(tmp_path))) == 1
    assert [file.name for file in store.folder.glob(".*")] == []
    assert caplog.text == ""
    crashed = store.folder / ".draft-0123"
    crashed.mkdir()
    (crashed / BEST).write_bytes(b"half")
    assert len(list(list_stored(tmp_path))) == 1


def test_a_training_that_has_begun_in_the_study_goes_on(kept, tmp_path) -> None:
    one = _job(tmp_path / "second")
    save(Path(one.workdir) / LAST, {"history": []})
    assert kept.take(one) is None


def test_only_what_is_complete_is_kept(site, tmp_path) -> None:
    store, one = TrainingStore(site, SLOTS), _job(tmp_path / "first")
    _put(store, one)
    _finish(one)
    (Path(one.workdir) / ENDED).write_text("diverged\n")
    _put(store, one)
    assert list(list_stored(tmp_path)) == []


def test_a_store_that_cannot_be_written_is_reported(site, tmp_path, caplog) -> None:
    store, one = TrainingStore(site, SLOTS), _job(tmp_path / "first")
    assert store.take(one) is None
    _finish(one)
    store.folder.write_text("a file")
    _put(store, one)
    assert "is not kept for later studies" in caplog.text


def test_the_command_lists_and_prunes(kept, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CRYO_STORAGE", str(tmp_path))

    def call(*words: str) -> str:
        done = CliRunner().invoke(main, ["store", *words])
        assert done.exit_code in (0, 2), done.output
        return done.output

    assert "baseline-seed1" in call("list")
    assert "71.43" in call("list")
    assert "Nothing says which" in call("prune")
    assert "0 trainings removed" in call("prune", "--study", "other")
    assert "0 trainings removed" in call("prune", "--study", "first", "--older-than", "99999")
    (entry,) = (e for e, _ in list_stored(tmp_path))
    assert read_entry(entry) is not None
    assert "1 training removed" in call("prune", "--study", "first")
    assert (tmp_path / "first" / "confirm" / "baseline-seed1" / BEST).exists()
    assert "No training is kept" in call("list")
