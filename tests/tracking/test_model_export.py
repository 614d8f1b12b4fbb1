"""The winner in MLflow: a signed model that loads without this package, registered if asked."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing

import mlflow
import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient

from cryo_hpo.errors import CryoError, StorageError
from cryo_hpo.prediction.model import open_model
from cryo_hpo.results.study import load_result
from cryo_hpo.study import run as studies
from cryo_hpo.study.verdict import experiment
from cryo_hpo.tracking import Tracker, deliver, save_model

from ..support.finished import finished_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A finished study whose winner was logged and registered while MLflow was there."""
    done = finished_study(tmp_path_factory.mktemp("logged"))
    study = done.study.model_copy(update={"registered_as": "lakes winner"})
    log = done.folder / "events.jsonl"
    tracker = Tracker.connect(done.site.mlflow, experiment=experiment(study), log=log)
    with closing(tracker):
        tracker.start(study.name, name=study.name)
        studies.log_winner(load_result(done.folder), study, done.site, done.folder, tracker=tracker)
        tracker.end(study.name, "FINISHED")
    assert tracker.pending() == 0
    return done._replace(study=study)


def _client(done) -> MlflowClient:
    return MlflowClient(done.site.mlflow, done.site.mlflow)


def _models(done):
    client = _client(done)
    found = client.get_experiment_by_name(experiment(done.study))
    assert found is not None
    return client.search_logged_models([found.experiment_id])


def test_the_model_is_signed_and_belongs_to_the_studys_run(logged):
    (model,) = _models(logged)
    assert model.name == "done"
    assert str(model.status) == "READY"
    run = _client(logged).get_run(model.source_run_id)
    assert run.data.tags["cryo.key"] == "done"
    assert run.data.tags["cryo.model"].startswith("baseline, seed")
    assert run.outputs is not None
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]


LOAD = """
import sys
sys.modules["cryo_hpo"] = None  # the graph needs nothing of ours
import mlflow, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[1])
signature = model.metadata.signature
assert [tuple(t.shape) for t in signature.inputs.inputs] == [(-1, 3, 16, 16)], signature
assert [tuple(t.shape) for t in signature.outputs.inputs] == [(-1, 2, 16, 16)], signature
np.save(sys.argv[3], model.predict(np.load(sys.argv[2])))
"""


def test_it_loads_without_this_package_and_maps_as_the_study_does(logged, tmp_path):
    (model,) = _models(logged)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 3, 16, 16)).astype(np.float32)
    np.save(tmp_path / "in.npy", pixels)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, model.artifact_location, "in.npy", "out.npy"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    logits = np.load(tmp_path / "out.npy")
    ours = open_model(logged.folder, site=logged.site)
    for image, one in zip(pixels, logits, strict=True):
        assert np.array_equal(ours.predict(image), one.argmax(axis=0))


def test_it_is_registered_with_an_alias_and_only_once(logged):
    client = _client(logged)
    (version,) = client.search_model_versions("name = 'lakes winner'")
    assert client.get_model_version_by_alias("lakes winner", "winner").version == version.version
    log = logged.folder / "events.jsonl"
    for name in logged.folder.glob("events.jsonl.*"):  # what says that all is delivered
        name.unlink()
    assert deliver(log, uri=logged.site.mlflow, experiment=experiment(logged.study)) == 0
    assert len(_models(logged)) == 1
    assert len(client.search_model_versions("name = 'lakes winner'")) == 1


def test_a_model_that_cannot_be_exported_costs_no_result(logged, tmp_path, monkeypatch, caplog):
    def fails(*_, **__):
        raise RuntimeError("no graph\nand a long story")

    monkeypatch.setattr(studies, "save_model", fails)
    told: list[object] = []

    class Told:
        def tag(self, key, tags):
            told.append((key, tags))

    studies.log_winner(
        load_result(logged.folder),
        logged.study,
        logged.site,
        logged.folder,
        tracker=Told(),  # type: ignore[arg-type]
    )
    assert told == [("done", {"cryo.model": "not logged: no graph"})]
    assert "no graph" in caplog.text


@pytest.mark.parametrize(
    ("error", "full"),
    [(OSError(28, "No space left on device"), False), (RuntimeError("failed writing"), True)],
    ids=["the system's error", "torch's own error"],
)
def test_a_model_for_which_the_disk_has_no_room_is_completed_by_the_same_command(
    logged, monkeypatch, error, full
):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(studies, "save_model", fails)
    monkeypatch.setattr(studies, "is_full", lambda _: full)
    given = (load_result(logged.folder), logged.study, logged.site, logged.folder)
    with pytest.raises(StorageError, match=r"winner's model.*Free space.*the model follows"):
        studies.log_winner(*given, tracker=None)  # type: ignore[arg-type]


def test_a_graph_of_one_batch_size_says_so(tmp_path):
    class Stubborn(torch.nn.Module):
        def forward(self, x):
            return torch.zeros(2, 2, 8, 8) + x.reshape(2, 3, 8, 8)[:, :2]

    save_model(Stubborn().eval(), tmp_path / "m", shape=(3, 8, 8))
    signature = mlflow.models.get_model_info(str(tmp_path / "m")).signature
    assert [tuple(t.shape) for t in signature.inputs.inputs] == [(2, 3, 8, 8)]


def test_what_is_not_logged_is_not_registered(logged):
    from cryo_hpo.config import dump_study, load_study

    file = logged.folder / "bad.yaml"
    file.write_text(dump_study(logged.study).replace("log_model: true", "log_model: false"))
    with pytest.raises(
        CryoError, match="registered_as: Cannot register a model that is not logged"
    ):
        load_study(file)
