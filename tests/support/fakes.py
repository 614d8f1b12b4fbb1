"""Write tiny datasets that a model can learn: the brighter the ground, the higher its class."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from cryo_hpo.config.dataset_card import DatasetCard
from cryo_hpo.data import find_dataset

Suffix = Literal[".tif", ".png"]
BANDS = {1: ("GREY",), 3: ("B4", "B3", "B2"), 4: ("B2", "B3", "B4", "B8")}
SCALE = {"uint8": 255, "uint16": 10_000, "int16": 10_000, "float32": 1.0, "float64": 1.0}
SPLITS = ("train", "val", "test")
PLACE = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 8_700_000)}


def fake_folder(
    root: Path,
    *,
    num: tuple[int, int, int] = (6, 2, 2),
    size: tuple[int, int] = (48, 64),
    bands: int = 3,
    dtype: str = "uint8",
    suffix: Suffix = ".tif",
    georeferenced: bool = True,
    seed: int = 0,
    name: str = "fake",
) -> DatasetCard:
    """Write a dataset below a data root, and return its card.

    Args:
        root: The data root; the dataset's folder in it is `name`.
        num: Scenes for training, validation and test, two of a region.
        size: Height and width, pixels.
        bands: 1, 3 or 4.
        dtype: One of `SCALE`; PNG holds uint8 and uint16.
        suffix: Suffix of the images; masks are PNG.
        georeferenced: Whether GeoTIFFs have a georeference.
        seed: Seed of the dataset.
        name: Name of the dataset.
    """
    rng = np.random.default_rng(seed)
    card = DatasetCard(
        name=name,
        root=name,
        images=f"{{split}}/images/{{id}}{suffix}",
        masks="{split}/masks/{id}.png",
        bands=BANDS[bands],
        classes=("background", "lake"),
        ignore=255,
        gsd_m=10.0,
        region=r"^(.+)_\d+$",
        license="Apache-2.0",
    )
    for split, count in zip(SPLITS, num, strict=True):
        for number in range(count):
            scene = f"{split}{number // 2}_{number % 2}"
            image_CHW, mask_HW = fake_scene(rng, size=size, bands=bands, dtype=dtype)
            image = root / name / card.images.format(split=split, id=scene)
            write(image, image_CHW, georeferenced=georeferenced and suffix == ".tif")
            write(root / name / card.masks.format(split=split, id=scene), mask_HW[None])
    return card


def fake_scene(
    rng: np.random.Generator, *, size: tuple[int, int], bands: int, dtype: str
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Return a bright disc on dark ground (C, H, W), and its mask (H, W) with an ignored column."""
    height, width = size
    rows, columns = np.indices(size)
    middle = rng.uniform(0.3, 0.7, size=2) * size
    radius = rng.uniform(0.25, 0.4) * min(size)
    disc_HW = np.hypot(rows - middle[0], columns - middle[1]) < radius
    noise_CHW = rng.uniform(0, 0.2, size=(bands, height, width))
    image_CHW = (0.2 + 0.5 * disc_HW + noise_CHW) * SCALE[dtype]
    mask_HW = disc_HW.astype(np.uint8)
    mask_HW[:, -1] = 255
    return image_CHW.astype(dtype), mask_HW


def write(
    path: Path,
    pixels_CHW: NDArray[Any],
    *,
    georeferenced: bool = False,
    place: tuple[int, int] = (0, 0),
    **profile: Any,
) -> None:
    """Write a raster, GeoTIFF or PNG by its suffix; `place` is km east and south of `PLACE`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels_CHW.shape
    shape = {"count": count, "height": height, "width": width, "dtype": pixels_CHW.dtype}
    driver = {".tif": "GTiff", ".png": "PNG"}[path.suffix]
    moved = PLACE | {
        "transform": PLACE["transform"] @ Affine.translation(place[0] * 100, place[1] * 100)
    }
    where = moved if georeferenced else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver=driver, **shape, **where, **profile) as file:
            file.write(pixels_CHW)


def fake_classes(
    rng: np.random.Generator, name: str, *, size: tuple[int, int], dtype: str
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Return an image (C, H, W) with a published dataset's statistics, and its mask (H, W).

    Every class of the dataset occurs, as rings around a point.
    """
    dataset = find_dataset(name)
    assert dataset.mean is not None
    assert dataset.std is not None
    num = len(dataset.classes)
    rows, columns = np.indices(size)
    middle = rng.uniform(0.35, 0.65, size=2) * size
    distance_HW = np.hypot(rows - middle[0], columns - middle[1]) / (0.7 * min(size))
    mask_HW = np.clip((1 - distance_HW) * num, 0, num - 1).astype(np.uint8)
    bright_HW = 2 * mask_HW / (num - 1) - 1
    noise_CHW = rng.normal(0, 0.2, size=(len(dataset.bands), *size))
    mean_C11, std_C11 = (np.reshape(v, (-1, 1, 1)) for v in (dataset.mean, dataset.std))
    image_CHW = mean_C11 + std_C11 * (bright_HW + noise_CHW)
    if dtype == "uint8":
        image_CHW = image_CHW.clip(0, 255)
    return image_CHW.astype(dtype), mask_HW


