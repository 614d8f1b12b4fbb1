"""Encoders in words: the table fits a terminal, and a card says everything."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from cryo_hpo.bands import BANDS, BandPlan, Slot
from cryo_hpo.cli.encoders_text import KEY, WIDTH, band_lines, bands_table, card_lines, costs_table
from cryo_hpo.cli.main import main
from cryo_hpo.models import ENCODERS, plan_bands
from cryo_hpo.models.costs import Cost, costs, machine

ROOT = Path(__file__).parents[2]


def _list(*words: str):
    return CliRunner().invoke(main, ["list", *words], catch_exceptions=False)


def test_the_list_has_every_encoder_and_fits_a_terminal():
    lines = _list("encoders").output.splitlines()
    assert [line.split()[0] for line in lines[1 : len(ENCODERS) + 1]] == list(ENCODERS)
    assert max(map(len, lines)) <= WIDTH
    assert "torch" in machine()


@pytest.mark.parametrize("name", ENCODERS)
def test_a_card_says_everything_within_a_terminal(name):
    done = _list("encoders", name)
    assert done.exit_code == 0
    assert done.output.splitlines() == list(card_lines(name))
    for line in done.output.splitlines():  # an address is one word, and copied whole
        assert len(line) <= WIDTH or len(line[KEY:].split()) == 1
    for band in ENCODERS[name].bands or ():
        assert band.name in done.output
    for fact in (ENCODERS[name].source, ENCODERS[name].license):
        assert fact in done.output


def test_cards_of_timm_too():
    assert "huggingface.co/timm/resnet10t" in _list("encoders", "timm/resnet10t").output


def test_json_for_machines():
    cards = json.loads(_list("encoders", "--json").output)
    assert [card["name"] for card in cards] == list(ENCODERS)
    (one,) = json.loads(_list("encoders", "galileo-nano", "--json").output)
    assert one == next(card for card in cards if card["name"] == "galileo-nano")
    assert one["cost"]["size"] == 96
    assert one["weights"]["file"] == "galileo_nano/encoder.pt"


def test_only_encoders_have_cards():
    done = _list("decoders", "unet")
    assert done.exit_code == 2
    assert "only encoders do" in done.output
    assert "Did you mean 'unet'?" in _list("encoders", "unt").output


def test_the_bands_of_a_plan_are_a_table():
    red, green, sar = BANDS["RED"], BANDS["GREEN"], BANDS["VV"]
    slots = (Slot(BANDS["B4"], 1), Slot(BANDS["B5"], None))
    plan = BandPlan(have=(green, red, sar), slots=slots, masked=(BANDS["B8"],))
    assert list(band_lines("x", plan)) == [
        "band of x     um  filled with  layer of the image\n"
        "B4         0.665  RED                           2\n"
        "B5         0.704  zero",
        "1 of 2 bands are not in the dataset: zero is the dataset's mean, as its bands are normalized.",
        "Masked: B8.",
        "Left out: GREEN VV.",
    ]


@pytest.mark.machines
def test_make_bench_encoders_measures_in_fresh_processes(tmp_path):
    out = tmp_path / "costs.csv"
    script = ROOT / "benchmarks" / "encoder_cost.py"
    subprocess.run([sys.executable, script, "galileo-nano", "--out", out], check=True, timeout=300)
    head, *rows = out.read_text().splitlines()
    assert head.startswith("# ")
    (row,) = csv.DictReader(rows)
    assert tuple(row) == Cost._fields
    told = costs()["galileo-nano"]
    assert (int(row["parameters"]), float(row["gflops"])) == (told.parameters, told.gflops)
    assert float(row["forward_s"]) > 0


DOCS = (ROOT / "docs" / "encoders.md").read_text()


def _block(name: str) -> list[str]:
    """What stands in the page between a marker and the next end."""
    return DOCS.split(f"<!-- {name} -->\n")[1].split("<!-- end -->")[0].strip().splitlines()


def test_the_page_shows_the_tables_of_the_program():
    assert _block("bands") == bands_table()
    assert _block("costs") == [machine(), "", *costs_table()]
    printed = _list("encoders", "--markdown").output.splitlines()
    assert printed == [*costs_table(), "", *bands_table()]


def test_the_page_shows_what_check_prints():
    have = [BANDS[name] for name in ("RED", "GREEN", "BLUE")]
    lines = band_lines("s12-moco", plan_bands(ENCODERS["s12-moco"], have))
    assert _block("check") == ["```", *"\n".join(lines).splitlines(), "```"]


# Not measured yet: `make bench-encoders` on a quiet machine.
UNMEASURED = {
    *("thor-small", "thor-base", "thor-large", "prithvi-v2-300m", "prithvi-v2-600m"),
    *("croma-joint", "presto"),
    *("terramind-small", "terramind-small-s2s1", "terramind-base-s2s1", "terramind-large-s2s1"),
}


def test_no_other_encoder_is_unmeasured():
    assert set(ENCODERS) - set(costs()) == UNMEASURED


@pytest.mark.parametrize("name", [name for name in ENCODERS if name not in UNMEASURED])
def test_every_encoder_was_measured_as_it_is(name):
    card, cost = ENCODERS[name], costs()[name]
    bands = card.bands or tuple(band for band in BANDS.values() if band.sensor == "sentinel-2")
    with torch.device("meta"):
        model = card.build(bands)
    assert cost.bands == len(bands)
    assert cost.size % card.multiple == 0
    assert cost.size == (card.native_size or cost.size)
    assert cost.parameters == sum(parameter.numel() for parameter in model.parameters())
