"""Define fixtures for all tests: a scrubbed environment, and shared data where available."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from .support.clusters import Head

# The duration of an example depends on the load of the machine, not on the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

ROOT = Path(__file__).parents[1]
SCRUBBED = ("CRYO_", "MLFLOW_", "RAY_", "HF_", "AWS_")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the user's settings, and keep every library off the network."""
    for name in [name for name in os.environ if name.startswith(SCRUBBED)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else drivers of tests beside starve workers
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True, scope="session")
def default_hangup() -> None:
    """Let a hangup and Ctrl-C do what they do on a terminal, though the tests may run without one."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real data, weights and reference values beside the project."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("real data, weights and reference values are not on this machine")
    return folder


@pytest.fixture(scope="session")
def ray_head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """Start a Ray head of five cores that requires a token, and an MLflow server beside it.

    Tests that need Ray share it; each test process starts its own.
    """
    from .support.clusters import head

    with head(tmp_path_factory.mktemp("head"), num_cpus=5) as running:
        yield running


# Makes an encoder of the table tiny; those that are small anyway need no change.
SMALL: dict[str, Any] = {"dim": 32, "depth": 4, "heads": 2, "size": 64}
TINY: dict[str, dict[str, Any]] = {
    "unet": {},
    "galileo-nano": {},
    "presto": {},
    "prithvi-v2-600m": {**SMALL, "patch": 16},  # the common sizes of images fit 14 not
    "gfm-swin": {"dim": 8, "depth": (1, 1, 2, 1), "heads": (1, 1, 2, 2), "size": 64},
    "satlasnet-swinv2b": {"dim": 8, "depth": (1, 1, 2, 1), "heads": (1, 1, 2, 2), "size": 64},
}


@pytest.fixture
def tiny_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace every encoder of the table by a tiny one of its kind, for tests of all encoders."""
    from cryo_hpo.models import ENCODERS

    for name, card in list(ENCODERS.items()):
        knobs = TINY.get(name, SMALL)
        monkeypatch.setitem(ENCODERS, name, replace(card, build=partial(card.build, **knobs)))
