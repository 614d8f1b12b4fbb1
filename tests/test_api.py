"""The Python interface: light to import, complete, and as documented."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cryo_hpo
from cryo_hpo.results.study import write as write_result

from .support.fakes import write
from .support.results import TRIALS, a_result, a_trial

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "python-api.md").read_text()


@pytest.mark.parametrize("name", cryo_hpo.__all__)
def test_every_promised_name_is_there(name):
    assert getattr(cryo_hpo, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cryo_hpo.nothing


def test_a_result_is_read_from_its_folder_and_its_file(tmp_path):
    result = a_result()
    write_result(result, tmp_path)
    assert cryo_hpo.load_result(tmp_path) == result
    assert cryo_hpo.load_result(str(tmp_path / "result.json")) == result


def test_the_table_has_a_row_per_trial_and_epoch():
    result = a_result()
    table = result.to_dataframe()
    assert len(table) == sum(max(len(trial.curve), 1) for trial in result.trials)
    assert set(table["trial"]) == set(TRIALS), "a trial without an epoch is not left out"
    for trial in result.trials:
        rows = table[table["trial"] == trial.number]
        if trial.curve:
            assert dict(zip(rows["epoch"], rows["best_val_miou"], strict=True)) == trial.curve
        else:
            assert list(rows["epoch"]) == [0]
            assert rows["best_val_miou"].isna().all()
        assert set(rows["lr"]) == {trial.lr}
    assert set(table[table["winner"]]["trial"]) == {7}
    assert set(table[table["baseline"]]["trial"]) == {0}
    assert table[table["trial"] == 4]["optim.lr"].tolist() == [a_trial(4).lr] * 27


def test_the_table_of_a_study_without_a_search_is_empty():
    table = a_result(trials=(), winner=None, improvement=None).to_dataframe()
    assert table.empty
    assert "best_val_miou" in table


def test_the_scores_give_the_verdict_again():
    result = a_result()
    table = result.scores_to_dataframe()
    assert len(table) == sum(len(arm.seeds) for arm in result.arms)
    scores = table.pivot(index="seed", columns="arm", values="test_miou")
    found = cryo_hpo.relative_improvement(list(scores["tuned"]), list(scores["baseline"]))
    assert result.improvement is not None
    assert found == result.improvement
    assert list(table.filter(like="test_iou.").columns) == [
        f"test_iou.{name}" for name in result.classes
    ]


def test_a_study_by_constructors_is_the_one_of_its_file(tmp_path):
    block = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[0]
    names: dict[str, object] = {}
    exec(block[: block.index("result =")], names)
    study = names["study"]
    assert isinstance(study, cryo_hpo.Study)
    (tmp_path / "study.yaml").write_text(cryo_hpo.dump_study(study))
    assert cryo_hpo.load_study(tmp_path / "study.yaml") == study


def test_the_table_of_the_page_names_fields_that_exist_with_their_defaults():
    lines = PAGE.split("| class | field |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(lines) > 20
    kind = ""
    for line in lines:
        first, fields, _, default = (cell.strip() for cell in line.strip("|").split("|"))
        kind = first.strip("`") or kind
        model = getattr(cryo_hpo, kind).model_fields
        for name in re.findall(r"`(\w+)", fields):
            assert name in model, (kind, name)
            if default == "required":
                assert model[name].is_required(), (kind, name)
            elif re.fullmatch(r"[\d.e-]+", default):
                assert model[name].default == float(default), (kind, name)


@pytest.mark.slow
def test_the_example_of_the_page_runs(tmp_path):
    from cryo_hpo.data.synthetic.generate import generate

    generate("lakes-demo", tmp_path / "data", scenes={"train": 8, "val": 2, "test": 2}, size=64)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 70, 90)).astype(np.uint8)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    bands = next((tmp_path / "data").glob("*/train/images/*"), None)
    assert bands is not None, "the generated scenes lie where they always do"
    write(tmp_path / "scene.tif", _as_many_bands(bands, pixels), georeferenced=True)
    (tmp_path / "example.py").write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CRYO_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "verdict=" in done.stdout
    assert "best_val_miou" in done.stdout
    assert (tmp_path / "mask.tif").exists()


def _as_many_bands(like: Path, pixels_CHW: np.ndarray) -> np.ndarray:
    import rasterio

    with rasterio.open(like) as file:
        return np.resize(pixels_CHW, (file.count, *pixels_CHW.shape[1:])).astype(file.dtypes[0])
