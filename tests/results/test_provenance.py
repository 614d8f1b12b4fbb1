"""What ran is told without telling secrets."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path

import numpy
import pytest

from cryo_hpo.results import provenance
from cryo_hpo.results.provenance import environment


def test_versions_and_machine_are_told_as_json() -> None:
    told = environment()
    assert json.loads(json.dumps(told)) == told
    assert told["python"] == platform.python_version()
    packages = told["packages"]
    assert isinstance(packages, dict)
    assert packages["numpy"] == numpy.__version__


def test_environment_variables_stay_private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYO_SECRET", "a-password-of-mine")
    assert "a-password-of-mine" not in json.dumps(environment())


def test_a_missing_package_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package",))
    assert environment()["packages"] == {"no-such-package": None}


def test_revision_and_changes_of_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = tmp_path / "provenance.py"
    room.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(room))
    assert (environment()["git_revision"], environment()["git_dirty"]) == (None, None)

    def git(*command: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(
            ["git", "-C", str(tmp_path), *who, *command], check=True, capture_output=True
        )

    git("init")
    assert environment()["git_revision"] is None  # the repository does not hold the package
    git("add", ".")
    git("commit", "-m", "x")
    told = environment()
    assert len(str(told["git_revision"])) == 40
    assert told["git_dirty"] is False
    room.write_text("changed")
    assert environment()["git_dirty"] is True


def test_no_git_no_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert environment()["git_revision"] is None
