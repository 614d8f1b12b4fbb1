from __future__ import annotations

from pathlib import Path

import pytest

from cryo_hpo.data.layout import recognize_layout
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


def test_what_belongs_to_no_scene_is_counted(tmp_path):
    _touch(tmp_path, "images/a.tif", "masks/a.tif", "images/b.tif", "overview.png")
    layout = recognize_layout(tmp_path)
    assert [name for _, name, _, _ in layout.pairs] == ["a"]
    assert {path.name for path in layout.unused} == {"b.tif", "overview.png"}


REFUSED = {
    "nothing": ((), "no images here"),
    "no masks": (("images/a.tif",), "1 images (1 in 'images') and no masks"),
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


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        recognize_layout(tmp_path / "nowhere")


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
