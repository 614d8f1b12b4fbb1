"""`ray job submit` on a real Ray head with a real MLflow server: the same result, and a clean stop."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cryo_hpo.execution.submit import ENV
from cryo_hpo.report.verdict import verdict_text
from cryo_hpo.results.study import load_result

from ..support.clusters import (
    Head,
    environment,
    listening,
    members,
    run,
    runs,
    tiny_study,
    until,
)
from ..support.outcomes import outcome
from ..support.recorded import recorded_epochs

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def logs(ray_head: Head) -> Iterator[None]:
    """Show what the jobs wrote; pytest prints it where a test fails."""
    yield
    for log in sorted(ray_head.logs.glob("job-driver-*.log")):
        sys.stdout.write(f"--- {log.name}\n{log.read_text()[-4000:]}\n")


def places(folder: Path, uri: str) -> dict[str, str]:
    """Return a job's variables: absolute, on a disk that driver and workers share."""
    names = ("data", "weights", "storage", "cache")
    return {
        **{f"CRYO_{name.upper()}": str(folder / name) for name in names},
        "MLFLOW_TRACKING_URI": uri,
    }


def submit(cluster: Head, sent: Path, variables: dict[str, str], *options: str) -> Any:
    """Run the documented command in the folder that is sent."""
    runtime = ["--runtime-env-json", json.dumps({"env_vars": variables})] if variables else []
    words = ["submit", "--address", cluster.address, "--working-dir", ".", *runtime, *options]
    return cluster.ray(*words, "--", "cryo-hpo", "run", "study.yaml", cwd=sent)


def statuses(cluster: Head, name: str) -> dict[str, str]:
    return {key: str(run.info.status) for key, run in runs(cluster.mlflow, name).items()}


def test_a_job_gives_the_result_of_a_local_run(ray_head: Head, tmp_path: Path) -> None:
    file = tiny_study(tmp_path / "sent", tmp_path / "data", name="same")
    there, here = places(tmp_path, ray_head.mlflow), places(tmp_path, "")
    done = submit(ray_head, file.parent, there)
    assert done.code == 0, done.output
    assert "trial-0002" in done.output
    assert "epoch 4/4" in done.output
    assert verdict_text(load_result(tmp_path / "storage/same")) in done.output

    local = tmp_path / "local"
    here |= {"CRYO_STORAGE": str(local), "MLFLOW_TRACKING_URI": f"sqlite:///{local}/mlflow.db"}
    alone = run(
        "cryo-hpo", "run", "--inline", "study.yaml", env=environment(**here), cwd=file.parent
    )
    assert alone.code == 0, alone.output
    assert outcome(tmp_path / "storage/same/result.json") == outcome(local / "same/result.json")

    found = runs(ray_head.mlflow, "same")
    assert {"", "trial-0000", "trial-0001", "trial-0002", "baseline-seed1"} <= set(found)
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert "relative_improvement_pct" in found[""].data.metrics
    parents = {run.data.tags.get("mlflow.parentRunId") for key, run in found.items() if key}
    assert parents == {found[""].info.run_id}


def test_a_wrong_study_ends_with_its_message_and_an_exit_code(
    ray_head: Head, tmp_path: Path
) -> None:
    file = tiny_study(tmp_path / "sent", tmp_path / "data", name="wrong", base__epoch=3)
    done = submit(ray_head, file.parent, {})
    assert done.code != 0
    assert "study.yaml" in done.output
    assert "epoch" in done.output


def stop_in_the_middle(
    cluster: Head, sent: Path, folder: Path, variables: dict[str, str], *, job: str
) -> list[tuple[str, int]]:
    """Submit a study, stop it when it has learned, and return the epochs recorded until then."""
    before = recorded_epochs(folder)
    begun = submit(cluster, sent, variables, "--no-wait", "--submission-id", job)
    assert begun.code == 0, begun.output
    until(lambda: len(recorded_epochs(folder)) > len(before) + 1)
    stopped = cluster.ray("stop", "--address", cluster.address, job)
    assert stopped.code == 0, stopped.output
    status = cluster.ray("status", "--address", cluster.address, job)
    assert "stopped" in status.output.lower(), status.output
    after = recorded_epochs(folder)
    assert after[: len(before)] == before
    return after


def test_a_stopped_job_is_killed_in_mlflow_and_goes_on(ray_head: Head, tmp_path: Path) -> None:
    trials, length = 3, 60
    changes = {"base__epochs": length, "search__parallel": 2, "seeds": [1]}
    file = tiny_study(tmp_path / "sent", tmp_path / "data", name="stop", **changes)
    variables = places(tmp_path, ray_head.mlflow)
    folder = tmp_path / "storage/stop"
    for job, more in (("three-seconds", {}), ("our-runtime-env", ENV)):
        learned = stop_in_the_middle(ray_head, file.parent, folder, {**variables, **more}, job=job)
        assert len(learned) < trials * length, "the study was too short to be stopped in its middle"
        found = statuses(ray_head, "stop")
        assert found.pop("") == "KILLED", job
        assert "KILLED" in found.values(), job
        assert set(found.values()) <= {"KILLED", "FINISHED"}, (job, found)

    done = submit(ray_head, file.parent, variables)
    assert done.code == 0, done.output
    epochs = recorded_epochs(folder)
    assert len(epochs) == len(set(epochs)), "an epoch is recorded twice"
    result = load_result(folder)
    assert [trial.number for trial in result.trials] == list(range(trials))
    assert result.costs.epochs_search == trials * length
    assert set(statuses(ray_head, "stop").values()) == {"FINISHED"}


def test_the_head_asks_for_its_token_and_listens_on_loopback_alone(ray_head: Head) -> None:
    without = {**ray_head.env, "RAY_AUTH_MODE": "disabled"}
    refused = run("ray", "job", "list", "--address", ray_head.address, env=without)
    assert refused.code != 0
    assert "401" in refused.output or "auth" in refused.output.lower()
    ours = members(ray_head.env["RAY_AUTH_TOKEN_PATH"])
    addresses = listening(set(ours))
    assert len(addresses) > 5, f"{addresses} is not all of a head, its agents and MLflow"
    assert {address.rpartition(":")[0] for address in addresses} == {"127.0.0.1"}
