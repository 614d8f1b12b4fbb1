"""Folders as they come to glaciologists: `init` drafts a card that reads them right, or refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from cryo_hpo.config import DatasetCard, load_card
from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.dataset import IGNORE, Scene
from cryo_hpo.data.fingerprint import take_fingerprint
from cryo_hpo.data.layout import Layout, recognize_layout
from cryo_hpo.errors import DataError
from cryo_hpo.study.draft_card import Choices, draft_card, format_lines, open_points_of

from ..support.fakes import write

SIDE, SCENES = 32, 7
Image = NDArray[Any]
Writer = Callable[[Path, int, Image, Image], None]


def _fill(folder: Path, writer: Writer, *, dtype: str = "uint16", bands: int = 3) -> None:
    """Write scenes with a dark square at a place of their own, which the mask marks."""
    for i in range(SCENES):
        mask = np.zeros((1, SIDE, SIDE), dtype=np.uint8)
        mask[:, 8 + i : 20 + i, 10:24] = 1
        noise = np.random.default_rng(i).integers(150, 200, (bands, SIDE, SIDE))
        writer(folder, i, (noise - 100 * mask).astype(dtype), mask)


def _put(path: Path, pixels: Image, i: int, **profile: Any) -> None:
    low = path.with_suffix(path.suffix.lower())
    write(low, pixels, georeferenced=True, place=(i, 0), **profile)
    low.rename(path)


def _draft(
    folder: Path,
    *,
    classes: tuple[str, ...] | None = ("land", "lake"),
    bands: tuple[str, ...] | None = ("B4", "B3", "B2"),
) -> tuple[Layout, DatasetCard, list[str]]:
    """Return the layout, the card that `init` writes, and the guesses."""
    layout = recognize_layout(folder)
    look = take_fingerprint(layout)
    choices = Choices(name="mine", classes=classes, bands=bands)
    card = folder.parent / "card.yaml"
    card.write_text(format_lines(draft_card(layout, look, choices, root=folder)))
    guesses = [str(p) for p in open_points_of(layout, look, choices) if p.is_guess]
    return layout, load_card(card), guesses


def _first(card: DatasetCard) -> Scene:
    dataset = custom_dataset(card)
    return dataset.read(sorted(dataset.index(Path("/"), "train"))[0])


def _top_is(value: float, dtype: str, **profile: Any) -> Writer:
    """Return a writer of masks whose first four rows hold a value that is no class."""

    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        mask = mask.astype(dtype)
        mask[:, :4] = value
        _put(folder / f"s{i}.tif", image, i)
        _put(folder / f"s{i}_mask.tif", mask, i, **profile)

    return writer


@pytest.mark.parametrize(
    "writer",
    [
        _top_is(np.nan, "float32"),
        _top_is(-9999, "int16"),
        _top_is(-9999, "float32", nodata=-9999),
        _top_is(255, "uint8", nodata=255),
        _top_is(7, "uint8", nodata=7),
    ],
    ids=["NaN", "-9999", "-9999 declared", "255 declared", "7 declared"],
)
def test_what_a_mask_declares_as_no_label_is_no_class(tmp_path: Path, writer: Writer) -> None:
    _fill(tmp_path / "set", writer)
    _, card, _ = _draft(tmp_path / "set")
    assert card.classes == ("land", "lake")
    mask_HW = _first(card).mask_HW
    assert (mask_HW[:4] == IGNORE).all()
    assert (mask_HW[4:] != IGNORE).all()


def test_a_declared_nodata_value_is_a_class_where_no_other_is_left(tmp_path: Path) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        _put(folder / f"s{i}.tif", image, i)
        _put(folder / f"s{i}_mask.tif", mask * np.uint8(255), i, nodata=255)

    _fill(tmp_path / "set", writer)
    _, card, _ = _draft(tmp_path / "set")
    assert card.values == {"0": "land", "255": "lake"}


def test_masks_of_0_and_1_beside_masks_of_0_and_255_are_refused(tmp_path: Path) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        _put(folder / f"s{i}.tif", image, i)
        _put(folder / f"s{i}_mask.tif", mask * np.uint8(255 if i % 2 else 1), i)

    _fill(tmp_path / "set", writer)
    with pytest.raises(DataError, match=r"none holds both.*--classes land,lake,lake if 1 and 255"):
        _draft(tmp_path / "set", classes=None)
    _, card, _ = _draft(tmp_path / "set", classes=("land", "lake", "lake"))
    assert card.classes == ("land", "lake")
    assert card.values == {"0": "land", "1": "lake", "255": "lake"}


def test_transparency_is_no_band_and_gray_masks_may_have_three_layers(tmp_path: Path) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        clear = np.full((1, SIDE, SIDE), 255, dtype=np.uint8)
        clear[:, :4] = 0
        write(folder / f"images/s{i}.png", np.concatenate([image, clear]))
        write(folder / f"masks/s{i}.png", np.repeat(mask * np.uint8(255), 3, axis=0))

    _fill(tmp_path / "set", writer, dtype="uint8")
    _, card, guesses = _draft(tmp_path / "set", bands=None)
    assert card.bands == ("RED", "GREEN", "BLUE")
    assert card.values == {"0": "land", "255": "lake"}
    assert [key for key in guesses if "red, green and blue" in key]
    scene = _first(card)
    assert len(scene.image_CHW) == 3
    assert scene.absent_HW[:4].all()
    assert not scene.absent_HW[4:].any()


def test_four_layers_of_8_bits_may_all_be_bands(tmp_path: Path) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        _put(folder / f"images/s{i}.tif", image, i)
        _put(folder / f"masks/s{i}.tif", mask, i)

    _fill(tmp_path / "set", writer, dtype="uint8", bands=4)
    _, card, _ = _draft(tmp_path / "set", bands=("B2", "B3", "B4", "B8"))
    assert len(_first(card).image_CHW) == 4


def test_files_of_one_scene_may_differ_in_case(tmp_path: Path) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        suffix, b = ("TIF", "B") if i % 2 else ("tif", "b")
        name = f"LE07_L1TP_19301{i}_20010723_20170204_01_T1"
        for k, band_HW in enumerate(image):
            _put(folder / f"{name}_{b}{k + 1}.{suffix}", band_HW[None], i)
        _put(folder / f"{name}_mask.{suffix}", mask, i)

    _fill(tmp_path / "set", writer)
    layout, card, guesses = _draft(tmp_path / "set", bands=None)
    assert len(layout.pairs) == SCENES
    assert layout.unused == ()
    assert (card.sensor, card.bands) == ("landsat-7", ("B1", "B2", "B3"))
    assert len(custom_dataset(card).index(Path("/"), "train")) == SCENES
    assert not guesses


@pytest.mark.parametrize("bands", [True, False], ids=["band files", "one file"])
def test_a_folder_for_each_scene(tmp_path: Path, *, bands: bool) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        scene = folder / f"LT05_L1TP_19301{i}_19990723_20170204_01_T1"
        if bands:
            for k, band_HW in enumerate(image):
                _put(scene / f"B{k + 1}.TIF", band_HW[None], i)
        else:
            _put(scene / "image.tif", image, i)
        _put(scene / "mask.tif", mask, i)

    _fill(tmp_path / "set", writer)
    layout, card, guesses = _draft(tmp_path / "set", bands=None if bands else ("B3", "B2", "B1"))
    assert card.images == ("{id}/{band}.TIF" if bands else "{id}/image.tif")
    assert card.masks == "{id}/mask.tif"
    assert (len(layout.pairs), layout.unused) == (SCENES, ())
    assert card.sensor == "landsat-5"
    assert not guesses
    assert _first(card).image_CHW.shape == (3, SIDE, SIDE)


def test_masks_under_other_names_are_not_left_out_in_silence(tmp_path: Path) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        _put(folder / f"s{i}.tif", image, i)
        _put(folder / (f"s{i}_mask.tif" if i else "S0_mask.tif"), mask, i)

    _fill(tmp_path / "set", writer)
    layout, _, guesses = _draft(tmp_path / "set")
    assert [path.name for path in layout.unpaired] == ["S0_mask.tif"]
    assert "1 mask without an image by these names, left out" in " ".join(guesses)


def test_complex_radar_is_refused_with_the_remedy(tmp_path: Path) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        _put(folder / f"s{i}.tif", image[:1].astype("complex64"), i)
        _put(folder / f"s{i}_mask.tif", mask, i)

    _fill(tmp_path / "set", writer)
    with pytest.raises(DataError, match=r"complex64.*amplitude in decibels"):
        _draft(tmp_path / "set", bands=("VV",))


def test_a_mask_in_colors_is_refused_with_the_lines_of_a_card(tmp_path: Path) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        write(folder / f"images/s{i}.png", image)
        blue = np.concatenate([0 * mask, 0 * mask, mask * np.uint8(255)])
        write(folder / f"masks/s{i}.png", blue)

    _fill(tmp_path / "set", writer, dtype="uint8")
    with pytest.raises(DataError, match='"#000000": background, "#0000ff": lake'):
        _draft(tmp_path / "set")


def test_a_raster_stored_from_south_to_north_fits_its_mask(tmp_path: Path) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        _put(folder / f"s{i}.tif", image, i)
        _put(folder / f"s{i}_mask.tif", mask, i)
        with rasterio.open(folder / f"s{i}.tif", "r+") as file:
            t = file.transform
            file.transform = Affine(t.a, 0, t.c, 0, -t.e, t.f + SIDE * t.e)
            file.write(image[:, ::-1])

    _fill(tmp_path / "set", writer)
    _, card, _ = _draft(tmp_path / "set")
    scene = _first(card)
    assert np.array_equal(scene.mask_HW == 1, scene.image_CHW[0] < 120)


@pytest.mark.parametrize(
    "names",
    [("Train", "Val", "Test"), ("training", "validation", "testing"), ("TRAIN", "val", "x")],
)
def test_parts_under_other_names_are_never_taken_for_one_heap(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        part = names[max(0, i - 4)]
        _put(folder / part / f"images/s{i}.tif", image, i)
        _put(folder / part / f"masks/s{i}.tif", mask, i)

    _fill(tmp_path / "set", writer)
    with pytest.raises(DataError, match=f"'{names[0]}' to 'train'"):
        _draft(tmp_path / "set")


def test_scenes_of_other_folders_are_not_left_out_in_silence(tmp_path: Path) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        _put(folder / f"images/s{i}.tif", image, i)
        _put(folder / f"masks/s{i}.tif", mask, i)

    for site in ("aletsch", "rhone"):
        _fill(tmp_path / "set" / site, writer)
    layout, card, guesses = _draft(tmp_path / "set")
    assert card.images == "rhone/images/{id}.tif"
    assert layout.elsewhere == ("aletsch/images/{id}.tif",)
    assert "further ones with masks are left out: aletsch/images/{id}.tif" in " ".join(guesses)


@pytest.mark.parametrize("names", [("on", "1"), ("rock: bare", "ice, clean"), ("null", "#2")])
def test_any_class_name_is_text_in_the_card(tmp_path: Path, names: tuple[str, str]) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        _put(folder / f"s{i}.tif", image, i)
        _put(folder / f"s{i}_mask.tif", mask, i)

    _fill(tmp_path / "set", writer)
    _, card, _ = _draft(tmp_path / "set", classes=names)
    assert card.classes == names
