"""MLflow's database file is made whole, by one process at a time, and named where it is damaged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from mlflow.tracking import MlflowClient
from mlflow.utils.validation import MAX_EXPERIMENT_TAG_VAL_LENGTH

from cryo_hpo.cli.main import main
from cryo_hpo.errors import TrackingError
from cryo_hpo.study.verdict import experiment
from cryo_hpo.tracking import Tracker, experiment_pages
from cryo_hpo.tracking.server import connect
from cryo_hpo.tracking.view import TAG, view_state

from ..support.clusters import free_ports, until
from ..support.tracked import tracked_study

TOGETHER = 9
# Imports once, then forks: the processes meet the missing database at the same moment.
CONNECT = f"""
import os, sys, traceback
from cryo_hpo.tracking.server import connect
children = []
for _ in range({TOGETHER}):
    child = os.fork()
    if not child:
        try:
            connect(sys.argv[1], "cryo/x")
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    children.append(child)
print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


@pytest.mark.slow
def test_studies_that_begin_together_share_one_new_database(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/runs/mlflow.db"
    done = subprocess.run(
        [sys.executable, "-c", CONNECT, uri],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.stdout.split() == ["0"] * TOGETHER, done.stderr
    assert [file.name for file in (tmp_path / "runs").glob("[!.]*")] == ["mlflow.db"]


def test_a_file_that_is_no_database_of_mlflow_is_named_with_what_helps(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    file.write_bytes(b"SQLite format 3\0 and then nothing of the kind" * 50)
    with pytest.raises(TrackingError) as caught:
        connect(f"sqlite:///{file}", "cryo/x")
    assert f"'{file}'" in str(caught.value)
    assert "Move it away" in str(caught.value)
    assert "mlflow server" not in str(caught.value)


def test_an_experiment_opens_on_a_view_of_its_studies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert experiment_pages(uri) == {}
    assert not (tmp_path / "mlflow.db").exists(), "looking makes no database"
    client, identifier = connect(uri, "cryo/ice")
    assert client.get_experiment(identifier).tags[TAG] == view_state()
    client.set_experiment_tag(identifier, TAG, "that of an older version")
    connect(uri, "cryo/ice")
    assert client.get_experiment(identifier).tags[TAG] == view_state()
    pages = experiment_pages(uri, port=5050)
    assert list(pages) == ["cryo/ice"]
    assert pages["cryo/ice"] == (
        f"http://127.0.0.1:5050/#/experiments/{identifier}/runs"
        "?viewStateShareKey=cryo&workflowType=machine_learning"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    said = CliRunner().invoke(main, ["ui", "--print", "--port", "5050"])
    assert said.output.splitlines()[:2] == [
        f"cryo/ice: {pages['cryo/ice']}",
        f"cryo/ice, charts: {pages['cryo/ice']}&compareRunsMode=CHART",
    ]
    assert "mlflow ui" in said.output


@pytest.mark.slow
def test_ui_serves_the_pages_where_no_mlflow_is_on_the_path(tmp_path: Path) -> None:
    tracked_study(tmp_path, uri := f"sqlite:///{tmp_path}/mlflow.db")
    (port,) = free_ports(1)
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri, "PATH": os.defpath}
    command = [sys.executable, "-m", "cryo_hpo", "ui", "--port", str(port)]
    with subprocess.Popen(command, env=environment, start_new_session=True) as served:
        try:
            until(lambda: _answers(f"http://127.0.0.1:{port}/health"), timeout_s=120)
        finally:
            os.killpg(served.pid, signal.SIGKILL)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as page:
            return bool(page.status == 200)
    except OSError:
        return False


def test_the_view_holds_charts_that_mlflow_accepts(tmp_path: Path) -> None:
    state = json.loads(view_state())
    sections = {section["uuid"] for section in state["compareRunSections"]}
    charts = state["compareRunCharts"]
    assert [chart["type"] for chart in charts] == ["SCATTER", "PARALLEL", "LINE", "BAR"]
    assert {chart["metricSectionId"] for chart in charts} == sections
    assert len({chart["uuid"] for chart in charts}) == len(charts)
    assert len(view_state()) < MAX_EXPERIMENT_TAG_VAL_LENGTH
    study, _ = tracked_study(tmp_path, uri := f"sqlite:///{tmp_path}/mlflow.db")
    client, identifier = connect(uri, experiment(study))
    run, *_ = client.search_runs([identifier], "tags.`cryo.kind` = 'search'")
    parallel = charts[1]
    assert set(parallel["selectedParams"]) <= run.data.params.keys(), (
        "a run without one is left out"
    )
    assert {*parallel["selectedMetrics"], charts[2]["metricKey"]} <= run.data.metrics.keys()


def test_mlflows_pages_know_every_word_of_the_view() -> None:
    """A key, a kind of chart or a mode that the installed version lacks would be ignored silently."""
    pages = Path(mlflow.__file__).parent / "server" / "js" / "build" / "static" / "js"
    (main_page,) = pages.glob("main.*.js")
    text = main_page.read_text(encoding="utf-8")
    state = json.loads(view_state())
    searched = {"orderByKey", "orderByAsc"}  # of the search, elsewhere in the pages
    for word in {*state} - searched:
        assert f'"{word}"' in text, word
    for chart in state["compareRunCharts"]:
        kind = chart["type"]
        assert f'{kind}="{kind}"' in text
        for key in {*chart} - {"uuid", "type"}:
            assert f"this.{key}=" in text, (kind, key)
    assert f'"{state["runsHiddenMode"]}"' in text


def test_a_study_and_its_trainings_have_their_dataset(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    prints = {"train": "a" * 64, "val": "b" * 64, "test": "c" * 64}
    tracker = Tracker.connect(uri, experiment="cryo/ice", log=tmp_path / "events.jsonl")
    tracker.start("s", name="s", dataset={"name": "lakes", "splits": prints})
    tracker.start("s/trial-0000", name="trial-0000", parent="s")
    assert tracker.close() == 0
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("cryo/ice")
    assert experiment is not None
    inputs = {
        run.info.run_name: run.inputs.dataset_inputs
        for run in client.search_runs([experiment.experiment_id])
        if run.inputs is not None
    }
    seen = {
        name: {each.tags[0].value: each.dataset.digest for each in every}
        for name, every in inputs.items()
    }
    assert seen["s"] == {split: print_[:12] for split, print_ in prints.items()}
    assert seen["trial-0000"] == {split: prints[split][:12] for split in ("train", "val")}
    source = inputs["s"][0].dataset.source
    assert json.loads(source)["fingerprint"] in prints.values()
