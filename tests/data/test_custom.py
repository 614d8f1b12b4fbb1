"""Folders as users have them: odd names, odd pixels, and damage. Every refusal says what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.data import find_dataset
from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.dataset import IGNORE, Scene, Split
from cryo_hpo.data.regions import find_regions
from cryo_hpo.errors import DataError, SpecError, UnknownName

from ..support.fakes import fake_folder, write


def _with(card: DatasetCard, **changes: Any) -> DatasetCard:
    return DatasetCard.model_validate({**card.model_dump(), **changes})


def _one(root: Path, image_CHW: NDArray[Any], mask_HW: NDArray[Any], **facts: Any) -> Scene:
    """Write a dataset of one scene as `facts` of the card and of the image say, and read it."""
    profile = facts.pop("profile", {})
    bands = ("GREY",) if len(image_CHW) == 1 else ("B4", "B3", "B2", "B8")[: len(image_CHW)]
    facts = {"bands": bands, "classes": ("land", "lake"), **facts}
    images, masks = "{split}/{id}_image.tif", "{split}/{id}_mask.tif"
    card = DatasetCard(name="one", root="one", images=images, masks=masks, **facts)
    write(root / "one/train/a_image.tif", image_CHW, **profile)
    write(root / "one/train/a_mask.tif", mask_HW[None])
    data = custom_dataset(card)
    (item,) = data.index(root, "train")
    return data.read(item)


CARDS = Path(__file__).parents[2] / "search_spaces/studies/cards"
SPLITS: tuple[Split, ...] = ("train", "val", "test")
ONES = np.ones((4, 5), dtype=np.uint8)


# -- listing


def test_missing_folder_names_the_path_and_the_variable(tmp_path: Path) -> None:
    card = _with(fake_folder(tmp_path / "data"), root="elsewhere")
    with pytest.raises(DataError) as refusal:
        custom_dataset(card).index(tmp_path / "data", "train")
    for part in (str(tmp_path / "data" / "elsewhere"), "CRYO_DATA", "'fake'"):
        assert part in str(refusal.value)


def test_missing_generated_folder_says_how_to_generate_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cryo-hpo data generate lakes-demo"):
        find_dataset("lakes-demo").index(tmp_path, "train")


def test_absolute_root_needs_no_data_root(tmp_path: Path) -> None:
    card = fake_folder(tmp_path)
    card = _with(card, root=str(tmp_path / card.root))
    assert len(custom_dataset(card).index(Path("/nowhere"), "train")) == 6


def test_home_and_variables_in_a_root_are_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = fake_folder(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    for root in (f"~/{card.root}", f"$SCRATCH/{card.root}"):
        assert len(custom_dataset(_with(card, root=root)).index(Path("/nowhere"), "train")) == 6
    monkeypatch.delenv("SCRATCH")
    with pytest.raises(SpecError, match=r"root: the variable \$SCRATCH .* is not set"):
        custom_dataset(_with(card, root="$SCRATCH/x")).index(tmp_path, "train")


def test_empty_split_is_refused(tmp_path: Path) -> None:
    card = fake_folder(tmp_path, num=(2, 0, 2))
    with pytest.raises(DataError, match=r"split 'val' .* no file matches 'val/images/\*\.tif'"):
        custom_dataset(card).index(tmp_path, "val")


def test_unpaired_images_are_counted_and_the_first_three_named(tmp_path: Path) -> None:
    card = fake_folder(tmp_path, num=(6, 0, 0))
    masks = sorted((tmp_path / "fake/train/masks").iterdir())
    for mask in masks[1:5]:
        mask.unlink()
    names = ", ".join(f"'{mask.stem}'" for mask in masks[1:4])
    with pytest.raises(DataError, match=rf"its mask, 4 have none \(first: {names}\)"):
        custom_dataset(card).index(tmp_path, "train")


def test_unpaired_mask_is_refused(tmp_path: Path) -> None:
    card = fake_folder(tmp_path)
    next((tmp_path / "fake/train/images").iterdir()).unlink()
    message = (
        "every mask of split 'train' must have its image, 1 have .* Copy the missing image there"
    )
    with pytest.raises(DataError, match=message):
        custom_dataset(card).index(tmp_path, "train")


def test_hidden_files_are_not_data(tmp_path: Path) -> None:
    card = fake_folder(tmp_path)
    (tmp_path / "fake/train/images/._train0_0.tif").write_bytes(b"left by a file manager")
    assert len(custom_dataset(card).index(tmp_path, "train")) == 6


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("{split}/{id}.tif", "{split}/{id}_mask.tif"),
        ("{split}/{id}_image.tif", "{split}/{id}.tif"),
        ("{id}/{split}_image.tif", "{id}/{split}_mask.tif"),
        ("{split}/{id}/{id}.tif", "{split}/{id}/{id}-mask.tif"),
        ("{split} [new]/{id}.tif", "{split} (1+1)/{id}.tif"),
    ],
)
def test_templates_of_every_shape_pair_by_id(tmp_path: Path, images: str, masks: str) -> None:
    bands, classes = ("GREY",), ("land", "lake")
    card = DatasetCard(
        name="odd", root=".", images=images, masks=masks, bands=bands, classes=classes
    )
    for name in ("a", "b"):
        write(tmp_path / images.format(split="train", id=name), ONES[None])
        write(tmp_path / masks.format(split="train", id=name), ONES[None])
    items = custom_dataset(card).index(tmp_path, "train")
    assert [item.id for item in items] == ["a", "b"]
    for item in items:
        assert item.image == tmp_path / images.format(split="train", id=item.id)
        assert item.mask == tmp_path / masks.format(split="train", id=item.id)


def test_absolute_template_is_refused(tmp_path: Path) -> None:
    card = _with(fake_folder(tmp_path), images="/data/{split}/{id}.tif")
    with pytest.raises(DataError, match="below its 'root', got '/data/"):
        custom_dataset(card).index(tmp_path, "train")


def test_region_must_match_every_id(tmp_path: Path) -> None:
    card = _with(fake_folder(tmp_path), region="^glacier(.)")
    with pytest.raises(
        DataError, match=r"region '\^glacier\(\.\)' must match every id .* 'train0_0'"
    ):
        custom_dataset(card).index(tmp_path, "train")


def test_a_region_that_backtracks_without_end_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("cryo_hpo.data.regions.BUDGET_S", 1)
    card = _with(fake_folder(tmp_path), region="^((?:a|a?)+)$")
    assert find_regions(card, ["aa"]) == {"aa": "aa"}
    with pytest.raises(DataError, match="it tries too many ways"):
        find_regions(card, ["a" * 50 + "!"])


def test_unknown_band_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="No band named 'B02'"):
        custom_dataset(_with(fake_folder(tmp_path), bands=("B02", "B3", "B4")))


# -- pixels


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_without_a_number_are_refused_or_ignored(tmp_path: Path, value: float) -> None:
    image = np.full((2, 4, 5), 0.5, dtype=np.float32)
    image[1, 2, 3] = value
    with pytest.raises(DataError, match=r"a_image\.tif: .* 1 of 20 .* `nan: ignore`"):
        _one(tmp_path, image, ONES)
    scene = _one(tmp_path, image, ONES, nan="ignore")
    assert scene.mask_HW[2, 3] == IGNORE
    assert (scene.image_CHW[:, 2, 3] == 0).all()
    assert (scene.mask_HW == IGNORE).sum() == 1


@pytest.mark.parametrize("nodata", [-9999.0, np.nan])
def test_a_pixel_that_lacks_every_band_is_ignored(tmp_path: Path, nodata: float) -> None:
    image = np.full((2, 4, 5), 0.5, dtype=np.float32)
    image[:, 0, 1] = nodata
    scene = _one(tmp_path, image, ONES, profile={"nodata": nodata})
    assert np.argwhere(scene.mask_HW == IGNORE).tolist() == [[0, 1]]
    assert np.isfinite(scene.image_CHW).all()


def test_a_pixel_that_lacks_one_band_is_ignored(tmp_path: Path) -> None:
    image = np.full((2, 4, 5), 7, dtype=np.int16)
    image[1, 0, 1] = -9999
    scene = _one(tmp_path, image, ONES, profile={"nodata": -9999})
    assert np.argwhere(scene.mask_HW == IGNORE).tolist() == [[0, 1]]
    assert scene.image_CHW.min() == 0


def test_zero_in_one_band_is_a_dark_pixel_even_where_zero_is_nodata(tmp_path: Path) -> None:
    image = np.full((2, 4, 5), 7, dtype=np.uint8)
    image[1, 0, 1] = 0
    image[:, 2, 2] = 0
    scene = _one(tmp_path, image, ONES, profile={"nodata": 0})
    assert np.argwhere(scene.mask_HW == IGNORE).tolist() == [[2, 2]]
    assert scene.image_CHW[0, 0, 1] == 7


def test_transparency_is_no_band_and_hides_pixels(tmp_path: Path) -> None:
    card = fake_folder(tmp_path, num=(1, 0, 0), suffix=".png", size=(8, 9))
    data = custom_dataset(card)
    (item,) = data.index(tmp_path, "train")
    opaque = data.read(item)
    alpha = np.full((1, 8, 9), 255, dtype=np.uint8)
    alpha[0, 3, 4] = 0
    write(item.image, np.concatenate([opaque.image_CHW, alpha]))
    scene = data.read(item)
    seen = alpha[0] > 0
    np.testing.assert_array_equal(scene.image_CHW[:, seen], opaque.image_CHW[:, seen])
    np.testing.assert_array_equal(scene.mask_HW[seen], opaque.mask_HW[seen])
    assert scene.mask_HW[3, 4] == IGNORE


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_fourth_band_that_looks_like_transparency_is_data(tmp_path: Path) -> None:
    image = np.arange(80, dtype=np.uint8).reshape(4, 4, 5)
    image[3] = 0
    scene = _one(tmp_path, image, ONES)
    with rasterio.open(tmp_path / "one/train/a_image.tif") as file:
        assert file.colorinterp[-1] == ColorInterp.alpha
    np.testing.assert_array_equal(scene.image_CHW, image)
    assert (scene.mask_HW == 1).all()


def test_other_number_of_layers_is_refused(tmp_path: Path) -> None:
    card = _with(fake_folder(tmp_path), bands=("B4", "B3"))
    data = custom_dataset(card)
    with pytest.raises(DataError, match=r"2 bands \(B4 B3\), this file has 3 layers of uint8"):
        data.read(data.index(tmp_path, "train")[0])


def test_mask_of_colors_is_refused(tmp_path: Path) -> None:
    data = custom_dataset(fake_folder(tmp_path))
    item = data.index(tmp_path, "train")[0]
    colors = np.zeros((3, 48, 64), dtype=np.uint8)
    colors[2, :10] = 255
    write(item.mask, colors)
    line = (
        r"3 layers of uint8 in 2 colors.*`values: \{\"#000000\": background, \"#0000ff\": lake\}`"
    )
    with pytest.raises(DataError, match=line):
        data.read(item)


@pytest.mark.parametrize(
    ("value", "dtype"), [(7, "uint8"), (-1, "int16"), (0.5, "float32"), (np.inf, "float32")]
)
def test_mask_values_outside_the_classes_are_refused(
    tmp_path: Path, value: float, dtype: str
) -> None:
    mask = np.ones((4, 5), dtype=dtype)
    mask[1, 1] = value
    law = rf"a_mask\.tif: the mask holds the value {value:g} .* allows 0 \(land\), 1 \(lake\) and 9 \(ignore\)"
    with pytest.raises(DataError, match=law):
        _one(tmp_path, ONES[None], mask, ignore=9)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "float32"])
def test_ignore_value_of_the_card_becomes_255(tmp_path: Path, dtype: str) -> None:
    mask = np.array([[0, 1, 9]], dtype=dtype)
    scene = _one(tmp_path, np.ones((1, 1, 3), dtype=np.uint8), mask, ignore=9)
    assert scene.mask_HW.tolist() == [[0, 1, IGNORE]]


def test_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its image of 4 x 5 pixels, this one has 2 x 5"):
        _one(tmp_path, ONES[None], ONES[:2])


@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize("keep", [0, 20, 0.5])
def test_damaged_files_are_named(tmp_path: Path, suffix: Any, keep: float) -> None:
    data = custom_dataset(fake_folder(tmp_path, suffix=suffix))
    item = data.index(tmp_path, "train")[0]
    content = item.image.read_bytes()
    item.image.write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(DataError, match=rf"{item.image.name}: .* Was it copied completely"):
        data.read(item)


# -- real data


def _card(name: str) -> DatasetCard:
    text = (CARDS / f"{name}.yaml").read_text()
    return DatasetCard.model_validate_json(json.dumps(yaml.safe_load(text)))


def test_real_rock_glaciers_are_read(shared: Path) -> None:
    data = custom_dataset(_card("rock-glaciers"))
    items = data.index(shared / "data", "val")
    scenes = [data.read(item) for item in items]
    labels = np.stack([scene.mask_HW for scene in scenes])
    assert {item.region for item in items} == {"D"}
    assert {scene.image_CHW.shape for scene in scenes} == {(3, 128, 128)}
    assert labels.mean() == pytest.approx(0.195, abs=5e-4)  # the share its authors state


@pytest.mark.parametrize(
    ("name", "numbers", "classes"),
    [
        ("rock-glaciers", (290, 59, 100), {0, 1}),
        ("calving-fronts", (100, 23, 10), {0, 1, IGNORE}),
        ("melt-ponds", (10, 4, 7), {0, 1, 2}),
    ],
)
def test_real_cards_fit_their_files(
    shared: Path, name: str, numbers: tuple[int, ...], classes: set[int]
) -> None:
    data = custom_dataset(_card(name))
    splits = [data.index(shared / "data", split) for split in SPLITS]
    assert tuple(map(len, splits)) == numbers
    values = [set(np.unique(data.read(item).mask_HW).tolist()) for item, *_ in splits]
    assert set.union(*values) == classes
    assert data.source
    assert data.license
