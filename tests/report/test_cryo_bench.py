"""The published table recomputed, and a study's scores beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cryo_hpo.cli.main import main
from cryo_hpo.config import Recipe
from cryo_hpo.config.protocol import DATASETS_OF, FAMILIES
from cryo_hpo.errors import SpecError
from cryo_hpo.models import ENCODERS
from cryo_hpo.report.cryo_bench import (
    NOT_IN_TABLE,
    REVISIONS,
    against,
    average_ranks,
    changed_lines,
    changes,
    places,
    revision_named,
    row_of,
    rows,
    table,
    tables,
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


@pytest.mark.parametrize(("revision", "models", "datasets"), [(1, 16, 5), (2, 15, 6), (3, 15, 6)])
def test_every_revision_has_its_models_and_datasets(
    revision: int, models: int, datasets: int
) -> None:
    assert len(rows(revision)) == models
    assert {len(row.cells) for row in rows(revision)} == {datasets}
    assert all(tuple(row.cells) == DATASETS_OF[revision] for row in rows(revision))
    assert {row.family for row in rows(revision)} <= set(FAMILIES)
    (source,) = {row.source for row in rows(revision)}
    assert source.endswith({1: "41b6115", 2: "0e43276", 3: "8048ddb or later"}[revision])


def test_one_printed_average_contradicts_its_own_cells() -> None:
    every = [row for revision in REVISIONS for row in rows(revision)]
    wrong = [row for row in every if abs(row.average - row.printed_average) > 0.0051]
    assert [(row.revision, row.model) for row in wrong] == [(1, "RAMEN")]
    assert (round(wrong[0].average, 2), wrong[0].printed_average) == (53.60, 57.17)


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_printed_ranks_follow_from_the_cells(revision: int) -> None:
    kinds = {
        "mean of per-dataset ranks": average_ranks(revision),
        "place by average": places(revision),
    }
    for row in rows(revision):
        assert kinds[row.rank_kind][row.model] == pytest.approx(row.printed_rank, abs=0.0051)
    ranks = average_ranks(revision)
    assert min(ranks, key=lambda model: ranks[model]) == "U-Net (baseline)"


def test_cells_are_those_of_the_design_page(shared: Path) -> None:
    text = (shared / "design" / "PROTOCOL.md").read_text()
    for row in rows(1):
        cells = " | ".join(f"{row.cells[name]:.2f}" for name in DATASETS_OF[1])
        assert f"| {row.model} | {cells} | {row.printed_average:.2f} |" in text
    text = (shared / "design" / "PROTOCOL2.md").read_text()
    for row in rows(2):
        shown = [f"{row.cells[name]:.2f}" for name in DATASETS_OF[2]]
        line = next(
            line for line in text.splitlines() if line.startswith(f"| {row.model.split()[0]} |")
        )
        assert all(cell in line for cell in shown), row.model


def test_cells_that_changed_between_revisions_are_listed() -> None:
    counts = [
        {name: sum(c.dataset == name for c in changes(*pair)) for name in DATASETS_OF[2]}
        for pair in ((1, 2), (2, 3))
    ]
    assert counts == [
        {"gsdd": 0, "glid": 5, "glb": 0, "sicd": 15, "caffe": 2, "shelf-bench": 0},
        {"gsdd": 0, "glid": 0, "glb": 1, "sicd": 12, "caffe": 0, "shelf-bench": 0},
    ]
    assert changed_lines(2, 3)[-1] == (
        "Revision 2 -> 3, glb: 1 cell changed: Prithvi 69.08 -> 74.96."
    )
    assert changed_lines(2, 3)[-1] in tables()


@pytest.mark.parametrize("name", ["cryo-bench@4", "cryo-bench@", "cryobench", "cryo-bench@1 "])
def test_an_unknown_revision_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(SpecError, match=r"cryo-bench@1, cryo-bench@2, cryo-bench@3, or cryo-bench"):
        revision_named(name)


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
        ("prithvi-v2-600m", None),
        ("prithvi-100m", "Prithvi"),
        ("timm/vit_tiny_patch16_224", None),
    ],
)
def test_an_encoder_finds_its_row(encoder: str, model: str | None) -> None:
    row = row_of(encoder, 3)
    assert (row.model if row else None) == model


def test_encoders_without_a_published_row_are_named() -> None:
    """A model that only shares a family's name is not held against that family's scores."""
    without = {name for name in ENCODERS if row_of(name, 1) is None}
    assert row_of("ramen-base", 1) is not None
    assert row_of("ramen-base", 3) is None
    thor = {name for name in ENCODERS if name.startswith("thor-")}
    assert without == {"galileo-nano", "presto", *thor, *NOT_IN_TABLE}


def test_the_table_says_which_average_is_wrong() -> None:
    said = "\n".join(table(1))
    assert "RAMEN: printed average 57.17, its cells give 53.60." in said
    assert "53.60" in next(line for line in table(1) if line.startswith("RAMEN "))
    done = CliRunner().invoke(main, ["list", "published"])
    assert done.output.splitlines() == tables()
    done = CliRunner().invoke(main, ["list", "published", "cryo-bench@2"])
    assert done.output.splitlines() == table(2)
    assert done.output.startswith("Revision 2: ")
    assert "place by average" in done.output.splitlines()[-1]


def test_a_study_stands_beside_the_published_score() -> None:
    result = _study("cryo-bench")
    lines = against(result)
    ours = 100 * result.arm("tuned").mean_test_miou
    (tuned,) = (line for line in lines if line.startswith("tuned"))
    assert f"{ours:.2f} sd 0.22" in tuned
    assert "91.58 (U-Net (baseline))" in tuned
    assert f"{ours - 91.58:+.2f}" in tuned
    better = sum(row.cells["glid"] > ours for row in rows(1))
    assert tuned.endswith(f"{better + 1} of 17")
    assert "Best published on glid: DOFA 92.61." in lines
    assert "beside revision 1 of Cryo-Bench's table" in lines[0]
    assert any("cells on glid changed, 5 of them from revision 1 to 2;" in line for line in lines)
    assert not any("Mind, tuned" in line for line in lines), "nothing departs"


def test_the_revision_is_the_protocols_or_the_newest_with_the_dataset() -> None:
    def heading(protocol: str, dataset: str, revision: int | None = None) -> str:
        return against(_study(protocol, data={"name": dataset}), revision)[0]

    assert "beside revision 1 " in heading("cryo-bench@1", "glid")
    assert "beside revision 3 " in heading("cryo-bench@3", "glid")
    assert "beside revision 3 " in heading("corrected", "glid")
    assert "beside revision 1 " in heading("corrected", "gld")
    assert "beside revision 3 " in heading("cryo-bench@1", "glb")
    assert "beside revision 2 " in heading("cryo-bench@3", "glb", 2)
    with pytest.raises(
        SpecError, match=r"Revision 3 of Cryo-Bench has no scores on 'gld'\. Take cryo-bench@1"
    ):
        against(_study("corrected", data={"name": "gld"}), 3)


@pytest.mark.parametrize(("revision", "other_pixels"), [(1, True), (2, False), (3, False)])
def test_first_scores_of_sea_ice_are_said_to_be_of_other_pixels(
    revision: int, *, other_pixels: bool
) -> None:
    said = "\n".join(against(_study("corrected", data={"name": "sicd"}), revision))
    assert ("of other pixels" in said) is other_pixels
    assert "15 of them from revision 1 to 2 and 12 of them from revision 2 to 3" in said


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
    with pytest.raises(
        SpecError,
        match=r"published scores on glid, gld, sicd, caffe, gsdd, glb, shelf-bench; study",
    ):
        against(_study("corrected", data={"name": "lakes-demo"}))


def test_the_command_prints_both(tmp_path: Path) -> None:
    write(_study("cryo-bench"), tmp_path)
    done = CliRunner().invoke(main, ["report", str(tmp_path), "--against", "cryo-bench"])
    assert done.exit_code == 0, done.output
    assert "91.58 (U-Net (baseline))" in done.output
    write(_study("corrected", data={"name": "lakes-demo"}), tmp_path)
    done = CliRunner().invoke(main, ["report", str(tmp_path), "--against", "cryo-bench"])
    assert done.exit_code == 2
    assert "one of them" in done.output
    done = CliRunner().invoke(main, ["report", str(tmp_path), "--against", "cryo-bench@9"])
    assert done.exit_code == 2
    assert "There is no published table 'cryo-bench@9'" in done.output
