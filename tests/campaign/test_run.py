"""A whole campaign, inline, and on Ray after a kill: one command, one queue, one table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow.tracking import MlflowClient

from cryo_hpo.cli.main import main
from cryo_hpo.config import cell_studies, load_campaign
from cryo_hpo.results import study as results
from cryo_hpo.results.campaign import load_campaign_result

from ..support.campaigns import small_campaign
from ..support.clusters import Head
from ..support.recorded import recorded_epochs
from ..support.sandbox import finish, kill, wait_for

CELLS = ("camp.one.narrow", "camp.two.narrow", "camp.two.wide")


def _places(root: Path, storage: str) -> dict[str, str]:
    names = {"CRYO_DATA": "data", "CRYO_CACHE": "cache", "CRYO_STORAGE": storage}
    return {name: str(root / path) for name, path in names.items()}


def _run(root: Path, storage: str) -> str:
    """Run the campaign in this process, and return what it printed."""
    words = ["run", "--inline", str(root / "camp.yaml")]
    done = CliRunner().invoke(main, words, env=_places(root, storage), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def _start(root: Path, storage: str, head: Head, *command: str) -> subprocess.Popen[str]:
    """Start the command line in a process of its own, on a Ray cluster."""
    return subprocess.Popen(
        [sys.executable, "-m", "cryo_hpo", *command],
        cwd=root,
        env={**os.environ, **_places(root, storage), **head.joined, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("campaign")
    small_campaign(folder)
    return folder


@pytest.fixture(scope="module")
def whole(root) -> tuple[Path, str]:
    """The storage of a campaign that ran through inline, and what it printed."""
    output = _run(root, "whole")
    return root / "whole", output


@pytest.mark.slow
def test_every_cell_is_a_study_with_a_result_of_its_own(whole, root):
    storage, output = whole
    found = load_campaign_result(storage / "camp")
    assert tuple(cell.study for cell in found.cells) == CELLS
    for cell in found.cells:
        result = results.load_result(storage / cell.study)
        assert result.improvement == cell.improvement
        assert tuple(s.test_miou for s in result.arm("baseline").seeds) == cell.baseline
        assert tuple(s.test_miou for s in result.arms[-1].seeds) == cell.tuned
        assert [trial.number for trial in result.trials] == [0, 1, 2]
        assert (storage / cell.study / "report" / "report.html").exists()
        assert result.mlflow_pending == 0
    assert "tuned against fixed learning rate" in output
    assert (storage / "camp" / "report" / "report.html").exists()
    again = _run(root, "whole")
    assert "has finished" in again


@pytest.mark.slow
def test_later_cells_begin_with_what_earlier_ones_found(whole, root):
    storage, _ = whole
    first, second, third = load_campaign_result(storage / "camp").cells
    assert first.offers == ()
    assert [offer.study for offer in second.offers] == [first.study]
    assert [offer.study for offer in third.offers] == [second.study]
    spec = results.load_result(storage / second.study).spec
    rate = second.offers[0].params["optim.lr"]
    assert spec["search"]["prior"]["optim.lr"]["center"] == pytest.approx(rate)
    plain = cell_studies(load_campaign(root / "camp.yaml"))
    assert all(study.search and not study.search.prior for study in plain.values())


@pytest.mark.slow
def test_mlflow_shows_campaign_cells_and_trainings_below_each_other(whole):
    storage, _ = whole
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    found = load_campaign_result(storage / "camp")
    top = client.get_run(found.mlflow_run_id or "")
    assert top.info.status == "FINISHED"
    assert found.overall.relative_pct is not None
    assert top.data.metrics["mean_relative_improvement_pct"] == pytest.approx(
        found.overall.relative_pct.mid
    )

    def below(run_id: str) -> list[str]:
        query = f"tags.`mlflow.parentRunId` = '{run_id}'"
        runs = client.search_runs([top.info.experiment_id], query)
        assert all(run.info.status in ("FINISHED", "FAILED") for run in runs)
        return [run.info.run_id for run in runs]

    cells = below(top.info.run_id)
    names = {client.get_run(run).data.tags["cryo.study"] for run in cells}
    assert names == set(CELLS)
    for run in cells:
        study = client.get_run(run).data.tags["cryo.study"]
        arms = results.load_result(storage / study).arms
        assert len(below(run)) == 3 + 2 * len(arms)
    artifacts = {a.path for a in client.list_artifacts(top.info.run_id)}
    assert {"campaign.yaml", "campaign-result.json", "report"} <= artifacts


@pytest.mark.ray
def test_a_killed_campaign_on_ray_is_resumed_to_the_result_of_one_inline(whole, root, ray_head):
    storage = root / "killed"
    process = _start(root, "killed", ray_head, "run", "camp.yaml")
    second = storage / CELLS[1]
    wait_for(process, lambda: bool(recorded_epochs(second)))  # the first cell is through
    kill(process)
    offers = (storage / "camp" / "offers.json").read_text()
    finish(_start(root, "killed", ray_head, "resume", "camp"))
    for name, offered in json.loads(offers).items():
        assert json.loads((storage / "camp" / "offers.json").read_text())[name] == offered
    for name in CELLS:
        epochs = recorded_epochs(storage / name)
        assert len(epochs) == len(set(epochs)), "no epoch is recorded twice"
    found, expected = (
        load_campaign_result(storage / "camp"),
        load_campaign_result(whole[0] / "camp"),
    )
    same = {"seconds": 0.0}
    assert [c.model_copy(update=same) for c in found.cells] == [
        c.model_copy(update=same) for c in expected.cells
    ]
    assert found.overall == expected.overall
