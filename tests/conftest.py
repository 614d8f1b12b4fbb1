"""What every test gets: a scrubbed environment, and the shared material where there is any."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRUBBED = ("CRYO_", "MLFLOW_", "RAY_", "HF_", "AWS_")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the user's settings, and keep every library silent about the outside world."""
    for name in [name for name in os.environ if name.startswith(SCRUBBED)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data, weights and reference values beside the project."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("real data, weights and reference values are not on this machine")
    return folder
