"""What is odd about one published dataset."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryo_hpo.data import find_dataset
from cryo_hpo.data.builtin.tree import pairs
from cryo_hpo.data.dataset import IGNORE
from cryo_hpo.errors import BandMismatch, DataError
from cryo_hpo.models import ENCODERS, plan_bands

from ..support.fakes import (
    fake_caffe,
    fake_glb,
    fake_gld,
    fake_glid,
    fake_shelf_bench,
    fake_sicd,
    write,
)


def test_glid_pairs_by_name_where_sorting_would_not(tmp_path: Path) -> None:
    fake_glid(tmp_path)
    items = find_dataset("glid").index(tmp_path, "train")
    sorted_masks = sorted((tmp_path / "GLID" / "train" / "masks").iterdir())
    assert [item.mask.name for item in items] != [mask.name for mask in sorted_masks]
    for item in items:
        assert item.mask.stem == f"{item.image.stem}_mask"
        scene = find_dataset("glid").read(item)
        bright = scene.image_CHW.mean(axis=0)
        assert bright[scene.mask_HW == 1].mean() > bright[scene.mask_HW == 0].mean() + 50


def test_glid_pairs_by_order_where_names_say_nothing(tmp_path: Path) -> None:
    fake_glid(tmp_path)
    for number, mask in enumerate(sorted((tmp_path / "GLID" / "val" / "masks").iterdir())):
        mask.rename(mask.with_name(f"annotated {'abc'[number]}.png"))
    pairs_by_order = [
        (i.image.stem, i.mask.stem) for i in find_dataset("glid").index(tmp_path, "val")
    ]
    assert pairs_by_order == [("0", "annotated a"), ("1", "annotated b"), ("2", "annotated c")]


def test_images_without_masks_are_named(tmp_path: Path) -> None:
    fake_glid(tmp_path)
    (tmp_path / "GLID" / "val" / "masks" / "1_mask.png").unlink()
    with pytest.raises(DataError, match=r"3 images and 2 masks \(first: '1\.png'\)"):
        find_dataset("glid").index(tmp_path, "val")


@given(numbers=st.lists(st.integers(0, 2000), min_size=1, max_size=30, unique=True))
@pytest.mark.parametrize("pattern", ["{}_mask", "mask_{}", "{}-Label", "{}_zones", "{}"])
def test_names_that_agree_pair_whatever_their_order(pattern: str, numbers: list[int]) -> None:
    images = sorted(Path(f"{n}.tif") for n in numbers)
    masks = sorted(Path(f"{pattern.format(n)}.png") for n in numbers)
    for image, mask in pairs(images, masks):
        assert mask.stem == pattern.format(image.stem)


def test_pairs_of_nothing_are_none() -> None:
    assert pairs([], []) == []


def test_glid_lakes_are_1_or_255_and_minus_1_is_ignored(tmp_path: Path) -> None:
    fake_glid(tmp_path)
    item = find_dataset("glid").index(tmp_path, "train")[0]
    before_HW = find_dataset("glid").read(item).mask_HW
    assert set(np.unique(before_HW)) == {0, 1}
    coded_HW = np.where(before_HW == 1, 1, 0).astype(np.int16)
    coded_HW[0] = -1
    tif = item.mask.with_suffix(".tif")
    write(tif, coded_HW[None])
    after_HW = find_dataset("glid").read(item._replace(mask=tif)).mask_HW
    assert (after_HW[0] == IGNORE).all()
    np.testing.assert_array_equal(after_HW[1:], before_HW[1:])


def test_gld_layers_keep_the_order_of_the_file(tmp_path: Path) -> None:
    fake_gld(tmp_path)
    gld = find_dataset("gld")
    scene = gld.read(gld.index(tmp_path, "train")[1])
    names = [band.name for band in gld.bands]
    assert names[6] == "COH"
    assert gld.upstream_bands is not None
    assert gld.upstream_bands[6].name == "VV"
    assert gld.mean is not None
    np.testing.assert_allclose(scene.image_CHW.mean(axis=(1, 2)), gld.mean, rtol=0.9)
    assert scene.image_CHW[names.index("DEM")].mean() > 3000


def test_gld_pixels_without_data_are_ignored(tmp_path: Path) -> None:
    fake_gld(tmp_path)
    first = next(i for i in find_dataset("gld").index(tmp_path, "train") if i.id.endswith("_000"))
    scene = find_dataset("gld").read(first)
    assert (scene.mask_HW[-3:] == IGNORE).all()
    assert (scene.image_CHW[:, -3:] == 0).all()
    assert (scene.mask_HW[:2] == IGNORE).all()  # -1 in the mask


def test_gld_shares_granules_between_its_splits(tmp_path: Path) -> None:
    fake_gld(tmp_path)
    train, test = (
        {i.region for i in find_dataset("gld").index(tmp_path, s)} for s in ("train", "test")
    )
    assert train & test


def test_sicd_nan_and_255_are_ignored(tmp_path: Path) -> None:
    fake_sicd(tmp_path)
    scene = find_dataset("sicd").read(find_dataset("sicd").index(tmp_path, "train")[0])
    assert (scene.mask_HW[:, :3] == IGNORE).all()
    assert (scene.mask_HW[-4:] == IGNORE).all()
    assert (scene.image_CHW[:, :, :3] == 0).all()
    assert set(np.unique(scene.mask_HW)) == {*range(6), IGNORE}


def test_sicd_third_layer_of_the_optical_copy_is_left_out(tmp_path: Path) -> None:
    fake_sicd(tmp_path / "two")
    fake_sicd(tmp_path / "three", layers=3)
    sicd = find_dataset("sicd")
    two, three = (sicd.read(sicd.index(tmp_path / n, "val")[0]) for n in ("two", "three"))
    np.testing.assert_array_equal(two.image_CHW, three.image_CHW)


def test_glb_has_the_glacier_region_of_every_chip(tmp_path: Path) -> None:
    fake_glb(tmp_path)
    regions = {item.region for item in find_dataset("glb").index(tmp_path, "train")}
    assert regions == {"CE", "NA", "AK"}, "NA is a region, not a missing one"


@pytest.mark.parametrize("folder", ["GLB/GLB", "GLB/Glacial_Lake_Bench"])
def test_glb_is_read_in_the_layout_of_the_record_and_of_the_hub(
    tmp_path: Path, folder: str
) -> None:
    fake_glb(tmp_path / "plain")
    for split in ("train", "val", "test"):
        there = tmp_path / "plain" / "GLB" / split
        names = ("images", "masks") if folder == "GLB/GLB" else ("img_dir", "ann_dir")
        for old, new in zip(("images", "masks"), names, strict=True):
            inner = f"{split}/{new}" if folder == "GLB/GLB" else f"{new}/{split}"
            shutil.copytree(there / old, tmp_path / "other" / folder / inner)
    plain, other = (
        [(i.id, i.region) for i in find_dataset("glb").index(tmp_path / name, "test")]
        for name in ("plain", "other")
    )
    assert plain == other


def test_glb_pixels_without_a_number_are_ignored(tmp_path: Path) -> None:
    fake_glb(tmp_path)
    glb = find_dataset("glb")
    first = next(item for item in glb.index(tmp_path, "train") if item.id.endswith("_000"))
    scene = glb.read(first)
    assert (scene.mask_HW[:2, :2] == IGNORE).all()
    assert (scene.image_CHW[-2:] == 0).all(), "radar that is missing is an exact 0"


def test_shelf_bench_pairs_patches_of_a_scene_and_knows_the_scene(tmp_path: Path) -> None:
    fake_shelf_bench(tmp_path)
    dataset = find_dataset("shelf-bench")
    items = dataset.index(tmp_path, "train")
    assert {item.region for item in items} == {
        f"{name}_0{n}"
        for n, name in enumerate(("S1A_20190101_HH", "ERS_19950101_VV", "ENV_20060101_VV"))
    }
    scene = dataset.read(items[0])
    assert scene.image_CHW.dtype == np.uint8
    assert set(np.unique(scene.mask_HW)) == {0, 1}


def test_caffe_scenes_are_larger_than_a_tile_and_zones_are_classes(tmp_path: Path) -> None:
    fake_caffe(tmp_path, size=(90, 140), tile=64)
    caffe = find_dataset("caffe")
    items = caffe.index(tmp_path, "train")
    assert {item.region for item in items} == {"DBE", "JAC"}
    scene = caffe.read(items[0])
    assert scene.image_CHW.dtype == np.uint8
    assert scene.mask_HW.shape == (90, 140)
    assert set(np.unique(scene.mask_HW)) == {0, 1, 2, 3}


@pytest.mark.parametrize("name", ["gld", "gsdd"])
@pytest.mark.parametrize("encoder", [name for name, card in ENCODERS.items() if card.bands])
def test_no_encoder_takes_an_ancillary_layer_for_reflectance(encoder: str, name: str) -> None:
    try:
        plan = plan_bands(ENCODERS[encoder], find_dataset(name).bands, missing="zero")
    except BandMismatch:  # an encoder that needs radar sees none of these
        assert "sar" in {band.sensor for band in ENCODERS[encoder].bands or ()}
        return
    for slot in plan.slots:
        seen = plan.fill(slot)
        assert seen in (slot.band.name, "zero"), f"{seen} goes in as {slot.band.name}"


@pytest.mark.parametrize("folder", ["GLD", "gld", "GLNet_Dataset"])
def test_folders_may_have_the_names_that_users_have(tmp_path: Path, folder: str) -> None:
    fake_gld(tmp_path)
    (tmp_path / "GLNet_Dataset").rename(tmp_path / folder)
    assert len(find_dataset("gld").index(tmp_path, "train")) == 6
