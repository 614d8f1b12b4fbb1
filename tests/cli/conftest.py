"""Define what tests of whole commands share: a folder of their own, with every place below it."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder that holds data, cache, storage and weights."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATA", "CACHE", "STORAGE", "WEIGHTS"):
        monkeypatch.setenv(f"CRYO_{name}", str(tmp_path / name.lower()))
    return tmp_path