def _scenes(
    name: str, *, num: tuple[int, int, int], size: tuple[int, int], dtype: str, seed: int
) -> Iterator[tuple[str, int, NDArray[Any], NDArray[np.uint8]]]:
    rng = np.random.default_rng(seed)
    for split, count in zip(SPLITS, num, strict=True):
        for number in range(count):
            yield (split, number, *fake_classes(rng, name, size=size, dtype=dtype))


def fake_glid(root: Path, *, num: tuple[int, int, int] = (11, 3, 3), size: int = 48) -> None:
    """Write PNGs numbered alike in every split; lakes are 255, and names of masks end in `_mask`.

    Sorted, the masks are in another order than the images: 10_mask comes before 1_mask.
    """
    kinds = _scenes("glid", num=num, size=(size, size), dtype="uint8", seed=1)
    for split, number, image_CHW, mask_HW in kinds:
        write(root / "GLID" / split / "images" / f"{number}.png", image_CHW)
        coded_HW = np.where(mask_HW == 1, 255, 0).astype(np.uint8)
        write(root / "GLID" / split / "masks" / f"{number}_mask.png", coded_HW[None])


def fake_gld(root: Path, *, num: tuple[int, int, int] = (6, 3, 4), size: int = 48) -> None:
    """Write ten layers with coherence in the seventh, chips without data, and shared scenes.

    A granule occurs in every split; one mask is 16 bits with -1.
    """
    kinds = _scenes("gld", num=num, size=(size, size), dtype="float32", seed=2)
    for split, number, image_CHW, mask_HW in kinds:
        tile = ("T45RVM", "T44RPU", "T46RBT")[number % 3]
        chip = f"S2_{tile}_{split}_{number:03d}.tif"
        labels_HW = mask_HW.astype(np.int16)
        if number == 0:
            labels_HW[:2] = -1
            image_CHW[:, -3:] = -9999
        folder = root / "GLNet_Dataset" / split
        place = {"place": (SPLITS.index(split) * 40 + number, 0)}
        write(folder / "image" / chip, image_CHW, georeferenced=True, nodata=-9999, **place)
        write(folder / "mask" / chip, labels_HW[None])


def fake_sicd(
    root: Path, *, num: tuple[int, int, int] = (6, 3, 3), size: int = 64, layers: int = 2
) -> None:
    """Write two radar layers with NaN at a border, and masks with 255; three layers as Cryo-Bench
    reads them."""
    kinds = _scenes("sicd", num=num, size=(size, size), dtype="float32", seed=3)
    for split, number, image_CHW, mask_HW in kinds:
        scene = f"201{SPLITS.index(split)}010{number // 2 + 1}T101010"
        if layers == 3:
            image_CHW = np.concatenate([image_CHW, np.full_like(image_CHW[:1], 0.5)])
        image_CHW[:, :, :3] = np.nan
        mask_HW[-4:] = 255
        name = f"{scene}_dmi_{number % 2}.tif"
        write(root / "SICD" / split / "images" / name, image_CHW)
        write(root / "SICD" / split / "masks" / name, mask_HW[None])


def fake_caffe(
    root: Path,
    *,
    num: tuple[int, int, int] = (4, 2, 2),
    size: tuple[int, int] = (90, 140),
    tile: int = 64,
) -> None:
    """Write gray scenes larger than a tile, zones in the published gray values."""
    assert min(size) > tile
    gray = np.array([0, 64, 127, 254], dtype=np.uint8)
    glaciers = {"train": ("DBE", "JAC"), "val": ("DBE", "JAC"), "test": ("COL", "Mapple")}
    kinds = _scenes("caffe", num=num, size=size, dtype="uint8", seed=4)
    for split, number, image_CHW, mask_HW in kinds:
        scene = f"{glaciers[split][number % 2]}_2011-1{number}-13_TDX_7_1_{SPLITS.index(split)}92"
        write(root / "CaFFe" / "images" / split / f"{scene}.png", image_CHW)
        write(root / "CaFFe" / "labels" / split / f"{scene}_zones.png", gray[mask_HW][None])


