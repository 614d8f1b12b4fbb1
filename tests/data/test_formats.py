"""Every format of scenes through the door: `init` drafts a card, and the card reads the pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.transform import Affine

from cryo_hpo.config import load_card
from cryo_hpo.data.audit import inspect_scenes, summarize
from cryo_hpo.data.companions import companions
from cryo_hpo.data.custom import custom_dataset
from cryo_hpo.data.dataset import Dataset, SceneFiles
from cryo_hpo.data.fingerprint import take_fingerprint
from cryo_hpo.data.layout import recognize_layout
from cryo_hpo.data.review import review
from cryo_hpo.data.splits import parts_of
from cryo_hpo.study.draft_card import Choices, draft_card, format_lines

SIDE, SCENES = 48, 6
LOSSLESS = {"QUALITY": 100, "REVERSIBLE": "YES"}


def _write(
    path: Path, pixels_CHW: NDArray[Any], number: int, driver: str = "GTiff", **how: Any
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels_CHW.shape
    side = 10 * SIDE / width
    place = Affine(side, 0, 500_000 + 2000 * number, 0, -side, 8_700_000)
    profile = {"driver": driver, "count": count, "height": height, "width": width}
    profile |= {"dtype": pixels_CHW.dtype, "crs": "EPSG:32633", "transform": place}
    with rasterio.open(path, "w", **profile, **how) as file:
        file.write(pixels_CHW)


def _pixels(number: int, bands: int = 3) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    mask = np.zeros((1, SIDE, SIDE), dtype=np.uint8)
    mask[:, 10:30, 10:30] = 1
    noise = np.random.default_rng(number).integers(2000, 3000, (bands, SIDE, SIDE), dtype=np.uint16)
    return noise - np.uint16(900) * mask, mask


def _open(
    folder: Path, cache: Path, bands: tuple[str, ...] | None
) -> tuple[Dataset, list[SceneFiles], Any]:
    """Draft a card, and return its dataset, all scenes and their review."""
    layout = recognize_layout(folder)
    look = take_fingerprint(layout)
    choices = Choices(name="mine", classes=("land", "lake"), bands=bands, encoder=None, sensor=None)
    card = cache / "card.yaml"
    cache.mkdir()
    card.write_text(format_lines(draft_card(layout, look, choices, root=folder)))
    dataset = custom_dataset(load_card(card))
    parts = parts_of(dataset, Path("/"), cache=cache)
    found = {
        part: summarize(dataset, inspect_scenes(dataset, items)) for part, items in parts.items()
    }
    assert not [line for one in found.values() for line in one.problems]
    items = sorted(item for own in parts.values() for item in own)
    return dataset, items, review(dataset, {part: one.facts for part, one in found.items()})


def _to_vrt(folder: Path) -> None:
    """Move images elsewhere, and write a VRT for each."""
    (folder / "images").rename(folder / "source")
    (folder / "images").mkdir()
    for path in (folder / "source").iterdir():
        rasterio.shutil.copy(path, folder / f"images/{path.stem}.vrt", driver="VRT")


@pytest.mark.parametrize(
    ("suffix", "driver", "how"),
    [
        (".tif", "COG", {}),
        (".jp2", "JP2OpenJPEG", LOSSLESS),
        (".img", "ENVI", {}),
        (".dat", "ENVI", {"SUFFIX": "ADD"}),
        (".bsq", "ENVI", {}),
        (".bil", "ENVI", {"INTERLEAVE": "BIL"}),
        ("", "ENVI", {}),
        (".img", "HFA", {}),
        (".vrt", "GTiff", {}),
    ],
    ids=[
        "cog",
        "jp2",
        "envi img",
        "envi dat.hdr",
        "envi bsq",
        "envi bil",
        "envi bare",
        "erdas",
        "vrt",
    ],
)
def test_a_format_is_recognized_and_read_pixel_by_pixel(
    tmp_path: Path, suffix: str, driver: str, how: dict[str, Any]
) -> None:
    folder = tmp_path / "set"
    for number in range(SCENES):
        image, mask = _pixels(number)
        own = ".tif" if suffix == ".vrt" else suffix
        _write(folder / f"images/s{number}{own}", image, number, driver, **how)
        _write(folder / f"masks/s{number}.tif", mask, number)
    if suffix == ".vrt":
        _to_vrt(folder)
    dataset, items, reviewed = _open(folder, tmp_path / "cache", ("B4", "B3", "B2"))
    assert not reviewed.refusals
    assert len(items) == SCENES
    for number, item in enumerate(items):
        scene, (image, mask) = dataset.read(item), _pixels(number)
        assert np.array_equal(scene.image_CHW, image)
        assert np.array_equal(scene.mask_HW, mask[0])
    if driver == "ENVI":
        (header,) = companions(items[0].image)[-1:]
        assert header.suffix == ".hdr", "a changed header is a changed scene"


@pytest.mark.parametrize("masks", ["masks/s{}", "images/s{}_mask"])
def test_images_and_masks_of_envi_need_no_suffix(tmp_path: Path, masks: str) -> None:
    for number in range(SCENES):
        image, mask = _pixels(number)
        _write(tmp_path / f"set/images/s{number}", image, number, "ENVI")
        _write(tmp_path / "set" / masks.format(number), mask, number, "ENVI")
    (tmp_path / "set/notes").write_text("no header lies beside this file")
    dataset, items, _ = _open(tmp_path / "set", tmp_path / "cache", ("B4", "B3", "B2"))
    assert [item.id for item in items] == [f"s{number}" for number in range(SCENES)]
    for number, item in enumerate(items):
        assert np.array_equal(dataset.read(item).mask_HW, _pixels(number)[1][0])


def _fill_safe(root: Path, baselines: tuple[str, ...]) -> None:
    """Write products of Sentinel-2 as they are delivered, and a mask beside each."""
    for number, baseline in enumerate(baselines):
        day = f"2020070{number + 1}T150911"
        name = f"S2A_MSIL2A_{day}_N{baseline}_R025_T22WEV_{day}"
        inner = root / f"{name}.SAFE/GRANULE/L2A_T22WEV_A02625{number}/IMG_DATA"
        image, mask = _pixels(number)
        for layer, band in zip(image, ("B04", "B03", "B02"), strict=True):
            path = inner / f"R10m/T22WEV_{day}_{band}_10m.jp2"
            _write(path, layer[None], number, "JP2OpenJPEG", **LOSSLESS)
        clouds = np.full((1, SIDE // 2, SIDE // 2), 4, dtype=np.uint8)
        clouds[:, :4] = 9
        _write(inner / f"R20m/T22WEV_{day}_SCL_20m.jp2", clouds, number, "JP2OpenJPEG", **LOSSLESS)
        _write(root / f"{name}_mask.tif", mask, number)


def test_safe_folders_are_read_with_their_clouds(tmp_path: Path) -> None:
    _fill_safe(tmp_path / "set", ("0300",) * SCENES)
    dataset, items, reviewed = _open(tmp_path / "set", tmp_path / "cache", None)
    assert not reviewed.refusals
    order = [("B04", "B03", "B02").index(f"B0{band.name[1:]}") for band in dataset.bands]
    for number, item in enumerate(items):
        scene, (image, mask) = dataset.read(item), _pixels(number)
        assert np.array_equal(scene.image_CHW, image[order])
        assert (scene.mask_HW[:8] == 255).all(), "clouds of 20 m are two pixels of 10 m"
        assert np.array_equal(scene.mask_HW[8:], mask[0, 8:])


def test_products_before_and_after_the_offset_are_not_mixed(tmp_path: Path) -> None:
    _fill_safe(tmp_path / "set", ("0300",) * 3 + ("0510",) * 3)
    *_, reviewed = _open(tmp_path / "set", tmp_path / "cache", None)
    assert "offset -1000" in reviewed.refusals[0]
    assert "scale: apply" in reviewed.refusals[0]
    card = tmp_path / "cache/card.yaml"
    card.write_text(card.read_text() + "scale: apply\n")
    dataset = custom_dataset(load_card(card))
    items = sorted(dataset.index(Path("/"), "train"))
    means = [float(dataset.read(item).image_CHW.mean()) for item in items]
    raw = [float(_pixels(number)[0].mean()) for number in range(SCENES)]
    shift = [mean - own for mean, own in zip(means, raw, strict=True)]
    assert np.allclose(shift, [0] * 3 + [-1000] * 3, atol=0.01)
