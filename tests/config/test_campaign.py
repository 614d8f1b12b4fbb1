"""A campaign's file: its cells, and everything that can be wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cryo_hpo.config import (
    campaign_schema,
    cell_studies,
    dump_campaign,
    dump_study,
    is_campaign,
    load_campaign,
)
from cryo_hpo.config.seeds import SeedLimit, SharedSeedLimit, format_seeds
from cryo_hpo.errors import SpecError

STUDIES = Path(__file__).parents[2] / "search_spaces" / "studies"
TEXT = """\
name: camp
matrix:
  encoders:
    narrow: {width: 4}
    wide: {width: 8, channels: 16}
  datasets:
    lakes: {name: lakes-demo}
    fronts: {name: fronts-demo, crop: 64, augment: [hflip]}
  regimes: [full, frozen]
  label_fractions: [1.0, 0.1]
skip:
  - {encoder: narrow, regime: frozen}
base:
  data: {crop: 32}
  model: {encoder: unet}
  optim: {lr: 1e-3}
  epochs: 9
search:
  space: {params: {optim.lr: {kind: float, low: 1e-5, high: 1e-1, log: true}}}
  trials: 6
seeds: [1, 2, 3]
"""


@pytest.fixture
def load(tmp_path):
    def of(*changes: tuple[str, str]):
        text = TEXT
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "camp.yaml").write_text(text)
        return load_campaign(tmp_path / "camp.yaml")

    return of


def test_the_cells_are_the_product_without_what_is_skipped(load):
    campaign = load()
    assert len(campaign.cells()) == 2 * 2 * 2 * 2 - 4
    names = [campaign.study_name(cell) for cell in campaign.cells()]
    assert len(set(names)) == len(names)
    assert "camp.lakes.wide.frozen.10pct" in names
    assert not any("narrow.frozen" in name for name in names)


def test_a_cell_is_a_study_with_its_own_keys_over_those_of_base(load):
    studies = {study.name: study for study in cell_studies(load()).values()}
    one = studies["camp.fronts.wide.frozen.10pct"]
    assert (one.base.data.name, one.base.data.crop) == ("fronts-demo", 64)
    assert (one.base.data.label_fraction, one.base.data.augment) == (0.1, ("hflip",))
    assert (one.base.model.encoder, one.base.model.width) == ("unet", 8)
    assert (one.base.model.tune, one.base.optim.lr, one.base.epochs) == ("frozen", 1e-3, 9)
    assert one.seeds == (1, 2, 3)
    assert studies["camp.lakes.narrow.full.100pct"].base.data.crop == 32


def test_an_axis_of_one_value_is_not_in_the_names(load):
    campaign = load(
        ("  regimes: [full, frozen]\n", ""),
        ("  label_fractions: [1.0, 0.1]\n", ""),
        ("  - {encoder: narrow, regime: frozen}", "  - {encoder: narrow}"),
    )
    assert [campaign.study_name(c) for c in campaign.cells()] == [
        "camp.lakes.wide",
        "camp.fronts.wide",
    ]


def test_what_is_written_reads_back(load, tmp_path):
    campaign = load()
    (tmp_path / "again.yaml").write_text(dump_campaign(campaign))
    assert load_campaign(tmp_path / "again.yaml") == campaign


def test_a_campaign_is_told_from_a_study(load, tmp_path):
    load()
    assert is_campaign(tmp_path / "camp.yaml")
    assert not is_campaign(STUDIES / "quickstart.yaml")


@pytest.mark.parametrize("path", sorted(STUDIES.glob("campaign*.yaml")), ids=lambda p: p.stem)
def test_the_shipped_campaigns_load_and_agree_with_the_schema(path):
    jsonschema = pytest.importorskip("jsonschema")
    campaign = load_campaign(path)
    assert len(campaign.cells()) >= 3
    assert isinstance(campaign.seeds, SeedLimit) or len(campaign.seeds) >= 3
    from cryo_hpo.config.files.marked_yaml import read

    jsonschema.validate(read(path, what="campaign").raw, campaign_schema())


def test_cells_may_share_a_total_of_repeats_and_are_studies_without_it(load):
    campaign = load(("seeds: [1, 2, 3]", "seeds: {at_most: 16, total: 72}"))
    assert campaign.seeds == SharedSeedLimit(at_most=16, total=72)
    assert format_seeds(campaign.seeds) == "at most 16, 72 in all cells"
    studies = cell_studies(campaign).values()
    assert {study.seeds for study in studies} == {SeedLimit(at_most=16)}
    assert "total" not in "".join(map(dump_study, studies))


def test_the_total_is_part_of_the_campaign_that_is_written(load, tmp_path):
    campaign = load(("seeds: [1, 2, 3]", "seeds: {at_most: 16, total: 72}"))
    (tmp_path / "again.yaml").write_text(dump_campaign(campaign))
    assert load_campaign(tmp_path / "again.yaml") == campaign


@pytest.mark.parametrize(("total", "rivals", "least"), [(49, "[]", 50), (65, "[unet]", 66)])
def test_a_total_that_can_decide_no_cell_is_refused_with_the_least_that_can(
    load, total, rivals, least
):
    def of(number: int) -> tuple[str, str]:
        return "seeds: [1, 2, 3]", f"seeds: {{at_most: 16, total: {number}}}\nrivals: {rivals}"

    with pytest.raises(SpecError, match=f"seeds.total: .* Raise it to {least} or more"):
        load(of(total))
    assert len(load(of(least)).cells()) == (least - 2) / 4


def test_only_cells_of_a_frozen_encoder_are_packed(load):
    cells = cell_studies(load(("seeds:", "resources: {pack: 4, cpus: 2}\nseeds:")))
    assert {(cell.regime, study.resources.pack) for cell, study in cells.items()} == {
        ("full", 1),
        ("frozen", 4),
    }
    assert {study.resources.cpus for study in cells.values()} == {2}


def test_a_campaign_without_a_frozen_cell_cannot_be_packed(load):
    with pytest.raises(SpecError, match=r"resources.pack: No two trainings can be packed, got 4"):
        load(
            ("seeds:", "resources: {pack: 4}\nseeds:"),
            ("[full, frozen]", "[full]"),
            ("  - {encoder: narrow, regime: frozen}", "  - {encoder: narrow}"),
        )


BAD = {
    "unknown key": (("transfer: true", "tranfer: true"), "transfer"),  # codespell:ignore
    "bad encoder key": (("width: 4", "widht: 4"), "matrix.encoders.narrow.widht"),  # codespell:ignore
    "wrong value": (("crop: 64", "crop: 4"), "camp.yaml:8"),
    "wrong base": (("lr: 1e-3", "lr: -1"), "camp.yaml:16: base.optim.lr"),
    "base key": (("epochs: 9", "epoch: 9"), "camp.yaml:17: base.epoch"),
    "name of an axis": (("    wide:", "    Wide One:"), "Wide One"),
    "skip of nobody": (("{encoder: narrow, regime: frozen}", "{encoder: narow}"), "no encoder 'narow'"),
    "skip of nothing": (("{encoder: narrow, regime: frozen}", "{}"), "names no axis"),
    "skip of all": (("{encoder: narrow, regime: frozen}", "{regime: frozen}\n  - {regime: full}"), "All cells are skipped"),
    "twice": (("[full, frozen]", "[full, full]"), "Values are repeated: full, full"),
    "fraction": (("[1.0, 0.1]", "[1.0, 0]"), "above 0"),
    "stop rule": (("  trials: 6", "  trials: 6\n  scheduler: {kind: asha, rule: stop}"), "promote"),
    "no name": (("{name: lakes-demo}", "{crop: 32}"), "camp.yaml:7"),
    "missing card": (("{name: lakes-demo}", "{card: nothing.yaml}"), "nothing.yaml"),
    "seeds": (("seeds: [1, 2, 3]", "seeds: [0, 1]"), "camp.yaml:21: seeds"),
    "total of few": (("[1, 2, 3]", "{at_most: 16, total: 3}"), "camp.yaml:21: seeds.total: Must be at least 6, got 3"),
    "total alone": (("[1, 2, 3]", "{total: 72}"), "camp.yaml:21: seeds.at_most: Required key is missing"),
    "grace": (("  trials: 6", "  trials: 6\n  scheduler: {kind: asha, grace_epochs: 99}"), "grace_epochs"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_with_its_line(case, load):
    (old, new), message = BAD[case]
    with pytest.raises(SpecError) as found:
        load((old, new) if old in TEXT else ("seeds:", f"{new}\nseeds:"))
    assert message in str(found.value)
    assert str(found.value).count("camp.yaml") >= 1


def test_unknown_encoders_are_reported_with_all_other_problems(load):
    with pytest.raises(SpecError) as error:
        load(("narrow: {width: 4}", "narrow: {encoder: unett, width: 4}"), ("lr: 1e-3", "lr: -1"))
    assert "matrix.encoders.narrow.encoder: No encoder named 'unett'." in str(error.value)
    assert "base.optim.lr" in str(error.value)


def test_the_same_fault_of_many_cells_is_said_once_and_of_some_with_their_names(load):
    with pytest.raises(SpecError) as found:
        load(("lr: 1e-3", "lr: -1"))
    assert str(found.value).count("base.optim.lr") == 1
    with pytest.raises(SpecError) as found:
        load(("crop: 64", "crop: 64, overlap: 64"))
    assert "camp.yaml:8" in str(found.value)


def test_two_names_that_would_be_one_are_refused(load):
    text = (
        ("    narrow: {width: 4}", "    b.c: {width: 4}\n    c: {width: 5}"),
        ("    lakes: {name: lakes-demo}", "    a: {name: lakes-demo}\n    a.b: {name: lakes-demo}"),
        ("{encoder: narrow, regime: frozen}", "{encoder: c, regime: frozen}"),
    )
    with pytest.raises(SpecError, match=r"camp\.a\.b\.c"):
        load(*text)


def test_a_card_is_read_relative_to_the_campaign(tmp_path):
    card = {
        "name": "mine",
        "root": "mine",
        "images": "{split}/{id}.tif",
        "masks": "{split}/{id}.png",
        "bands": ["B4", "B3", "B2"],
        "classes": ["rock", "ice"],
    }
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(card))
    (tmp_path / "camp.yaml").write_text(TEXT.replace("name: lakes-demo", "card: card.yaml"))
    (study, *_) = cell_studies(load_campaign(tmp_path / "camp.yaml")).values()
    assert study.base.data.card is not None
    assert study.base.data.card.name == "mine"
    (tmp_path / "card.yaml").write_text(yaml.safe_dump({**card, "bands": ["B4", "B4"]}))
    with pytest.raises(SpecError, match=r"card\.yaml:\d+: bands"):
        load_campaign(tmp_path / "camp.yaml")
