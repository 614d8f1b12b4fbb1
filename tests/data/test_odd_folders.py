"""Folders as they come to glaciologists: `init` drafts a card that reads them right, or refuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
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
from cryo_hpo.data.facts import facts_of, read_facts, write_facts
from cryo_hpo.data.fingerprint import take_fingerprint
from cryo_hpo.data.id_words import find_series
from cryo_hpo.data.layout import Layout, recognize_layout
from cryo_hpo.data.review import review
from cryo_hpo.data.splits import parts_of
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


@pytest.mark.parametrize("masks", ["beside", "apart"])
def test_landsat_folders_as_they_are_delivered(tmp_path: Path, masks: str) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        name = f"LC08_L2SP_19502{i}_20200715_20200824_02_T1"
        for k, band_HW in enumerate(image):
            _put(folder / f"scenes/{name}/{name}_SR_B{k + 2}.TIF", band_HW[None], i)
        clear = np.full((1, SIDE, SIDE), 21824, dtype=np.uint16)
        _put(folder / f"scenes/{name}/{name}_QA_PIXEL.TIF", clear, i)
        place = f"scenes/{name}/{name}_mask.tif" if masks == "beside" else f"masks/{name}.tif"
        _put(folder / place, mask, i)

    _fill(tmp_path / "set", writer)
    layout, card, guesses = _draft(tmp_path / "set", bands=None)
    assert card.images == "scenes/{id}/{id}_{band}.TIF"
    assert card.masks == ("scenes/{id}/{id}_mask.tif" if masks == "beside" else "masks/{id}.tif")
    assert card.quality is not None
    assert card.quality.file == "scenes/{id}/{id}_QA_PIXEL.TIF"
    assert (len(layout.pairs), layout.unused, guesses) == (SCENES, (), [])
    scene = _first(card)
    assert scene.image_CHW.shape == (3, SIDE, SIDE)
    assert set(np.unique(scene.mask_HW)) == {0, 1}


def test_a_folder_named_like_its_files_is_a_scene(tmp_path: Path) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        _put(folder / f"s{i}/s{i}.tif", image, i)
        _put(folder / f"s{i}/s{i}_mask.tif", mask, i)

    _fill(tmp_path / "set", writer)
    layout, card, guesses = _draft(tmp_path / "set")
    assert (card.images, card.masks) == ("{id}/{id}.tif", "{id}/{id}_mask.tif")
    assert len(layout.pairs) == len(custom_dataset(card).index(Path("/"), "train")) == SCENES
    assert not [guess for guess in guesses if "left out" in guess]


@pytest.mark.parametrize("value", [255, -1])
def test_the_value_that_may_be_no_label_is_named_first(tmp_path: Path, value: int) -> None:
    _fill(tmp_path / "set", _top_is(value, "int16"))
    words = "land,lake,ignore" if value > 0 else "ignore,land,lake"
    with pytest.raises(DataError, match=rf"Often no label: {value}: .*--classes {words}"):
        _draft(tmp_path / "set")


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


def test_pixels_without_a_number_are_left_out_and_the_card_says_so(tmp_path: Path) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        image[1, :8] = np.nan
        declared = {"nodata": np.nan} if folder.name == "declared" else {}
        _put(folder / f"images/s{i}.tif", image, i, **declared)
        _put(folder / f"masks/s{i}.tif", mask, i)

    for name, nan in (("silent", "ignore"), ("declared", "refuse")):
        _fill(tmp_path / name, writer, dtype="float32")
        _, card, _ = _draft(tmp_path / name)
        assert card.nan == nan
        assert (_first(card).mask_HW[:8] == IGNORE).all()
    assert take_fingerprint(recognize_layout(tmp_path / "declared")).nodata[1:] == ()


COLORS = {"#000000": (0, 0, 0), "#0000ff": (0, 0, 255), "#ff0000": (255, 0, 0)}


def _thirds(mask: Image) -> Image:
    """Return a mask of 0 and 1 with a third class in its last rows."""
    third = mask.copy()
    third[:, -4:] = 2
    return third


def _as_rgb(mask: Image, *, alpha: bool = False) -> Image:
    table = np.array(list(COLORS.values()), dtype=np.uint8)
    colors = np.moveaxis(table[mask[0]], -1, 0)
    seen = np.where(np.arange(mask.shape[2]) < 30, 255, 0) * np.ones(mask.shape[1:])
    return np.concatenate([colors, seen[None].astype(np.uint8)]) if alpha else colors


def _put_palette(path: Path, i: int, mask: Image, colors: Sequence[tuple[int, int, int]]) -> None:
    _put(path, mask, i)
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, dict(enumerate(colors)))


@pytest.mark.parametrize("alpha", [False, True])
def test_a_class_for_each_color_of_a_mask(tmp_path: Path, *, alpha: bool) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        _put(folder / f"images/s{i}.tif", image, i)
        _put(folder / f"masks/s{i}.tif", _as_rgb(_thirds(mask), alpha=alpha), i)

    _fill(tmp_path / "mine", writer)
    _, card, guesses = _draft(tmp_path / "mine", classes=("land", "lake", "ice"))
    assert card.values == dict(zip(COLORS, ("land", "lake", "ice"), strict=True))
    assert not [guess for guess in guesses if "mask value" in guess]
    scene = _first(card)
    expected = np.zeros((1, SIDE, SIDE), dtype=np.uint8)
    expected[:, 8:20, 10:24] = 1
    expected = _thirds(expected)[0]
    expected[:, 30:] = IGNORE if alpha else expected[:, 30:]
    assert (scene.mask_HW == expected).all()


def test_colors_without_names_are_listed_with_their_shares(tmp_path: Path) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        _put(folder / f"images/s{i}.tif", image, i)
        _put(folder / f"masks/s{i}.tif", _as_rgb(_thirds(mask)), i)

    _fill(tmp_path / "mine", writer)
    with pytest.raises(DataError, match=r"3 colors \(#000000: 71 %, #0000ff: 16 %, #ff0000: 12 %"):
        _draft(tmp_path / "mine", classes=None)
    _, card, _ = _draft(tmp_path / "mine", classes=("land", "lake", "ignore"))
    assert card.values == dict(zip(COLORS, ("land", "lake", "ignore"), strict=True))
    assert set(np.unique(_first(card).mask_HW)) == {0, 1, IGNORE}


def test_two_colors_are_guessed_and_said_so(tmp_path: Path) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        _put(folder / f"images/s{i}.tif", image, i)
        _put(folder / f"masks/s{i}.tif", _as_rgb(mask), i)

    _fill(tmp_path / "mine", writer)
    _, card, guesses = _draft(tmp_path / "mine", classes=None)
    assert card.values == {"#000000": "background", "#0000ff": "foreground"}
    assert "values" in card.assumed
    assert any("#0000ff is 'foreground'" in guess for guess in guesses)


def test_palettes_that_agree_are_numbers_and_those_that_do_not_are_refused(tmp_path: Path) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        _put(folder / f"images/s{i}.tif", image, i)
        colors = [(0, 0, 0), (0, 0, 255)] if i < agree else [(0, 0, 0), (255, 0, 0)]
        _put_palette(folder / f"masks/s{i}.tif", i, mask, colors)

    agree = SCENES
    _fill(tmp_path / "mine", writer)
    assert _draft(tmp_path / "mine")[1].classes == ("land", "lake")
    agree = 3
    _fill(tmp_path / "other", writer)
    with pytest.raises(DataError, match=r"Palettes of the masks differ: 1 is #0000ff .* #ff0000"):
        _draft(tmp_path / "other")


@pytest.mark.parametrize("swapped", [False, True], ids=["other color", "numbers exchanged"])
def test_palettes_that_differ_are_refused_by_the_review_of_a_card_too(
    tmp_path: Path, *, swapped: bool
) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        _put(folder / f"images/s{i}.tif", image, i)
        other = [(0, 0, 255), (0, 0, 0)] if swapped else [(0, 0, 0), (255, 0, 0)]
        colors = other if i == 3 else [(0, 0, 0), (0, 0, 255)]
        _put_palette(
            folder / f"masks/s{i}.tif", i, 1 - mask if swapped and i == 3 else mask, colors
        )

    def refusals(**changes: Any) -> list[str]:
        card = DatasetCard(**{**fields, **changes})
        dataset = custom_dataset(card)
        scenes = [dataset.read(item) for item in sorted(dataset.index(Path("/"), "train"))]
        facts = [facts_of(scene, num_classes=len(card.classes)) for scene in scenes]
        write_facts(tmp_path, facts)
        return list(review(dataset, {"train": read_facts(tmp_path)}).refusals)

    _fill(tmp_path / "set", writer)
    fields: dict[str, Any] = {
        "name": "mine",
        "root": str(tmp_path / "set"),
        "images": "images/{id}.tif",
        "masks": "masks/{id}.tif",
        "bands": ("B4", "B3", "B2"),
        "classes": ("land", "lake"),
        "split": {"by": "scene"},
    }
    (line,) = refusals()
    assert re.search(r"is #000000 in 's0' and #\w+ in 's3'|is #0000ff in 's0' and #ff0000", line)
    assert refusals(palettes="ignore") == []
    colors = {"#000000": "land", "#0000ff": "lake", "#ff0000": "lake"}
    if swapped:
        del colors["#ff0000"]
    assert refusals(values=colors) == []


def test_smoothed_colors_are_refused(tmp_path: Path) -> None:
    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        _put(folder / f"images/s{i}.tif", image, i)
        smooth = _as_rgb(mask) + np.arange(SIDE, dtype=np.uint8) * (1 + i)
        _put(folder / f"masks/s{i}.tif", smooth, i)

    _fill(tmp_path / "mine", writer)
    with pytest.raises(DataError, match="smoothed at edges, or compressed as JPEG"):
        _draft(tmp_path / "mine")


def _landsat(i: int, day: str = "0725") -> str:
    return f"L{'CT'[i % 2]}0{'85'[i % 2]}_L1TP_23301{i}_2016{day}_20170322_01_T1"


def test_scenes_of_several_sensors_may_be_named_by_color(tmp_path: Path) -> None:
    names = [_landsat(i) for i in range(SCENES)]
    _fill(tmp_path / "mine", _series(names, lambda i: 5 * i))
    with pytest.raises(DataError, match=r"Landsat 5 and Landsat 8.*--bands RED,GREEN,BLUE"):
        _draft(tmp_path / "mine")
    assert _draft(tmp_path / "mine", bands=("RED", "GREEN", "BLUE"))[1].sensor is None


def test_names_of_parts_are_no_regions(tmp_path: Path) -> None:
    names = [f"{('train', 'val', 'test')[i % 3]}_{i}" for i in range(SCENES)]
    _fill(tmp_path / "mine", _series(names, lambda _: None))
    assert _draft(tmp_path / "mine")[1].region is None


def _series(names: Sequence[str], place: Callable[[int], int | None], *, side: int = 128) -> Writer:
    """Write scenes under names, georeferenced at a place in km, or nowhere."""

    def writer(folder: Path, i: int, image: Image, mask: Image) -> None:
        for kind, pixels in (("images", image), ("masks", mask)):
            whole = np.tile(pixels, (1, side // SIDE, side // SIDE))
            where = place(i)
            named = folder / f"{kind}/{names[i]}.tif"
            write(named, whole, georeferenced=where is not None, place=(where or 0, 0))

    return writer


def _rule(card: DatasetCard) -> dict[str, Any]:
    assert card.split is not None
    return card.split.model_dump(exclude_defaults=True)


def _parts(card: DatasetCard, tmp_path: Path) -> dict[str, set[str]]:
    parts = parts_of(custom_dataset(card), tmp_path, cache=tmp_path / "cache")
    return {part: {item.id for item in items} for part, items in parts.items()}


DATES = ["20190701", "20190802", "20190903", "20200701", "20200802", "20200903", "20210701"]


def test_dates_of_one_place_are_cut_into_the_same_blocks(tmp_path: Path) -> None:
    _fill(tmp_path / "mine", _series([f"hut_{date}" for date in DATES], lambda _: 0))
    _, card, _ = _draft(tmp_path / "mine")
    assert _rule(card)["by"] == "place"
    parts = _parts(card, tmp_path)
    blocks = {part: {name.rpartition("@")[2] for name in names} for part, names in parts.items()}
    assert all(blocks.values())
    assert not blocks["train"] & blocks["test"]
    assert not blocks["train"] & blocks["val"]
    assert not blocks["val"] & blocks["test"]
    assert {name.rpartition("@")[0] for name in parts["test"]} == {f"hut_{date}" for date in DATES}
    layout = recognize_layout(tmp_path / "mine")
    look = take_fingerprint(layout)
    choices = Choices(name="mine", classes=("land", "lake"), bands=("B4", "B3", "B2"))
    points = [str(point) for point in open_points_of(layout, look, choices)]
    assert any("7 scenes show 1 place" in point and "by: time" in point for point in points)


def test_dates_of_three_places_stay_together(tmp_path: Path) -> None:
    names = [f"{'abc'[i % 3]}{i % 3}_{DATES[i]}" for i in range(SCENES)]
    _fill(tmp_path / "mine", _series(names, lambda i: 5 * (i % 3)))
    _, card, _ = _draft(tmp_path / "mine")
    assert _rule(card) == {"by": "scene"}
    parts = _parts(card, tmp_path)
    assert sorted(len({name[:2] for name in names}) for names in parts.values()) == [1, 1, 1]


def test_dates_of_few_places_on_other_grids_are_refused_with_the_remedy(tmp_path: Path) -> None:
    _fill(tmp_path / "mine", _series([f"hut_{d}" for d in DATES], lambda _: 0))
    for i, date in enumerate(DATES):
        for kind in ("images", "masks"):
            with rasterio.open(tmp_path / f"mine/{kind}/hut_{date}.tif", "r+") as file:
                file.transform = file.transform @ Affine.translation(0.3 * i, 0)
    with pytest.raises(DataError, match=r"1 group of overlapping ground.*gdalwarp -te"):
        _draft(tmp_path / "mine")


def test_names_with_dates_tell_places_where_files_do_not(tmp_path: Path) -> None:
    names = [f"{'abc'[i % 3]}{i % 3}_{DATES[i]}" for i in range(SCENES)]
    _fill(tmp_path / "mine", _series(names, lambda _: None))
    _, card, guesses = _draft(tmp_path / "mine")
    assert _rule(card) == {"by": "scene"}
    assert "region" in card.assumed
    assert any("places in ids with dates" in guess for guess in guesses)
    parts = _parts(card, tmp_path)
    assert sorted(len({name[:2] for name in names}) for names in parts.values()) == [1, 1, 1]


def test_dates_of_one_place_without_coordinates_are_divided_by_time_and_said_so(
    tmp_path: Path,
) -> None:
    _fill(tmp_path / "mine", _series([f"hut_{date}" for date in DATES], lambda _: None))
    _, card, guesses = _draft(tmp_path / "mine")
    assert _rule(card)["by"] == "time"
    assert "split" in card.assumed
    assert any("same ground on other dates" in guess for guess in guesses)
    parts = _parts(card, tmp_path)
    assert max(parts["train"]) < min(parts["val"])
    assert max(parts["val"]) < min(parts["test"])


def test_two_dates_of_one_place_without_coordinates_are_refused(tmp_path: Path) -> None:
    names = [f"hut_{DATES[i % 2]}T1{i:03}" for i in range(SCENES)]
    _fill(tmp_path / "mine", _series(names, lambda _: None))
    with pytest.raises(DataError, match="1 place on 2 dates"):
        _draft(tmp_path / "mine")


@pytest.mark.parametrize(
    ("ids", "places", "dates"),
    [
        (["hut_20190731", "hut_20200731"], 1, 2),
        (["2019-07-31_hut", "2019-08-31_hut", "2019-07-31_peak", "2019-08-31_peak"], 2, 2),
        (["20190731", "20200731", "20210731"], 1, 3),
        (["hut_20190731T103021", "hut_20200731T103021"], 1, 2),
        (["a1_2019", "a1_2020", "b1_2019", "b1_2020"], 2, 2),
        (["scene_2001", "scene_2002", "scene_2003"], 0, 0),  # numbers as likely as years
        (["a_20190731", "b_20190731"], 0, 0),  # every place once
        (["hut_20191331", "hut_20190231x"], 0, 0),
        (["s1", "s2"], 0, 0),
        (["hut_20190731_a", "hut_20190731_b"], 0, 0),  # one date
        # Paths of Landsat overlap, most near the poles: 233012 and 234012 may be one place.
        ([_landsat(i, day) for i in (2, 3) for day in ("0725", "0810")], 0, 0),
        ([f"hut_x_2019073{i}_y" for i in "01"], 1, 2),
    ],
)
def test_a_series_is_recognized_by_its_dates(ids: list[str], places: int, dates: int) -> None:
    series = find_series(ids)
    assert (len(series.places), len(series.dates)) == (places, dates)
