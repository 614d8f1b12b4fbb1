"""Masks as they come: 0/255, palettes, 1 bit, colors, floats, and "no label" in all its forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.dataset import IGNORE, Scene
from cryo_hpo.errors import DataError

from ..support.fakes import PLACE

LAKE = np.zeros((6, 8), dtype=np.uint8)
LAKE[1:4, 2:6] = 1


def _read(root: Path, mask: NDArray[Any], **facts: Any) -> Scene:
    """Read one scene with a mask written by the profile of `facts`, and a card of the rest."""
    profile = {"driver": "GTiff", **facts.pop("profile", {})}
    colormap = profile.pop("colormap", None)
    image = facts.pop("image", None)
    masks = facts.pop("masks", "{split}/masks/{id}.tif")
    card = DatasetCard.model_validate(
        {
            "name": "one",
            "root": "one",
            "images": "{split}/images/{id}.tif",
            "masks": masks,
            "bands": ("GREY",),
            "classes": ("land", "lake"),
            **facts,
        }
    )
    mask = mask[None] if mask.ndim == 2 else mask
    height, width = (6, 8)
    folder = root / "one/train"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shape = {"count": 1, "height": height, "width": width, "dtype": "uint8"}
    place = {"driver": "GTiff", **(image or {})}
    with rasterio.open(folder / "images/a.tif", "w", **place, **shape) as file:
        file.write(np.full((1, height, width), 7, dtype=np.uint8))
    shape = {"count": len(mask), "height": mask.shape[1], "width": mask.shape[2]}
    path = folder / "masks" / f"a{Path(masks).suffix}"
    with rasterio.open(path, "w", dtype=mask.dtype, **shape, **profile) as file:
        if colormap:
            file.write_colormap(1, colormap)
        file.write(mask)
    data = custom_dataset(card)
    (item,) = data.index(root, "train")
    return data.read(item)


pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def _hidden(mask: NDArray[Any], value: float) -> NDArray[Any]:
    mask = mask.copy()
    mask[0] = value
    return mask


WITH_HOLE = np.where(np.arange(6)[:, None] == 0, IGNORE, LAKE)
NAN = float("nan")
BLUE = np.stack([0 * LAKE, 0 * LAKE, 255 * LAKE])
AS_THEY_COME: dict[str, tuple[NDArray[Any], dict[str, Any], NDArray[Any]]] = {
    "0/255 with values": (255 * LAKE, {"values": {0: "land", 255: "lake"}}, LAKE),
    "values of two kinds for one class": (
        LAKE + 2 * _hidden(0 * LAKE, 1),
        {"values": {0: "land", 1: "lake", 2: "lake"}},
        np.where(np.arange(6)[:, None] == 0, 1, LAKE),
    ),
    "values name what is ignored": (
        _hidden(LAKE, 7),
        {"values": {"0": "land", "1": "lake", "7": "ignore"}},
        WITH_HOLE,
    ),
    "classes from 1, 0 is unlabeled": (_hidden(LAKE + 1, 0), {"ignore": 0}, WITH_HOLE),
    "several ignored values": (
        _hidden(LAKE.astype("int32"), 65535),
        {"ignore": (-1, 65535)},
        WITH_HOLE,
    ),
    "nodata of the file, uint16": (
        _hidden(LAKE.astype("uint16"), 65535),
        {"profile": {"nodata": 65535}},
        WITH_HOLE,
    ),
    "nodata of the file, int16": (
        _hidden(LAKE.astype("int16"), -1),
        {"profile": {"nodata": -1}},
        WITH_HOLE,
    ),
    "-9999 undeclared": (_hidden(LAKE.astype("int16"), -9999), {}, WITH_HOLE),
    "NaN in floats": (_hidden(LAKE.astype("float32"), NAN), {}, WITH_HOLE),
    "floats": (LAKE.astype("float64"), {}, LAKE),
    "palette": (
        LAKE,
        {"profile": {"colormap": {0: (9, 9, 9, 255), 1: (255, 0, 0, 255)}}},
        LAKE,
    ),
    "palette by color": (
        LAKE + 3,
        {
            "profile": {"colormap": {3: (9, 9, 9, 255), 4: (255, 0, 0, 255)}},
            "values": {"#090909": "land", "#ff0000": "lake"},
        },
        LAKE,
    ),
    "colors": (BLUE, {"values": {"#000000": "land", "0,0,255": "lake"}}, LAKE),
    "gray as RGB": (np.repeat(LAKE[None], 3, axis=0), {}, LAKE),
    "transparent is no label": (
        np.stack([LAKE, _hidden(0 * LAKE + 255, 0)]),
        {"profile": {"driver": "PNG"}, "masks": "{split}/masks/{id}.png"},
        WITH_HOLE,
    ),
    "1 bit": (LAKE, {"profile": {"nbits": 1}}, LAKE),
    "1 bit, white is 0": (1 - LAKE, {"profile": {"nbits": 1, "photometric": "MINISWHITE"}}, LAKE),
}


@pytest.mark.parametrize("kind", AS_THEY_COME)
def test_masks_are_read_as_they_come(tmp_path: Path, kind: str) -> None:
    mask, facts, labels = AS_THEY_COME[kind]
    scene = _read(tmp_path, mask, **dict(facts))
    np.testing.assert_array_equal(scene.mask_HW, labels)


REFUSED: dict[str, tuple[NDArray[Any], dict[str, Any], str]] = {
    "0/255": (255 * LAKE, {}, r"0 and 255: write `values: \{0: land, 255: lake\}` in the card"),
    "from 1": (LAKE + 1, {}, r"write `values: \{1: land, 2: lake\}` in the card"),
    "0 and from 1": (_hidden(LAKE + 1, 0), {}, r"write `ignore: 0`, or `values: \{0: ignore"),
    "interpolated": (
        np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8),
        {},
        "Was it resampled with interpolation",
    ),
    "colors": (BLUE, {}, r'write|`values: \{"#000000": land, "#0000ff": lake\}`'),
    "a color too many": (
        BLUE,
        {"values": {"#000000": "land", "#ff0000": "lake"}},
        "holds the color #0000ff .12 wrong pixels",
    ),
    "white is 0, 8 bits": (LAKE, {"profile": {"photometric": "MINISWHITE"}}, "MINISBLACK"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_can_be_read_two_ways_is_refused_with_the_line_to_write(
    tmp_path: Path, kind: str
) -> None:
    mask, facts, words = REFUSED[kind]
    with pytest.raises(DataError, match=words):
        _read(tmp_path, mask, **dict(facts))


def test_nodata_that_is_a_class_is_read_as_the_class_and_reported(tmp_path: Path) -> None:
    scene = _read(tmp_path, LAKE, profile={"nodata": 0})
    np.testing.assert_array_equal(scene.mask_HW, LAKE)
    assert "nodata 0, which is class 'land'" in scene.header.notes[0]


# -- where image and mask lie

HERE = dict(PLACE)


def _moved(columns: float, rows: float = 0.0) -> dict[str, Any]:
    return {**HERE, "transform": HERE["transform"] @ Affine.translation(columns, rows)}


def test_a_shifted_mask_is_warped_to_its_image(tmp_path: Path) -> None:
    scene = _read(tmp_path, LAKE, image=HERE, profile=_moved(2, 1))
    labels = np.full((6, 8), IGNORE)
    labels[1:, 2:] = LAKE[:-1, :-2]
    np.testing.assert_array_equal(scene.mask_HW, labels)
    assert "shifted" in scene.header.notes[0]


def test_a_mask_of_half_the_pixels_is_warped(tmp_path: Path) -> None:
    coarse = {**HERE, "transform": HERE["transform"] @ Affine.scale(2, 2)}
    scene = _read(tmp_path, LAKE[::2, ::2].copy(), image=HERE, profile=coarse)
    labels = LAKE[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(scene.mask_HW, labels)


def test_a_south_up_mask_is_turned(tmp_path: Path) -> None:
    turned = {
        **HERE,
        "transform": HERE["transform"] @ Affine.translation(0, 6) @ Affine.scale(1, -1),
    }
    scene = _read(tmp_path, LAKE[::-1].copy(), image=HERE, profile=turned)
    np.testing.assert_array_equal(scene.mask_HW, LAKE)


def test_half_a_pixel_is_reported_and_not_warped(tmp_path: Path) -> None:
    scene = _read(tmp_path, LAKE, image=HERE, profile=_moved(0.5, 0.5))
    np.testing.assert_array_equal(scene.mask_HW, LAKE)
    assert "half a pixel" in scene.header.notes[0]


def test_digits_lost_in_coordinates_are_no_shift(tmp_path: Path) -> None:
    scene = _read(tmp_path, LAKE, image=HERE, profile=_moved(0.004))
    assert scene.header.notes == ()


def test_a_mask_of_other_ground_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"show different ground .*EPSG:32633.*EPSG:32634"):
        _read(tmp_path, LAKE, image=HERE, profile={**HERE, "crs": "EPSG:32634"})


def test_a_mask_without_a_place_must_have_the_size(tmp_path: Path) -> None:
    assert _read(tmp_path, LAKE, image=HERE).header.notes == ()
    with pytest.raises(DataError, match="as large as its image of 6 x 8 pixels"):
        _read(tmp_path, LAKE[:3], image=HERE)


def test_a_window_of_a_warped_mask_is_the_window_of_the_whole(tmp_path: Path) -> None:
    whole = _read(tmp_path, LAKE, image=HERE, profile=_moved(2, 1))
    card = DatasetCard(
        name="one",
        root="one",
        images="{split}/images/{id}.tif",
        masks="{split}/masks/{id}.tif",
        bands=("GREY",),
        classes=("land", "lake"),
    )
    data = custom_dataset(card)
    (item,) = data.index(tmp_path, "train")
    window = np.s_[1:5, 2:7]
    part = data.read(item, window=window)
    np.testing.assert_array_equal(part.mask_HW, whole.mask_HW[window])
