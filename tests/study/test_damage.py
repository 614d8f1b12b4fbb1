"""Files of a study that are lost or damaged after they were written: reported, never another result.

Each test damages a copy of one finished study, gives the same command, and compares the results.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cryo_hpo.results.study import load_result

from ..support.outcomes import check_same_outcome
from ..support.sandbox import Sandbox

pytestmark = pytest.mark.slow


@pytest.fixture
def copied(sandbox: Sandbox, finished: Callable[[str], Path]) -> Callable[[str], Path]:
    """Copy the finished study to a storage of this name, without its test scores and result."""

    def copy(storage: str) -> Path:
        whole = finished("promote")
        shutil.copytree(whole.parent, sandbox.root / storage)
        folder = sandbox.root / storage / whole.name
        for name in ("result.json", "test-scores.json"):
            (folder / name).unlink()
        return folder

    return copy


def _again(sandbox: Sandbox, folder: Path) -> str:
    return sandbox.run(sandbox.study("whole-promote"), folder.parent.name)


@pytest.mark.parametrize("lost", ["gone", "swapped"])
def test_a_lost_best_model_is_trained_again_and_never_scores_0(
    sandbox, finished, copied, lost, caplog
):
    folder = copied(f"best-{lost}")
    path = folder / "confirm" / "tuned-seed2" / "best.pt"
    path.unlink()
    if lost == "swapped":
        shutil.copy(folder / "confirm" / "baseline-seed2" / "best.pt", path)
    _again(sandbox, folder)
    assert "Training 'tuned-seed2' runs again" in caplog.text
    assert caplog.text.count("runs again") == 1
    check_same_outcome(folder, finished("promote"))
    assert load_result(folder).improvement == load_result(finished("promote")).improvement
