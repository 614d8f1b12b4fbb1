"""cluster/: what it says is what `cryo-hpo submit` does, and its script starts, submits and stops."""

from __future__ import annotations

import json
import stat
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cryo_hpo.cli.main import main
from cryo_hpo.config import Site, find_source
from cryo_hpo.errors import SpecError
from cryo_hpo.execution.submit import ENV, EXCLUDES, command, require_storage

from ..support.clusters import (
    answers,
    check_nothing_left,
    environment,
    free_ports,
    listening,
    members,
    run,
    runs,
    tiny_study,
    until,
)
from ..support.recorded import recorded_epochs

CLUSTER = Path(__file__).parents[2] / "cluster"
SCRIPT = CLUSTER / "local.sh"


def _submitted(folder: Path, monkeypatch: pytest.MonkeyPatch, **env: str) -> dict[str, Any]:
    """Return the runtime environment that is passed for a study in a folder."""
    monkeypatch.chdir(folder)
    words = command(Path("study.yaml"), Site.from_env(env), address="http://x", env=env)
    assert words[words.index("--") :] == ["--", "cryo-hpo", "run", "study.yaml"]
    assert words[:7] == ["ray", "job", "submit", "--address", "http://x", "--working-dir", "."]
    found: dict[str, Any] = json.loads(words[words.index("--runtime-env-json") + 1])
    return found


def test_the_script_is_bash_and_may_be_run():
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    assert SCRIPT.stat().st_mode & stat.S_IXUSR


def test_the_runtime_environment_is_the_one_that_submit_passes(tmp_path, monkeypatch):
    written = yaml.safe_load((CLUSTER / "runtime_env.yaml").read_text())
    assert written == {"env_vars": ENV, "excludes": list(EXCLUDES)}
    passed = _submitted(tmp_path, monkeypatch)
    assert passed["env_vars"].items() >= ENV.items()
    assert passed["excludes"] == list(EXCLUDES)


def test_a_job_is_told_absolute_places(tmp_path, monkeypatch):
    env = {"CRYO_STORAGE": "here", "CRYO_EMPTY": "", "MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}
    told = _submitted(tmp_path, monkeypatch, **env)["env_vars"]
    assert told["CRYO_STORAGE"] == str(tmp_path / "here")
    assert told["CRYO_DATA"] == str(tmp_path / "data")
    assert told["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:1"
    assert not {"CRYO_CACHE", "CRYO_EMPTY"} & set(told), "a cache is local to its node"


def test_data_and_studies_stay_at_home_whatever_they_are_called(tmp_path, monkeypatch):
    env = {"CRYO_DATA": "scenes", "CRYO_STORAGE": "deep/er", "CRYO_WEIGHTS": "/elsewhere"}
    kept = _submitted(tmp_path, monkeypatch, **env)["excludes"]
    assert kept == [*EXCLUDES, "/scenes", "/deep/er"]


def test_only_what_is_in_the_folder_can_be_sent(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    with pytest.raises(SpecError, match=r"must hold the study's file"):
        command(Path("../study.yaml"), Site.from_env({}), address="", env={})


def test_a_study_that_ships_is_sent_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = Path(find_source("quickstart", "study", beside=Path()))
    words = command(study, Site.from_env({}), address="", env={})
    assert words[words.index("--") :] == ["--", "cryo-hpo", "run", "quickstart"]


def test_submit_looks_at_the_study_first(tmp_path, monkeypatch):
    tiny_study(tmp_path, tmp_path / "data", name="wrong", base__epoch=3)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["submit", "study.yaml", "--address", "http://127.0.0.1:1"])
    assert done.exit_code == 2
    assert "did you mean 'epochs'" in done.output.lower()


@pytest.mark.parametrize(("job", "storage", "fine"), [(0, "", 1), (1, "", 0), (1, "runs", 0), (1, "/runs", 1)])  # fmt: skip
def test_a_job_does_not_write_into_the_folder_that_ray_removes(job, storage, fine):
    env = {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"} if job else {}
    env |= {"CRYO_STORAGE": storage} if storage else {}
    if fine:
        require_storage(env)
        return
    with pytest.raises(SpecError, match="absolute path"):
        require_storage(env)


def test_a_package_holds_the_code_and_not_the_data(tmp_path):
    packaging = pytest.importorskip("ray._private.runtime_env.packaging")
    sent, zipped = tmp_path / "sent", tmp_path / "package.zip"
    names = ("study.yaml", "cryo_hpo/data/tiles.py", "data/scene.tif", "runs/a/best.pt")
    for name in (*names, ".venv/bin/python", ".git/config", "weights/w.pt"):
        (sent / name).parent.mkdir(parents=True, exist_ok=True)
        (sent / name).write_text("x")
    packaging.create_package(str(sent), zipped, include_gitignore=True, excludes=list(EXCLUDES))

    with zipfile.ZipFile(zipped) as package:
        found = {name for name in package.namelist() if not name.endswith("/")}
    assert found == {"study.yaml", "cryo_hpo/data/tiles.py"}


@pytest.mark.machines
def test_the_script_starts_submits_and_stops(tmp_path):
    gcs, dashboard, client, tracking = map(str, free_ports(4))
    storage, sent = tmp_path / "storage", tmp_path / "sent"
    env = environment(
        CRYO_STORAGE=str(storage),
        CRYO_DATA=str(tmp_path / "data"),
        CRYO_CACHE=str(tmp_path / "cache"),
        RAY_PORT=gcs,
        DASHBOARD_PORT=dashboard,
        RAY_CLIENT_PORT=client,
        MLFLOW_PORT=tracking,
        NUM_CPUS="1",
    )
    address, token = f"http://127.0.0.1:{dashboard}", storage / ".ray-token"
    tiny_study(sent, tmp_path / "data", name="tiny", base__epochs=2, search__trials=2, seeds=[1])
    begun = run(SCRIPT, "start", env=env)
    try:
        assert begun.code == 0, begun.output
        assert f"export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={token}" in begun.output
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert answers(f"{address}/api/jobs/") == 401
        assert answers(f"{address}/api/jobs/", {"Authorization": f"Bearer {'0' * 64}"}) == 403
        assert (
            answers(f"{address}/api/jobs/", {"Authorization": f"Bearer {token.read_text()}"}) == 200
        )
        addresses = listening(set(members(str(token))))
        assert f"127.0.0.1:{dashboard}" in addresses
        assert {one.rpartition(":")[0] for one in addresses} == {"127.0.0.1"}
        again = run(SCRIPT, "start", env=env)
        assert again.code == 1, "a second cluster would hide the first"
        done = run(SCRIPT, "submit", "study.yaml", env=env, cwd=sent)
        assert done.code == 0, done.output
        assert (storage / "tiny/result.json").exists()
        told = runs(f"http://127.0.0.1:{tracking}", "tiny")
        assert {one.info.status for one in told.values()} == {"FINISHED"}
        tiny_study(sent, tmp_path / "data", name="long", base__epochs=500)
        begun = run(SCRIPT, "submit", "study.yaml", "--no-wait", env=env, cwd=sent)
        assert begun.code == 0, begun.output
        until(lambda: recorded_epochs(storage / "long"))
    finally:
        ended = run(SCRIPT, "stop", env=env)
        check_nothing_left(str(token))
    assert ended.code == 0, ended.output
    assert not (storage / ".local-cluster").exists()
    told = runs(f"sqlite:///{storage}/mlflow.db", "long")
    assert {one.info.status for one in told.values()} == {"KILLED"}, "a job was not stopped first"
