"""`cryo-hpo init`: a folder becomes a card and a study that pass their checks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import rasterio
import shapely
from click.testing import CliRunner

from cryo_hpo.cli.init import GIB, HOURS, parse_quantity
from cryo_hpo.cli.main import main
from cryo_hpo.config import dump_study, load_card, load_study
from cryo_hpo.data.fingerprint import Fingerprint, take_fingerprint
from cryo_hpo.data.id_words import Regions
from cryo_hpo.data.layout import recognize_layout
from cryo_hpo.data.places import Places
from cryo_hpo.data.value_examples import find_examples
from cryo_hpo.errors import CryoError, SpecError
from cryo_hpo.study.draft import epochs_within
from cryo_hpo.study.draft_card import choose_units
from cryo_hpo.study.draft_folder import draft_folder

from ..support.fakes import write
from ..support.outlines import write_outlines

DATASETS = Path(__file__).parents[2] / "docs" / "datasets.md"
README = DATASETS.parents[1] / "README.md"


def _fill(folder, *, num=9, size=64, bands=3, images="images/s{}.png", masks="masks/s{}.png"):
    """Write scenes with a bright square, which the mask marks."""
    rng = np.random.default_rng(0)
    for i in range(num):
        image = rng.integers(20, 90, (bands, size, size), dtype=np.uint8)
        mask = np.zeros((1, size, size), dtype=np.uint8)
        top, left = rng.integers(0, size // 2, 2)
        mask[:, top : top + size // 3, left : left + size // 3] = 1
        image[:, mask[0] == 1] += 100
        place: dict[str, Any] = (
            {"georeferenced": True, "place": (100 * i, 0)} if images.endswith(".tif") else {}
        )
        write(folder / images.format(i), image, **place)
        write(folder / masks.format(i), mask, **place)


def _init(*words):
    return CliRunner().invoke(main, ["init", *map(str, words)])


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images/s{}.png", "masks/s{}.png"),
        ("s{}.png", "s{}_mask.png"),
        ("tiles/s{}.tif", "labels/s{}.tif"),
    ],
)
def test_a_heap_needs_no_further_word(here, images, masks):
    _fill(here / "lakes", images=images, masks=masks)
    done = _init("lakes")
    assert done.exit_code == 0, done.output
    assert "Next: cryo-hpo run lakes.yaml" in done.output
    card = load_card("lakes.card.yaml")
    assert card.bands == ("RED", "GREEN", "BLUE")
    assert card.split is not None
    assert card.split.by == "scene"
    study = load_study("lakes.yaml")
    assert study.base.data.crop == 64
    assert (here / "lakes.png").stat().st_size > 1000
    assert all(
        "#" in line for line in Path("lakes.yaml").read_text().splitlines() if "crop" in line
    )
    again = _init("lakes")
    assert again.exit_code == 2
    assert "exist already" in again.output
    assert CliRunner().invoke(main, ["check", "lakes.yaml"]).exit_code == 0


def test_every_guess_is_listed_at_the_end_and_warned_of_until_it_is_settled(here):
    _fill(here / "lakes")
    done = _init("lakes")
    tail = done.output.split("CHECK BEFORE YOU RUN: 2 points")[1]
    card = Path("lakes.card.yaml").read_text().splitlines()
    for number, text in re.findall(r"lakes.card.yaml, line (\d+): (.+)", tail):
        line = card[int(number) - 1]
        assert line.startswith(text)
        assert "# CHECK: " in line
    assert "red, green and blue in this order" in tail
    assert "--bands RED,GREEN,BLUE" in tail
    assert "0 is 'background' and 1 is 'foreground'" in tail
    assert "--classes land,lake" in tail
    assert tail.rstrip().endswith("Next: cryo-hpo run lakes.yaml")
    first = Path("lakes.yaml").read_text().splitlines()[0]
    assert first.startswith("# CHECK: bands, classes of lakes.card.yaml are guessed")
    for words in (["data", "check", "lakes.card.yaml"], ["check", "lakes.yaml"]):
        output = CliRunner().invoke(main, words).output
        assert "bands: RED, GREEN, BLUE; classes: background, foreground" in output
    settled = _init("lakes", "--force", "--bands", "RED,GREEN,BLUE", "--classes", "land,lake")
    text = settled.output + Path("lakes.card.yaml").read_text() + Path("lakes.yaml").read_text()
    assert "CHECK" not in text
    assert "assumed" not in text
    assert "guess" not in CliRunner().invoke(main, ["check", "lakes.yaml"]).output


def test_a_guess_is_no_part_of_the_studys_identity(here):
    _fill(here / "lakes")
    assert _init("lakes").exit_code == 0
    study = load_study("lakes.yaml")
    assert study.base.data.card is not None
    assert study.base.data.card.assumed == ("bands", "classes")
    card = Path("lakes.card.yaml")
    card.write_text(re.sub(r"(?m)^assumed.*\n", "", card.read_text()))
    assert dump_study(load_study("lakes.yaml")) == dump_study(study)


def test_from_python_a_draft_says_what_it_assumes(here):
    _fill(here / "lakes", images="{}.tif", masks="{}_mask.tif")
    draft = draft_folder("lakes", bands=("B4", "B3", "B2"), classes=("land", "lake"), out="new")
    assert (draft.card, draft.study) == (Path("new/lakes.card.yaml"), Path("new/lakes.yaml"))
    assert load_study(draft.study).base.data.card == load_card(draft.card)
    numbers = draft.open_points[0]
    assert numbers.is_guess
    assert numbers.key == "bands"
    assert "B4 is red there and on Landsat 8, and near infrared on Landsat 7" in str(numbers)
    with pytest.raises(SpecError, match="exist already"):
        draft_folder("lakes", out="new")
    settled = draft_folder(
        "lakes", bands=("B4", "B3", "B2"), sensor="sentinel-2", classes=("land", "lake")
    )
    assert not any(point.is_guess for point in settled.open_points)
    as_option = draft_folder("lakes", bands="B4, B3,B2", classes="land,lake", out="text")
    assert load_card(as_option.card).bands == ("B4", "B3", "B2")


def test_a_draft_that_fails_in_python_leaves_no_file(here):
    _fill(here / "lakes")
    (here / "lakes/masks/s3.png").unlink()
    before = set(here.iterdir())
    with pytest.raises(CryoError, match="1 have none"):
        draft_folder("lakes")
    assert {path for path in here.iterdir() if path.suffix == ".yaml"} == set()
    assert before <= set(here.iterdir())


def test_a_terminal_asks_for_guesses_with_the_guess_as_the_answer(here, monkeypatch):
    _fill(here / "lakes")
    asked = []

    def answer(question, default=None):
        asked.append((question, default))
        return "B4,B3,B2" if "Band" in question else default

    monkeypatch.setattr(
        "cryo_hpo.cli.init.sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    )
    monkeypatch.setattr("cryo_hpo.cli.init.click.prompt", answer)
    assert _init("lakes", "--sensor", "sentinel-2").exit_code == 0
    assert asked == [
        ("Band names, in the order of the layers", "RED,GREEN,BLUE"),
        ("Class names, in the order of the mask values", "background,foreground"),
    ]
    card = load_card("lakes.card.yaml")
    assert card.bands == ("B4", "B3", "B2")
    assert card.assumed == ()


def test_two_sets_of_masks_or_images_are_reported(here):
    _fill(here / "lakes")
    shutil.copytree(here / "lakes/masks", here / "lakes/labels")
    shutil.copytree(here / "lakes/images", here / "lakes/dem")
    output = _init("lakes", "--classes", "land,lake").output
    assert "The images are those of 'images/{id}.png', and as many of 'dem/{id}.png' fit" in output
    assert "The masks are those of 'masks/{id}.png', and as many of 'labels/{id}.png' fit" in output
    assert load_card("lakes.card.yaml").assumed == ("bands", "images", "masks")


def test_a_folder_without_one_mask_is_repaired_and_the_same_command_works(here):
    _fill(here / "lakes")
    mask = (here / "lakes/masks/s3.png").rename(here / "away.png")
    before = set(here.iterdir())
    done = _init("lakes")
    assert done.exit_code == 1
    assert "1 have none (first: 's3')" in done.output
    assert "Copy the missing mask there, or move the image out of the folder." in done.output
    assert set(here.iterdir()) == before
    mask.rename(here / "lakes/masks/s3.png")
    assert _init("lakes").exit_code == 0


def test_what_fails_with_force_leaves_the_files_that_were_there(here):
    _fill(here / "lakes")
    assert _init("lakes").exit_code == 0
    files = [path for path in here.iterdir() if path.is_file()]
    assert len(files) == 5
    before = {path: path.read_bytes() for path in files}
    (here / "lakes/masks/s3.png").unlink()
    for words in ((), ("--encoder", "galileo-nano", "--bands", "B4,B3,B2")):
        assert _init("lakes", "--force", *words).exit_code == 1
        assert {path: path.read_bytes() for path in here.iterdir() if path.is_file()} == before


def test_a_gpu_too_small_for_one_crop_leaves_no_file(here):
    _fill(here / "lakes")
    done = _init("lakes", "--gpu", "0.001GB")
    assert "too little for one crop" in done.output
    assert [path.name for path in here.iterdir() if path.is_file()] == []


def test_a_card_with_the_proposed_templates_passes_its_check(here):
    _fill(here / "lakes", images="rgb/A_{}_S2.tif", masks="labels/A_{}_outline.png")
    output = _init("lakes").output
    templates = re.search(r'`(images: ".+?")` and `(masks: ".+?")`', output)
    assert templates is not None, output
    lines = ["name: lakes", f"root: {here / 'lakes'}", *templates.groups()]
    lines += ["bands: [RED, GREEN, BLUE]", "classes: [land, lake]", "split: {by: scene}"]
    Path("lakes.card.yaml").write_text("\n".join(lines))
    done = CliRunner().invoke(main, ["data", "check", "lakes.card.yaml"])
    assert done.exit_code == 0, done.output


def test_one_large_scene_becomes_blocks_and_says_so(here):
    _fill(here / "one", num=1, size=600, images="{}.tif", masks="{}_mask.tif")
    done = _init("one", "--classes", "rock,glacier", "--gpu", "24GB")
    assert done.exit_code == 0, done.output
    assert "memory of a step in fp32, measured:" in done.output
    card, study = load_card("one.card.yaml"), load_study("one.yaml")
    assert card.classes == ("rock", "glacier")
    assert card.split is not None
    assert card.split.by == "place"
    assert study.base.data.crop <= card.split.block_px - card.split.gap_px


@pytest.mark.parametrize("scenes", [(14, 64), (1, 600)])
def test_the_study_counts_the_scenes_and_steps_that_the_split_gives(here, scenes):
    num, size = scenes
    _fill(here / "lakes", num=num, size=size, images="{}.tif", masks="{}_mask.tif")
    done = _init("lakes", "--budget", "0.001h")
    assert done.exit_code == 0, done.output
    plan = re.search(
        r"steps of an epoch: (\d+); (\d+) crops of (\d+) (?:scenes|blocks)", done.output
    )
    assert plan is not None
    steps, crops, train = plan.groups()
    text = Path("lakes.yaml").read_text()
    assert re.search(rf"batch_size: .*# {train} training \w+, {crops} crops an epoch", text), text
    epochs = load_study("lakes.yaml").base.epochs
    in_all = int(steps) * epochs
    assert re.search(rf"epochs: .*# {steps} steps an epoch, {in_all} in a training", text), text


@pytest.mark.parametrize(
    ("num", "size", "block"), [(1, 128, 48), (2, 128, 80), (1, 200, 64), (5, 64, 32)]
)
def test_few_small_scenes_get_blocks_that_suffice(here, num, size, block):
    _fill(here / "few", num=num, size=size, images="{}.tif", masks="{}_mask.tif")
    done = _init("few")
    assert done.exit_code == 0, done.output
    card = load_card("few.card.yaml")
    assert card.split is not None
    assert card.split.block_px == block
    assert f": {num} pair{'s' * (num > 1)} of" in done.output


@pytest.mark.parametrize(("num", "having"), [(2, {0, 1}), (7, {2, 5})], ids=["two", "rare"])
def test_a_part_of_one_class_gets_finer_blocks_and_says_so(here, num, having):
    rng = np.random.default_rng(0)
    for i in range(num):
        image = rng.integers(20, 90, (3, 128, 128), dtype=np.uint8)
        mask = np.zeros((1, 128, 128), dtype=np.uint8)
        mask[:, 20:50, 20:50] = i in having
        place: dict[str, Any] = {"georeferenced": True, "place": (1000 * i, 0)}
        write(here / f"few/images/s{i}.tif", image + 100 * mask, **place)
        write(here / f"few/masks/s{i}.tif", mask, **place)
    done = _init("few", "--classes", "land,lake", "--bands", "RED,GREEN,BLUE")
    assert done.exit_code == 0, done.output
    card = load_card("few.card.yaml")
    assert card.split is not None
    assert card.split.by == "place"
    shares = re.findall(r"(?:train|val|test): \d+ blocks, ([\d.]+) %, ([\d.]+) %", done.output)
    assert len(shares) == 3
    assert all(float(lake) > 0 for _, lake in shares)
    assert f"blocks of {card.split.block_px} pixels are dealt out" in done.output
    assert "not for other places" in done.output
    assert card.assumed == ("split",)


def test_unknown_mask_values_are_shown_in_a_picture(here):
    _fill(here / "three", num=7, images="images/s{}.tif", masks="masks/s{}.tif")
    for path in (here / "three/masks").iterdir():
        with rasterio.open(path) as file:
            mask = file.read()
        mask[:, :6] = 7
        write(path, mask, georeferenced=True)
    done = _init("three", "--bands", "RED,GREEN,BLUE")
    assert done.exit_code != 0
    assert "3 values (0, 1, 7)" in done.output
    assert "mask values: three-values.png" in done.output
    assert [path.name for path in here.iterdir() if path.is_file()] == ["three-values.png"]
    rows = find_examples(*_look_at(here / "three"))
    assert [row.name for row in rows] == ["0", "1", "7"]
    for row in rows:
        for example in row.examples:
            with rasterio.open(here / f"three/masks/{example.id}.tif") as file:
                assert (example.there_HW == (file.read(1) == int(row.name))).all()


def test_an_example_is_cut_around_the_largest_patch_of_its_value(here):
    mask = np.zeros((1, 400, 500), dtype=np.uint8)
    mask[:, 300:330, 400:440] = 1
    mask[:, 10:12, 10:12] = 1
    write(here / "one/images/a.tif", np.where(mask == 1, 200, 50).astype(np.uint8))
    write(here / "one/masks/a.tif", mask)
    *_, lake = find_examples(*_look_at(here / "one"))
    (example,) = lake.examples
    assert example.there_HW.shape == (96, 96)
    assert example.there_HW.sum() == 30 * 40
    assert np.array_equal(example.view > 0.5, example.there_HW)


def _look_at(folder):
    layout = recognize_layout(folder)
    return layout, take_fingerprint(layout)


def test_scenes_too_small_for_blocks_are_refused_with_the_size_that_suffices(here):
    _fill(here / "few", num=1, size=64, images="{}.tif", masks="{}_mask.tif")
    done = _init("few")
    assert done.exit_code == 1
    message = "Cannot divide 1 scene of 64 x 64 pixels (first: '0') into train, val, test"
    assert message in done.output
    assert "one scene of 96 x 64 pixels has" in done.output
    assert not Path("few.yaml").exists()


def test_folders_of_parts_are_used_as_they_are(here):
    for part in ("train", "val", "test"):
        _fill(here / "lakes" / part, num=3)
    done = _init("lakes", "--encoder", "galileo-nano", "--bands", "B4,B3,B2")
    assert "galileo-nano" in done.output
    assert "lakes.card.yaml:" in done.output
    assert "split:" not in done.output
    assert done.exit_code == 1, "weights are not there, and a check says so"
    assert "galileo" in done.output


def test_parts_that_show_the_same_ground_are_named(here):
    for part in ("train", "val", "test"):
        _fill(here / "lakes" / part, num=3, images="images/{}.tif", masks="masks/{}.tif")
    words = ("--classes", "land,lake", "--bands", "RED,GREEN,BLUE")
    done = _init("lakes", *words)
    assert done.exit_code == 0, done.output
    tail = done.output.split("CHECK BEFORE YOU RUN")[1]
    assert "train and test show the same ground in 3 pairs of scenes" in tail
    assert "train and val hold 3 identical images" in tail
    assert "put all scenes together" in tail
    assert load_card("lakes.card.yaml").assumed == ()


def test_masks_of_0_and_255_get_their_values(here):
    _fill(here / "a", images="{}.tif", masks="{}_mask.tif")
    for path in (here / "a").glob("*_mask.tif"):
        with rasterio.open(path, "r+") as file:
            file.write(file.read() * np.uint8(255))
    done = _init("a", "--classes", "background,fracture")
    assert done.exit_code == 0, done.output
    card = load_card("a.card.yaml")
    assert card.values == {"0": "background", "255": "fracture"}
    assert card.classes == ("background", "fracture")


def _put_stray(mask, value, *, pixels=1):
    with rasterio.open(mask, "r+") as file:
        labels = file.read()
        labels[0, 0, :pixels] = value
        file.write(labels)


def test_a_stray_mask_value_is_found_and_can_be_left_out(here):
    _fill(here / "lakes", images="{}.tif", masks="{}_mask.tif")
    _put_stray(here / "lakes/4_mask.tif", 7)
    done = _init("lakes", "--classes", "land,lake")
    assert done.exit_code == 1
    assert f"The rarest is 7: 1 pixel in '{here / 'lakes/4_mask.tif'}'." in done.output
    words = re.search(r"`ignore: 7`: (--classes \S+)\.", done.output)
    assert words is not None, done.output
    assert words[1] == "--classes land,lake,ignore"
    done = _init("lakes", *words[1].split())
    assert done.exit_code == 0, done.output
    card = load_card("lakes.card.yaml")
    assert (card.classes, card.ignore) == (("land", "lake"), 7)
    assert "the rarest class has 11 % of the pixels" in done.output


@pytest.mark.parametrize(
    ("names", "classes", "values", "ignore"),
    [
        ("ignore,lake,ice", ("lake", "ice"), {"1": "lake", "7": "ice"}, 0),
        ("land,ignore,ice", ("land", "ice"), {"0": "land", "7": "ice"}, 1),
    ],
)
def test_any_mask_value_can_be_left_out_by_its_name(here, names, classes, values, ignore):
    _fill(here / "lakes", images="{}.tif", masks="{}_mask.tif")
    for mask in (here / "lakes").glob("*_mask.tif"):
        _put_stray(mask, 7, pixels=40)
    done = _init("lakes", "--classes", names)
    assert done.exit_code == 0, done.output
    card = load_card("lakes.card.yaml")
    assert (card.classes, card.values, card.ignore) == (classes, values, ignore)


def test_values_without_names_show_the_rarest_and_its_masks(here):
    _fill(here / "lakes", images="{}.tif", masks="{}_mask.tif")
    for number, pixels in ((2, 3), (5, 4)):
        _put_stray(here / f"lakes/{number}_mask.tif", 7, pixels=pixels)
    output = _init("lakes").output
    assert f"7: 4 pixels in '{here / 'lakes/5_mask.tif'}', the most of 2 masks." in output
    assert "two classes at least" in _init("lakes", "--classes", "land,ignore,ignore").output


LANDSAT = "LC08_L2SP_00{}_20200701_02_T1"


def _fill_landsat(folder, *, num=6, size=64):
    """Write scenes of Landsat 8 as they are delivered: a file for each band, and clouds in one corner."""
    rng = np.random.default_rng(0)
    for i in range(num):
        lake = np.zeros((size, size), dtype=np.uint8)
        top, left = rng.integers(size // 4, size // 2, 2)
        lake[top : top + size // 3, left : left + size // 3] = 1
        names = {"SR_B5": 3000, "SR_B4": 4000, "SR_B3": 6000}
        layers = {
            name: np.where(lake, dark, 2e4) + rng.normal(0, 300, lake.shape)
            for name, dark in names.items()
        }
        clouds = np.full(lake.shape, 1 << 6)
        clouds[: size // 4, : size // 4] = 1 << 3
        place: dict[str, Any] = {"georeferenced": True, "place": (100 * i, 0)}
        for name, layer in {**layers, "QA_PIXEL": clouds}.items():
            path = folder / f"{LANDSAT.format(i)}_{name}.TIF"
            write(path.with_suffix(".tif"), layer[None].astype(np.uint16), **place)
            path.with_suffix(".tif").rename(path)
        write(folder / f"{LANDSAT.format(i)}_mask.tif", lake[None], **place)


def test_scenes_of_landsat_work_as_they_are_delivered(here):
    _fill_landsat(here / "lakes")
    done = _init("lakes", "--classes", "land,lake")
    assert done.exit_code == 0, done.output
    card = load_card("lakes.card.yaml")
    assert (card.sensor, card.bands) == ("landsat-8", ("B3", "B4", "B5"))
    assert card.quality is not None
    assert card.quality.content == "qa_pixel"
    checked = CliRunner().invoke(main, ["data", "check", "lakes.card.yaml"])
    assert "6.25 %" in checked.output, "a sixteenth of every scene is cloud"
    assert "every file is as it must be" in checked.output


@pytest.mark.slow
def test_a_scene_of_landsat_is_mapped_from_its_band_files(here):
    _fill_landsat(here / "lakes")
    assert _init("lakes", "--name", "fjord", "--classes", "land,lake").exit_code == 0
    text = Path("fjord.yaml").read_text()
    text = re.sub(r"(?m)^search:\n(  .*\n)+", "", re.sub(r"epochs: \d+", "epochs: 9", text))
    text = re.sub(r"(?m)^seeds: .*$", "seeds: [1]\nresources: {cpus: 1, gpus: 0}", text)
    Path("fjord.yaml").write_text(text.replace("lr: 1e-4", "lr: 1e-2"))
    run = CliRunner().invoke(main, ["run", "fjord.yaml", "--inline"])
    assert run.exit_code == 0, run.output
    scene = here / "lakes" / (LANDSAT.format(0) + "_SR_{band}.TIF")
    done = CliRunner().invoke(main, ["predict", "fjord", str(scene), "--out", "map.tif"])
    assert done.exit_code == 1, "band_files already hold SR_"
    scene = here / "lakes" / (LANDSAT.format(0) + "_{band}.TIF")
    done = CliRunner().invoke(main, ["predict", "fjord", str(scene), "--out", "map.tif"])
    assert done.exit_code == 0, done.output
    with (
        rasterio.open("map.tif") as found,
        rasterio.open(here / "lakes" / (LANDSAT.format(0) + "_mask.tif")) as truth,
    ):
        assert found.transform == truth.transform
        mapped, right = found.read(1), truth.read(1)
    clouds = mapped == 255
    assert clouds[:16, :16].all(), "left out, as in training"
    assert clouds.sum() == 16 * 16
    assert (mapped == right)[~clouds].mean() > 0.95
    _map_from_one_file(here / "lakes", load_card("fjord.card.yaml").bands)


def _map_from_one_file(folder, bands):
    """Map the bands of a scene as layers of one file: an order that nothing tells is reported."""
    parts = [folder / f"{LANDSAT.format(0)}_SR_{band}.TIF" for band in bands]
    with rasterio.open(parts[0]) as first:
        profile = {**first.profile, "count": len(bands)}
    pixels = []
    for path in parts:
        with rasterio.open(path) as file:
            pixels.append(file.read(1))
    with rasterio.open("stack.tif", "w", **profile) as stack:
        stack.write(np.stack(pixels))
    order = f"they are taken for {', '.join(bands)}, in this order"
    done = CliRunner().invoke(main, ["predict", "fjord", "stack.tif", "--out", "map2.tif"])
    assert order in done.output
    numbers = ",".join(str(k + 1) for k in range(len(bands)))
    words = ["predict", "fjord", "stack.tif", "--out", "map2.tif", "--layers", numbers]
    assert order not in CliRunner().invoke(main, words).output
    with rasterio.open("stack.tif", "r+") as stack:
        stack.descriptions = bands
    done = CliRunner().invoke(main, ["predict", "fjord", "stack.tif", "--out", "map2.tif"])
    assert (done.exit_code, order in done.output) == (0, False)


@pytest.mark.parametrize(
    ("needed", "budget", "epochs"), [(10, 20, 81), (10, 5, 36), (10, 9.9, 72), (10, 0.01, 9)]
)
def test_a_budget_shortens_trainings_and_never_lengthens_them(needed, budget, epochs):
    assert epochs_within(81, needed_h=needed, budget_h=budget) == epochs


@pytest.mark.parametrize(
    ("text", "units", "value"),
    [
        ("6h", HOURS, 6),
        ("90m", HOURS, 1.5),
        ("2D", HOURS, 48),
        ("1.5 h", HOURS, 1.5),
        ("24GB", GIB, 24),
        ("80", GIB, 80),
        ("11.5 G", GIB, 11.5),
        (None, GIB, None),
    ],
)
def test_quantities_are_read_in_the_first_unit(text, units, value):
    assert parse_quantity(text, "--option", units) == value


@pytest.mark.parametrize(
    ("text", "units", "remedy"),
    [
        *((text, HOURS, "Write 6h or 6m or 6d") for text in ("6", "h", "0h", "six h", "6gb")),
        *((text, GIB, "Write 6gb") for text in ("GB", "0GB", "24MB", "-1")),
    ],
)
def test_what_is_no_quantity_is_refused(text, units, remedy):
    with pytest.raises(SpecError, match=f"--option '{text}'.*{remedy}"):
        parse_quantity(text, "--option", units)


@pytest.mark.parametrize(
    ("layers", "hint"),
    [
        (1, "nothing in the files tells which band it is. Name it: --bands DEM, or VV, GREY, ..."),
        (2, "in the file's order, such as --bands VV,VH ("),
        (4, "in the file's order, such as --bands B4,B3,B2,B8 ("),
        (5, "Give 5 names in the file's order, such as --bands B2,B3,B4,... ("),
    ],
)
def test_the_example_of_bands_has_as_many_names_as_the_file_has_layers(here, layers, hint):
    _fill(here / "lakes", bands=layers, images="images/{}.tif", masks="masks/{}.tif")
    for path in (here / "lakes/images").iterdir():
        write(path, np.full((layers, 64, 64), 300, dtype=np.int16))
    done = _init("lakes")
    assert done.exit_code == 1
    assert hint in done.output
    assert "--bands B4,B3,B2 (" not in done.output


REFUSED = {
    "unknown layers": (
        {"bands": 5, "images": "images/{}.tif", "masks": "masks/{}.tif"},
        (),
        "--bands",
    ),
    "too many bands": ({}, ("--bands", "B4,B3,B2,B8"), "3 layers, --bands names 4"),
    "no such band": ({}, ("--bands", "B4,B3,B99"), "B99"),
    "too many classes": ({}, ("--classes", "a,b,c"), "2 values (0, 1), --classes names 3"),
    "no such encoder": ({}, ("--encoder", "galilei"), "galilei"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_only_the_user_knows_is_asked_for_by_its_flag(here, case):
    how, words, message = REFUSED[case]
    _fill(here / "lakes", **how)
    done = _init("lakes", *words)
    assert done.exit_code in (1, 2)
    assert message in done.output
    assert not isinstance(done.exception, Exception) or isinstance(done.exception, SystemExit)
    assert not Path("lakes.yaml").exists()


def test_a_mask_of_one_value_and_an_image_as_mask_are_refused(here):
    _fill(here / "a")
    for path in (here / "a/masks").iterdir():
        write(path, np.zeros((1, 64, 64), dtype=np.uint8))
    assert "Every mask pixel has the value 0" in _init("a").output
    noise = np.random.default_rng(0).integers(0, 255, (1, 64, 64), dtype=np.uint8)
    write(here / "a/masks/s0.png", noise)
    assert "too many for classes" in _init("a").output


def test_the_way_in_of_the_readme(here, shared):
    """One real scene and real outlines: the two commands of README and docs, and what they write."""
    folder = shared / "data" / "oetztal"
    (here / "oetz/images").mkdir(parents=True)
    shutil.copy(folder / "srtm_oetztal.tif", here / "oetz/images")
    words = ["data", "rasterize", str(folder / "rgi_oetztal.shp")]
    words += ["oetz/images/srtm_oetztal.tif", "--out", "oetz/masks"]
    assert CliRunner().invoke(main, words).exit_code == 0
    done = _init("oetz", "--classes", "rock,glacier", "--bands", "DEM")
    assert done.exit_code == 0, done.output
    for page, title in ((DATASETS, "## From a folder to a study"), (README, "## Your own data")):
        block = page.read_text().split(title)[1].split("```text")[1].split("```")[0]
        printed = [line for line in block.splitlines() if line and not line.startswith("root")]
        assert printed
        assert not [line for line in printed if line not in done.output], done.output


def test_outlines_that_cannot_become_masks_are_refused_in_one_sentence(here):
    _fill(here / "a", num=1, images="{}.tif", masks="{}_mask.tif")
    _fill(here / "b", num=1, images="{}.tif", masks="{}_mask.tif")
    (here / "lakes.gpkg").write_bytes(b"SQLite format 3")
    words = ["data", "rasterize", "lakes.gpkg", "a/0.tif", "b/0.tif", "--out", "masks"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert "b/0.tif: its mask would be 'masks/0.tif', as that of a/0.tif." in done.output
    done = CliRunner().invoke(main, ["data", "rasterize", "lakes.gdb", "a/0.tif", "--out", "masks"])
    assert done.exit_code == 1
    assert "Cannot read 'lakes.gdb' as outlines. Use one of .gpkg, .shp" in done.output
    assert "validation error" not in done.output


def test_outlines_become_masks_on_the_grid_of_their_image(here, shared):
    folder = shared / "data" / "oetztal"
    words = [folder / "rgi_oetztal.shp", folder / "srtm_oetztal.tif", "--out", "masks"]
    done = CliRunner().invoke(main, ["data", "rasterize", *map(str, words)])
    assert done.exit_code == 0, done.output
    extent = "from 10.6962 46.7644 to 11.0280 46.9412 in EPSG:4326"
    assert done.output.splitlines()[-2:] == [
        "masks/srtm_oetztal.tif: 5.77 % of the pixels in outlines; 20 outlines on the image, "
        + extent,
        f"{words[0]}: 20 outlines {extent}; all of them on an image",
    ]
    with rasterio.open("masks/srtm_oetztal.tif") as mask, rasterio.open(words[1]) as image:
        assert (mask.shape, mask.crs, mask.transform) == (image.shape, image.crs, image.transform)
        assert set(np.unique(mask.read(1))) == {0, 1}
    by_column = [*words, "--attribute", "GlacType", "--class", "0099=1"]
    done = CliRunner().invoke(main, ["data", "rasterize", *map(str, by_column)])
    assert done.exit_code in (0, 1)
    assert "Traceback" not in done.output
    wrong = [*words, "--attribute", "GlacType", "--class", "0099=x"]
    assert "0 to 255" in CliRunner().invoke(main, ["data", "rasterize", *map(str, wrong)]).output


def _rasterize(*boxes):
    """Write boxes in the grid of two scenes of 64 pixels, and rasterize them on the first."""
    return _rasterize_rings(
        *([(left, low), (right, low), (right, top), (left, top)] for left, top, right, low in boxes)
    )


def _rasterize_rings(*rings):
    _fill(Path("a"), num=2, images="{}.tif", masks="{}_mask.tif")
    with rasterio.open("a/0.tif") as image:
        at, crs = image.transform, image.crs.to_string()
    shapes = [shapely.Polygon([at @ corner for corner in ring]) for ring in rings]
    write_outlines(Path("lakes.gpkg"), shapes, crs=crs)
    words = ["data", "rasterize", "lakes.gpkg", "a/0.tif", "--out", "masks"]
    return CliRunner().invoke(main, words)


def test_outlines_outside_of_the_image_are_counted(here):
    done = _rasterize((10, 10, 20, 20), (60, 0, 70, 10), (900, 0, 910, 10))
    assert done.exit_code == 0, done.output
    assert "; 2 outlines on the image, 1 of them beyond its edge too, from " in done.output
    assert "lakes.gpkg: 3 outlines from " in done.output
    assert done.output.rstrip().endswith("; 1 of them not on the image")


@pytest.mark.parametrize(
    ("box", "why"),
    [
        ((900, 0, 910, 10), "no outline lies on any of the images (1)"),
        (
            (10.6, 10.6, 10.9, 10.9),
            "though outlines lie on an image: they hold no center of a pixel",
        ),
    ],
)
def test_outlines_that_label_no_pixel_are_refused_with_the_reason(here, box, why):
    done = _rasterize(box)
    assert done.exit_code == 1
    assert why in done.output
    assert "lakes.gpkg: 1 outline from " in done.output
    assert not list(Path("masks").iterdir())


def test_masks_that_are_drawn_again_stay_where_the_new_ones_would_be_empty_or_fail(here):
    assert _rasterize((10, 10, 20, 20)).exit_code == 0
    before = Path("masks/0.tif").read_bytes()
    nowhere = ["data", "rasterize", "lakes.gpkg", "a/0.tif", "--out", "masks", "--where", "fid > 9"]
    assert CliRunner().invoke(main, nowhere).exit_code == 1
    Path("a/cut.tif").write_bytes(Path("a/1.tif").read_bytes()[:200])
    words = ["data", "rasterize", "lakes.gpkg", "a/0.tif", "a/cut.tif", "--out", "masks"]
    done = CliRunner().invoke(main, [*words, "--all-touched"])
    assert done.exit_code == 1
    assert "cut.tif" in done.output
    assert Path("masks/0.tif").read_bytes() == before
    assert [path.name for path in Path("masks").iterdir()] == ["0.tif"]


def test_outlines_that_cross_themselves_are_named(here):
    bow = [(10, 10), (30, 30), (30, 10), (10, 30)]
    box = [(40, 40), (50, 40), (50, 50), (40, 50)]
    done = _rasterize_rings(box, bow, [(900 + x, y) for x, y in bow])
    assert done.exit_code == 0, done.output
    *_, note = done.output.splitlines()
    assert note.startswith("note: 1 outline crossing itself or broken otherwise was repaired")
    assert "(feature 2: Self-intersection[" in note
    assert "Fix geometries" in note


def test_outlines_that_touch_themselves_are_drawn_without_a_word(here):
    done = _rasterize_rings([(10, 10), (30, 10), (30, 30), (20, 20), (10, 30), (20, 20)])
    assert done.exit_code == 0, done.output
    assert "note:" not in done.output


def test_all_damaged_scenes_are_named_at_once(here):
    _fill(here / "a")
    broken = {"images/s2.png": 100, "images/s4.png": 0, "masks/s5.png": 60}
    for name, kept in broken.items():
        path = here / "a" / name
        path.write_bytes(path.read_bytes()[:kept])
    done = _init("a", "--classes", "land,lake", "--bands", "B4,B3,B2")
    assert done.exit_code == 1
    for name in broken:
        assert done.output.count(f"a/{name}: a raster must be readable") == 1
    assert not list(here.glob("a.y*ml"))


def test_scenes_damaged_where_only_the_whole_is_read_are_named_at_once(here):
    """The first look takes the middle of a large scene."""
    _fill(here / "a", num=4, size=2300, bands=1, images="images/s{}.tif", masks="masks/s{}.tif")
    for name in ("images/s1.tif", "images/s2.tif"):
        path = here / "a" / name
        path.write_bytes(path.read_bytes()[:-3000])
    done = _init("a", "--classes", "land,lake", "--bands", "DEM")
    assert done.exit_code == 1
    for name in ("images/s1.tif", "images/s2.tif"):
        assert done.output.count(f"a/{name}: a raster must be readable") == 1
    assert not list(here.glob("a.y*ml"))


@pytest.mark.slow
def test_from_a_folder_to_a_verdict_in_two_commands(here):
    """The path a newcomer takes: init, then the command that init names, in one process."""
    _fill(here / "lakes", num=12, size=48)
    done = _init("lakes")
    assert done.exit_code == 0, done.output
    text = Path("lakes.yaml").read_text()
    short = [line.replace("trials: 12", "trials: 2") for line in text.splitlines()]
    short = ["  epochs: 2" if line.startswith("  epochs") else line for line in short]
    short = [line for line in short if "scheduler" not in line and "seeds" not in line]
    Path("lakes.yaml").write_text("\n".join([*short, "seeds: [1, 2]", ""]))
    command = [sys.executable, "-m", "cryo_hpo", "run", "--inline", "lakes.yaml"]
    run = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "result:" in run.stdout


def test_a_name_that_no_study_may_have_is_refused_before_the_data_are_looked_at(here):
    _fill(here / "lakes", num=3, size=48)
    done = _init("lakes", "--name", "Lakes 2024")
    assert done.exit_code == 2
    assert "Take lakes-2024." in done.output
    assert not list(here.glob("*.yaml"))


@pytest.mark.parametrize(
    ("scenes", "regions", "blocks"),
    [(30, 5, False), (30, 0, False), (30, 2, True), (2, 0, True), (30, 12, False), (5, 5, True)],
)
def test_blocks_of_ground_are_for_few_scenes(scenes, regions, blocks):
    look = Fingerprint(
        scenes=scenes,
        looked_at=scenes,
        places=Places(Regions(tuple(map(str, range(regions))))),
        pixels=scenes * 512**2,
        sizes=((512, 512), (512, 512)),
        **cast(dict[str, Any], dict.fromkeys(("bands", "low", "high", "gsd_m", "object_px"), 0)),
        **cast(dict[str, Any], dict.fromkeys(("names", "dtypes", "nodata", "crs"), ())),
        values={},
    )
    units = choose_units(cast("Any", SimpleNamespace(parts=())), look)
    assert (units.block_px is not None) == blocks
