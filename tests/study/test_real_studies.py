"""A shipped study of real scenes with real weights, in miniature: the same file, fewer epochs and scenes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cryo_hpo.config import dump_study, load_study
from cryo_hpo.results.study import load_result

STUDIES = Path(__file__).parents[2] / "search_spaces" / "studies"
SMALL = {
    "epochs": 2,
    "data.crop": 64,
    "data.label_fraction": 0.2,
    "data.overlap": 0,
    "model.channels": 32,
}


def _environment(shared: Path, folder: Path) -> dict[str, str]:
    return {
        "CRYO_DATA": str(shared / "data"),
        "CRYO_WEIGHTS": str(shared / "weights"),
        "CRYO_STORAGE": str(folder / "runs"),
        "CRYO_CACHE": str(folder / "cache"),
    }


@pytest.mark.slow
def test_cryo_hpo_run_brings_a_real_study_to_its_verdict(shared, tmp_path):
    study = load_study(STUDIES / "calving-fronts.yaml")
    assert study.search is not None
    short = study.model_copy(
        update={
            "base": study.base.replace(SMALL),
            "search": study.search.model_copy(update={"trials": 2}),
            "seeds": (1, 2),
        }
    )
    file = tmp_path / "short.yaml"
    file.write_text(dump_study(short))
    done = subprocess.run(
        [sys.executable, "-m", "cryo_hpo", "run", "--inline", str(file)],
        env={**os.environ, **_environment(shared, tmp_path)},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    result = load_result(tmp_path / "runs" / "calving-fronts")
    assert result.improvement is not None
    assert result.improvement.verdict in done.stdout
    assert {len(arm.seeds) for arm in result.arms} == {2}
