"""The README's studies of real scenes with real weights, in miniature: the same files, fewer epochs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cryo_hpo.config import Site, dump_study, load_study
from cryo_hpo.results.study import load_result
from cryo_hpo.study.preflight import check
from cryo_hpo.training.build import segmenter
from cryo_hpo.training.loop import fit

STUDIES = Path(__file__).parents[2] / "search_spaces" / "studies"
REAL = ("rock-glaciers", "calving-fronts")


def _environment(shared: Path, folder: Path) -> dict[str, str]:
    return {
        "CRYO_DATA": str(shared / "data"),
        "CRYO_WEIGHTS": str(shared / "weights"),
        "CRYO_STORAGE": str(folder / "runs"),
        "CRYO_CACHE": str(folder / "cache"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_pretrained_weights_learn_on_real_scenes(name, shared, tmp_path):
    site = Site.from_env(_environment(shared, tmp_path))
    study = load_study(STUDIES / f"{name}.yaml")
    check(study, site=site)
    recipe = study.base.replace({"epochs": 2, "optim.lr": 5e-4})
    first, last = fit(recipe, site=site, workdir=tmp_path / "fit", device=torch.device("cpu"))
    assert last.train_loss < first.train_loss
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loaded = segmenter(recipe, site=site, weights=recipe.model.weights)
        scratch = segmenter(recipe, site=site, weights="scratch")
    pairs = zip(loaded.encoder.parameters(), scratch.encoder.parameters(), strict=True)  # type: ignore[attr-defined]
    assert not any(torch.equal(one, other) for one, other in pairs if one.ndim > 1)


@pytest.mark.slow
def test_cryo_hpo_run_brings_a_real_study_to_its_verdict(shared, tmp_path):
    study = load_study(STUDIES / "calving-fronts.yaml")
    assert study.search is not None
    short = study.model_copy(
        update={
            "base": study.base.replace({"epochs": 2}),
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
