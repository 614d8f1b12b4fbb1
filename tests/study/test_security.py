"""What a stranger's spec cannot do, and where a secret does not end up."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cryo_hpo.config import load_study
from cryo_hpo.errors import SpecError

from ..support.clusters import environment, run, tiny_study

SECRETS = {
    "MLFLOW_TRACKING_PASSWORD": "planted-mlflow-password",
    "MLFLOW_TRACKING_TOKEN": "planted-mlflow-token",
    "AWS_SECRET_ACCESS_KEY": "planted-aws-key",
    "RAY_AUTH_TOKEN": "planted0ray0token0of0thirty0two0characters",
    "HF_TOKEN": "planted-hub-token",
    "DATABASE_PASSWORD": "planted-database-password",
}
CODE = ("!!python/object/apply:os.system ['touch owned']", "!!python/name:os.system ''")


@pytest.mark.parametrize("value", CODE)
def test_a_spec_cannot_name_python_objects(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(f"name: {value}\nbase: {{data: {{name: lakes-demo}}}}\n")
    with pytest.raises(SpecError, match=r"study.yaml:1"):
        load_study(tmp_path / "study.yaml")
    assert not (tmp_path / "owned").exists()


def test_python_beside_a_spec_is_not_run_unless_the_spec_names_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("space.py", "lr.py", "sitecustomize.py", "conftest.py"):
        (tmp_path / name).write_text("open('owned', 'w').close()\n")
    file = tiny_study(tmp_path / "sent", tmp_path / "data", name="quiet")
    load_study(file)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("place", ["/tmp/elsewhere.py:space", "../elsewhere.py:space"])
def test_python_outside_the_submitter_s_own_tree_is_refused(tmp_path, monkeypatch, place):
    folder = tmp_path / "tree"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (tmp_path / "elsewhere.py").write_text("open('owned', 'w').close()\n")
    file = folder / "study.yaml"
    text = "name: x\nbase: {data: {name: lakes-demo}}\nsearch: {trials: 4, space: 'PLACE'}\n"
    file.write_text(text.replace("PLACE", place))
    with pytest.raises(SpecError, match=r"study\.yaml:3"):
        load_study(file)
    assert not (folder / "owned").exists()


@pytest.mark.slow
def test_no_secret_of_the_environment_is_written_anywhere(tmp_path: Path) -> None:
    file = tiny_study(tmp_path / "sent", tmp_path / "data", name="secrets", seeds=[1])
    places = {f"CRYO_{n.upper()}": str(tmp_path / n) for n in ("data", "storage", "cache")}
    done = run(
        "cryo-hpo", "run", "--inline", file, env=environment(**places, **SECRETS), timeout_s=400
    )
    assert done.code == 0, done.output
    assert "planted" not in done.output
    # study folder, result, journal, events, report, MLflow's database and artifacts
    found = subprocess.run(
        ["grep", "-rla", "planted", str(tmp_path / "storage")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == ""
    assert (tmp_path / "storage/mlflow.db").exists()
