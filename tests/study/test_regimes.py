"""A study on a fake of each published dataset, in each regime, through the command line, inline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mlflow.tracking import MlflowClient

from cryo_hpo.cli.main import main
from cryo_hpo.config.protocol import DATASETS_OF
from cryo_hpo.data import DATASETS
from cryo_hpo.results.study import Result, load_result

from ..support.fakes import FAKES

pytestmark = pytest.mark.slow
UNET = {"encoder": "unet", "decoder": "unet", "width": 4}
FROZEN = {"encoder": "timm/resnet10t", "weights": "scratch", "tune": "frozen", "channels": 8}
REGIMES: dict[str, dict[str, Any]] = {
    "frozen": {"model": FROZEN, "protocol": "cryo-bench@1"},
    "few-shot": {"model": {**FROZEN, "decoder": "upernet"}, "data": {"label_fraction": 0.1}},
    "full": {"model": UNET},
}
CELLS = [(name, regime) for name in DATASETS_OF[1] for regime in REGIMES]
CELLS += [("glb", "frozen"), ("shelf-bench", "few-shot")]  # their loading is like the others'
EPOCHS = 2


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with all datasets."""
    root = tmp_path_factory.mktemp("regimes")
    for write in FAKES.values():
        write(root / "data")
    return root


@pytest.fixture(autouse=True)
def _here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the places: every test begins with an environment without settings."""
    for name in ("DATA", "STORAGE", "CACHE", "WEIGHTS"):
        monkeypatch.setenv(f"CRYO_{name}", str(place / name.lower()))


def _spec(name: str, regime: str) -> dict[str, Any]:
    changes = REGIMES[regime]
    lr = {"kind": "float", "low": 1e-4, "high": 1e-1, "log": True}
    search = {"space": {"params": {"optim.lr": lr}}, "trials": 2, "scheduler": {"kind": "none"}}
    return {
        "name": f"{name}-{regime}",
        "base": {
            **changes,
            "data": {"name": name, "crop": 64, **changes.get("data", {})},
            "optim": {"lr": 1e-3},
            "batch_size": 2,
            "epochs": EPOCHS,
        },
        **({"search": search} if regime == "full" else {"baselines": {"fast": {"optim.lr": 0.01}}}),
        "seeds": [1],
        "resources": {"cpus": 1, "gpus": 0},
    }


def _cryo_hpo(*words: str | Path) -> str:
    done = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def _run(place: Path, name: str, regime: str) -> Result:
    spec = place / f"{name}-{regime}.yaml"
    spec.write_text(json.dumps(_spec(name, regime)))
    assert f"result: {place / 'storage' / spec.stem}" in _cryo_hpo("run", "--inline", spec)
    return load_result(place / "storage" / f"{name}-{regime}")


@pytest.mark.parametrize(("name", "regime"), CELLS)
def test_a_study_runs_to_its_verdict(place: Path, name: str, regime: str) -> None:
    result = _run(place, name, regime)
    assert (result.dataset, result.data_split) == (name, "official")
    assert result.classes == DATASETS[name].classes
    if regime == "full":
        assert [(t.state, t.epochs) for t in result.trials] == [("complete", EPOCHS)] * 2
        assert result.improvement is not None
    else:
        assert [arm.name for arm in result.arms] == ["baseline", "fast"]
    for arm in result.arms:
        assert arm.recipe["model"]["tune"] == ("full" if regime == "full" else "frozen")
        assert set(arm.seeds[0].test_iou) == set(result.classes)
        assert 0 < arm.mean_test_miou <= 1
    kept = result.sampled_ids
    assert set(kept) == ({"train"} if regime == "few-shot" else set())
    if kept:
        assert len(kept["train"]) == 1, "a tenth of at most eleven scenes"
        client = MlflowClient(f"sqlite:///{place / 'storage' / 'mlflow.db'}")
        assert result.mlflow_run_id
        file = client.download_artifacts(result.mlflow_run_id, "sampled-scenes.json", str(place))
        assert json.loads(Path(file).read_text()) == {"train": list(kept["train"])}
    if regime == "frozen":
        output = _cryo_hpo("report", result.study, "--against", "cryo-bench")
        assert f"on {name}, beside revision" in output