def fake_gsdd(root: Path, *, num: tuple[int, int, int] = (6, 3, 3), size: int = 64) -> None:
    """Write ten layers of floats in 0..1, two chips of a tile in one split."""
    kinds = _scenes("gsdd", num=num, size=(size, size), dtype="float32", seed=5)
    for split, number, image_CHW, mask_HW in kinds:
        tile = f"{40 + 5 * SPLITS.index(split) + number // 2}RVM"
        folder, chip = root / "GSDD" / split, f"T{tile}_{number:02d}.tif"
        write(folder / "image" / chip, image_CHW.clip(0, 1), georeferenced=True)
        write(folder / "mask" / chip, mask_HW[None])


def fake_glb(root: Path, *, num: tuple[int, int, int] = (6, 3, 4), size: int = 48) -> None:
    """Write eleven layers in 0..1; a Sentinel-2 scene in every part, radar missing, a copy elsewhere.

    Names are `<region>_<satellite>_<tile>_<date>_<n>_L2A_<k>`; `NA` is a region. The first chip of
    training has no radar (exact 0) and pixels without a number; the last of the test part is the
    same, byte by byte, under another region.
    """
    kinds = _scenes("glb", num=num, size=(size, size), dtype="float32", seed=6)
    regions = {"train": ("CE", "NA", "AK"), "val": ("CE", "NA"), "test": ("CE", "NA", "SAW")}
    tiles = {"CE": "32TLS", "NA": "45UWR", "AK": "06VWN", "SAW": "18GXP"}
    for split, number, image_CHW, mask_HW in kinds:
        folder, region = root / "GLB" / split, regions[split][number % len(regions[split])]
        date = "20200801" if region == "CE" else f"2020080{2 + SPLITS.index(split)}"
        chip = f"{region}_S2A_{tiles[region]}_{date}_0_L2A_{SPLITS.index(split)}{number:02d}.tif"
        image_CHW = image_CHW.clip(0, 1)
        if (split, number) == ("train", 0):
            image_CHW[-2:] = 0
            image_CHW[:6, :2, :2] = np.nan
        write(folder / "images" / chip, image_CHW)
        write(folder / "masks" / chip, mask_HW[None])
    copied = sorted((root / "GLB" / "train" / "images").glob("AK_*"))[0]
    last = sorted((root / "GLB" / "test" / "images").glob("SAW_*"))[-1]
    last.write_bytes(copied.read_bytes())


def fake_shelf_bench(root: Path, *, num: tuple[int, int, int] = (6, 3, 3), size: int = 64) -> None:
    """Write 8-bit radar patches, padded with 0 at the bottom, and masks of 0 and 255.

    Names are `<scene>__<padH>_<padW>_<i>_<y>_<x>`, two patches of a scene in one part.
    """
    kinds = _scenes("shelf-bench", num=num, size=(size, size), dtype="uint8", seed=7)
    satellites = ("S1A_20190101_HH", "ERS_19950101_VV", "ENV_20060101_VV")
    for split, number, image_CHW, mask_HW in kinds:
        scene = f"{satellites[number // 2]}_{SPLITS.index(split)}{number // 2}"
        patch = f"{scene}__12_0_{number % 2}_0_{64 * (number % 2)}.png"
        image_CHW[:, -12:] = 0
        mask_HW[-12:] = 0
        folder = root / "Shelf-Bench" / split
        write(folder / "images" / patch, image_CHW)
        write(folder / "masks" / patch, (mask_HW * 255)[None].astype(np.uint8))


FAKES: dict[str, Callable[[Path], None]] = {
    "glid": fake_glid,
    "gld": fake_gld,
    "sicd": fake_sicd,
    "caffe": fake_caffe,
    "gsdd": fake_gsdd,
    "glb": fake_glb,
    "shelf-bench": fake_shelf_bench,
}
"""Dataset -> writer of a tiny one below a data root, in its real layout and with its quirks."""
