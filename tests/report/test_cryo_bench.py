"""The published table recomputed, and a study's scores beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cryo_hpo.cli.main import main
from cryo_hpo.config import Recipe
from cryo_hpo.errors import SpecError
from cryo_hpo.models import ENCODERS
from cryo_hpo.report.cryo_bench import (
    FIVE,
    NOT_IN_TABLE,
    against,
    average_ranks,
    row_of,
    rows,
    table,
)
from cryo_hpo.results.study import Result, write

from ..support.results import a_result


def _study(protocol: str, **recipe: Any) -> Result:
    """The study of `results`, on another dataset and with other recipes."""
    fields = {"data": {"name": "glid"}, "model": {"encoder": "unet"}, "protocol": protocol}
    base = json.loads(
        Recipe.model_validate_json(json.dumps({**fields, **recipe})).model_dump_json()
    )
    result = a_result()
    arms = tuple(arm.model_copy(update={"recipe": base}) for arm in result.arms)
    spec = {**result.spec, "base": base}
    return result.model_copy(update={"spec": spec, "dataset": base["data"]["name"], "arms": arms})


def test_there_are_sixteen_models_and_five_datasets() -> None:
    assert len(rows()) == 16
    assert all(tuple(row.cells) == FIVE for row in rows())
    assert all(row.source == "arXiv:2603.01576, commit 41b6115" for row in rows())


def test_one_printed_average_contradicts_its_own_cells() -> None:
    wrong = {r.model: r for r in rows() if abs(r.average - r.printed_average) > 0.0051}
    assert set(wrong) == {"RAMEN"}
    assert (round(wrong["RAMEN"].average, 2), wrong["RAMEN"].printed_average) == (53.60, 57.17)


def test_the_printed_ranks_follow_from_the_cells() -> None:
    ranks = average_ranks()
    for row in rows():
        assert ranks[row.model] == pytest.approx(row.printed_rank, abs=0.005)
    assert min(ranks, key=lambda model: ranks[model]) == "U-Net (baseline)"


def test_cells_are_those_of_the_design_page(shared: Path) -> None:
    text = (shared / "design" / "PROTOCOL.md").read_text()
    for row in rows():
        cells = " | ".join(f"{row.cells[name]:.2f}" for name in FIVE)
        assert f"| {row.model} | {cells} | {row.printed_average:.2f} |" in text


@pytest.mark.parametrize(
    ("encoder", "model"),
    [
        ("unet", "U-Net (baseline)"),
        ("vit-b16", "ViT (baseline)"),
        ("s12-mae-sar", "S12-MAE"),
        ("terramind-base", "TerraMind"),
        ("scalemae", "Scale-MAE"),
        ("galileo-nano", None),
        ("prithvi-v2-300m", None),
        ("prithvi-100m", "Prithvi"),
        ("timm/vit_tiny_patch16_224", None),
    ],
)
def test_an_encoder_finds_its_row(encoder: str, model: str | None) -> None:
    row = row_of(encoder)
    assert (row.model if row else None) == model


def test_encoders_without_a_published_row_are_named() -> None:
    """A model that only shares a family's name is not held against that family's scores."""
    without = {name for name in ENCODERS if row_of(name) is None}
    thor = {name for name in ENCODERS if name.startswith("thor-")}
    assert without == {"galileo-nano", "presto", *thor, *NOT_IN_TABLE}


def test_the_table_says_which_average_is_wrong() -> None:
    said = "\n".join(table())
    assert "RAMEN: printed average 57.17, its cells give 53.60." in said
    assert "53.60" in next(line for line in table() if line.startswith("RAMEN "))
    done = CliRunner().invoke(main, ["list", "published"])
    assert done.output.splitlines() == table()


def test_a_study_stands_beside_the_published_score() -> None:
    result = _study("cryo-bench")
    lines = against(result)
    ours = 100 * result.arm("tuned").mean_test_miou
    (tuned,) = (line for line in lines if line.startswith("tuned"))
    assert f"{ours:.2f} sd 0.22" in tuned
    assert "91.58 (U-Net (baseline))" in tuned
    assert f"{ours - 91.58:+.2f}" in tuned
    better = sum(row.cells["glid"] > ours for row in rows())
    assert tuned.endswith(f"{better + 1} of 17")
    assert "Best published on glid: DOFA 92.61." in lines
    assert not any("Mind, tuned" in line for line in lines), "nothing departs"


def test_everything_that_sets_the_two_apart_is_said() -> None:
    data = {"name": "gld", "label_fraction": 0.1}
    result = _study(
        "corrected", data=data, model={"encoder": "timm/resnet10t"}, optim={"lr": 1e-3}
    ).model_copy(update={"data_split": "region, seed 0"})
    said = "\n".join(against(result))
    for caution in (
        "the encoder is tuned, theirs is frozen",
        "it learns from 10 % of the scenes",
        "protocol corrected",
        "optim.lr: 0.001 instead of 0.0001",
        "the split is 'region, seed 0'",
        "unknown: how many Sentinel-2 scenes the parts share is not published",
    ):
        assert caution in said
    (tuned,) = (line for line in said.splitlines() if line.startswith("tuned"))
    assert "none" in tuned


def test_a_dataset_without_published_scores_is_refused() -> None:
    with pytest.raises(SpecError, match=r"published scores on glid, gld, sicd, caffe, gsdd; study"):
        against(_study("corrected", data={"name": "lakes-demo"}))


def test_the_command_prints_both(tmp_path: Path) -> None:
    write(_study("cryo-bench"), tmp_path)
    done = CliRunner().invoke(main, ["report", str(tmp_path), "--against", "cryo-bench"])
    assert done.exit_code == 0, done.output
    assert "91.58 (U-Net (baseline))" in done.output
    write(_study("corrected", data={"name": "lakes-demo"}), tmp_path)
    done = CliRunner().invoke(main, ["report", str(tmp_path), "--against", "cryo-bench"])
    assert done.exit_code == 2
    assert "one of the five" in done.output
