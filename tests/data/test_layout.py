from __future__ import annotations

from pathlib import Path

import pytest

from cryo_hpo.data.layout import recognize_layout
from cryo_hpo.data.layout_bands import guess_sensor
from cryo_hpo.errors import DataError


def _touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


LAYOUTS = {
    "two folders": (("images/a.tif", "masks/a.png"), "images/{id}.tif", "masks/{id}.png", False),
    "labels, upper case ending": (
        ("imgs/a.TIF", "labels/a.tif"),
        "imgs/{id}.TIF",
        "labels/{id}.tif",
        False,
    ),
    "side by side": (("a.tif", "a_mask.tif"), "{id}.tif", "{id}_mask.tif", False),
    "a word before": (("image_a.png", "mask_a.png"), "image_{id}.png", "mask_{id}.png", False),
    "words behind both": (("a_sat.jpg", "a_mask.png"), "{id}_sat.jpg", "{id}_mask.png", False),
    "endings in two folders": (
        ("images/a_image.tif", "masks/a_mask.tif"),
        "images/{id}_image.tif",
        "masks/{id}_mask.tif",
        False,
    ),
    "parts outside": (
        (
            "train/images/a.tif",
            "train/masks/a.tif",
            "val/images/b.tif",
            "val/masks/b.tif",
            "test/images/c.tif",
            "test/masks/c.tif",
        ),
        "{split}/images/{id}.tif",
        "{split}/masks/{id}.tif",
        True,
    ),
    "parts inside": (
        (
            "images/train/a.tif",
            "masks/train/a.tif",
            "images/val/b.tif",
            "masks/val/b.tif",
            "images/test/c.tif",
            "masks/test/c.tif",
        ),
        "images/{split}/{id}.tif",
        "masks/{split}/{id}.tif",
        True,
    ),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_the_usual_layouts_are_recognized(tmp_path, case):
    files, images, masks, parts = LAYOUTS[case]
    _touch(tmp_path, *files, ".hidden/a_mask.tif", "README.md")
    layout = recognize_layout(tmp_path)
    assert (layout.images, layout.masks, layout.parts) == (images, masks, parts)
    assert len(layout.pairs) == len(files) // 2
    assert layout.unused == ()


L8 = "LC08_L2SP_001_20200701_02_T1"
S2 = "S2A_MSIL2A_20220501T1_N0400_R1_T33XWJ_1"
INSIDE = f"{S2}.SAFE/GRANULE/L2A_1/IMG_DATA"
IN_BANDS = {
    "Landsat": (
        (*(f"{L8}_SR_B{n}.TIF" for n in (5, 4, 10)), f"{L8}_QA_PIXEL.TIF", f"{L8}_mask.tif"),
        ("{id}_{band}.TIF", "{id}_mask.tif"),
        {"B4": "SR_B4", "B5": "SR_B5", "B10": "SR_B10"},
        ("{id}_QA_PIXEL.TIF", "qa_pixel"),
        "landsat-8",
    ),
    "Sentinel-2": (
        (
            *(f"{INSIDE}/R10m/T33XWJ_B0{n}_10m.jp2" for n in (3, 4)),
            *(f"{INSIDE}/R20m/T33XWJ_{n}_20m.jp2" for n in ("B03", "B11", "SCL")),
            f"masks/{S2}.tif",
        ),
        ("{id}.SAFE/GRANULE/*/IMG_DATA/R*/*_{band}.jp2", "masks/{id}.tif"),
        {"B3": "B03_10m", "B4": "B04_10m", "B11": "B11_20m"},
        ("{id}.SAFE/GRANULE/*/IMG_DATA/R*/*_SCL_20m.jp2", "scl"),
        "sentinel-2",
    ),
    "radar": (
        tuple(
            f"{p}/{p[0]}_{n}.tif" for p in ("train", "val", "test") for n in ("VV", "VH", "mask")
        ),
        ("{split}/{id}_{band}.tif", "{split}/{id}_mask.tif"),
        {"VH": "VH", "VV": "VV"},
        None,
        "sentinel-1",
    ),
    "of no known sensor": (
        ("a_B4.tif", "a_B5.tif", "a_mask.tif"),
        ("{id}_{band}.tif", "{id}_mask.tif"),
        {"B4": "B4", "B5": "B5"},
        None,
        "",
    ),
}


@pytest.mark.parametrize("case", IN_BANDS)
def test_bands_in_files_of_their_own_are_one_scene(tmp_path, case):
    files, templates, bands, quality, sensor = IN_BANDS[case]
    _touch(tmp_path, *files)
    layout = recognize_layout(tmp_path)
    assert (layout.images, layout.masks) == templates
    assert dict(layout.bands) == bands
    assert layout.quality == quality
    assert layout.unused == ()
    assert all(len(files) == len(bands) for files in layout.files.values())
    assert guess_sensor([name for _, name, _, _ in layout.pairs], bands) == sensor


def test_tiles_that_look_like_bands_and_have_masks_are_tiles(tmp_path):
    _touch(tmp_path, *(f"{kind}/a_B{n}.tif" for n in range(1, 5) for kind in ("images", "masks")))
    layout = recognize_layout(tmp_path)
    assert layout.images == "images/{id}.tif"
    assert len(layout.pairs) == 4


def test_sensors_that_number_differently_are_not_mixed():
    with pytest.raises(DataError, match="Landsat 7 and Landsat 8, which number"):
        guess_sensor(["LC08_1", "LE07_1"], ["B4"])
    assert guess_sensor(["LT05_1", "LE07_1"], ["B4"]) == "landsat-7"
    assert guess_sensor(["lake_1"], ["B4", "B8A"]) == "sentinel-2"


def test_what_belongs_to_no_scene_is_counted(tmp_path):
    _touch(tmp_path, "images/a.tif", "masks/a.tif", "images/b.tif", "overview.png")
    layout = recognize_layout(tmp_path)
    assert [name for _, name, _, _ in layout.pairs] == ["a"]
    assert {path.name for path in layout.unused} == {"b.tif", "overview.png"}


REFUSED = {
    "nothing": ((), "no images here"),
    "no masks": (("images/a.tif",), "1 image (1 in 'images') and no masks"),
    "other names": (("images/a.tif", "masks/b.tif"), "no mask has the name of an image"),
    "a part is missing": (
        ("train/images/a.tif", "train/masks/a.tif", "test/images/b.tif", "test/masks/b.tif"),
        "no val",
    ),
    "a part under another name": (
        ("train/images/a.tif", "train/masks/a.tif", "valid/images/b.tif", "valid/masks/b.tif"),
        "Rename 'valid' to 'val'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_folders_are_refused_with_the_remedy(tmp_path, case):
    files, words = REFUSED[case]
    _touch(tmp_path, *files)
    with pytest.raises(DataError) as caught:
        recognize_layout(tmp_path)
    assert words in str(caught.value)


PROPOSED = {
    "words behind": (
        (
            "rgb/A_001_S2.tif",
            "rgb/A_002_S2.tif",
            "labels/A_001_outline.png",
            "labels/A_002_outline.png",
        ),
        ("rgb/{id}_S2.tif", "labels/{id}_outline.png"),
    ),
    "words before": (
        (
            "rgb/S2_A_001.tif",
            "rgb/S2_A_002.tif",
            "labels/outline-A_001.png",
            "labels/outline-A_002.png",
        ),
        ("rgb/S2_{id}.tif", "labels/outline-{id}.png"),
    ),
    "a word behind the mask only": (
        ("rgb/a1.tif", "rgb/a2.tif", "labels/a1_ice.tif", "labels/a2_ice.tif"),
        ("rgb/{id}.tif", "labels/{id}_ice.tif"),
    ),
    "parts": (
        tuple(
            f"{part}/{name}"
            for part in ("train", "val", "test")
            for name in ("x/a_S2.tif", "labels/a_ice.tif")
        ),
        ("{split}/x/{id}_S2.tif", "{split}/labels/{id}_ice.tif"),
    ),
    "names by chance": (("rgb/lake1.tif", "rgb/lake2.tif", "labels/lake_x.png"), None),
    "no names in common": (("rgb/a.tif", "labels/b.tif"), None),
}


@pytest.mark.parametrize("case", PROPOSED)
def test_names_that_do_not_pair_get_templates_for_a_card(tmp_path, case):
    files, templates = PROPOSED[case]
    _touch(tmp_path, *files)
    with pytest.raises(DataError, match="no mask has the name of an image") as error:
        recognize_layout(tmp_path)
    message = str(error.value)
    assert "'_', '-' or '.': mask, masks, label" in message
    assert "cryo-hpo data check CARD" in message
    images, masks = templates or ("rgb/{id}_S2.tif", "labels/{id}_outline.png")
    assert f'`images: "{images}"` and `masks: "{masks}"`' in message
    assert ("such as" in message) == (templates is None)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        recognize_layout(tmp_path / "nowhere")


def test_links_to_folders_are_followed_and_every_folder_is_read_once(tmp_path):
    _touch(tmp_path, "disk/pictures/a.tif", "disk/outlines/a.png", "set/masks/.hidden")
    data = tmp_path / "set"
    (data / "masks" / "2024").symlink_to(tmp_path / "disk/outlines")
    (data / "images").mkdir()
    (data / "images" / "2024").symlink_to(tmp_path / "disk/pictures")
    (data / "again").symlink_to(data / "images")
    (data / "images" / "circle").symlink_to(data)
    layout = recognize_layout(data)
    assert (layout.images, layout.masks) == ("images/2024/{id}.tif", "masks/2024/{id}.png")
    assert (len(layout.pairs), layout.unused) == (1, ())


@pytest.mark.parametrize(
    ("folder", "images", "masks", "number"),
    [
        ("rock_glaciers_s2", "{split}/images/{id}.tif", "{split}/masks/{id}.png", 449),
        ("tir_melt_ponds", "{split}/images/{id}.png", "{split}/masks/{id}.png", 21),
        ("frontlearning", "{split}/images/{id}.png", "{split}/masks/{id}.png", 133),
    ],
)
def test_real_folders(shared: Path, folder, images, masks, number):
    layout = recognize_layout(shared / "data" / folder)
    assert (layout.images, layout.masks, len(layout.pairs)) == (images, masks, number)
    assert len(layout.unused) == (133 if folder == "frontlearning" else 0)  # a second set of masks
