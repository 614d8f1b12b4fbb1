"""Tiny datasets on disk that a model can learn: bright ground is class 1, over noise."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from cryo_hpo.cards import Card

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
) -> Card:
    """Write a dataset below a data root, and return its card.

    Args:
        root: The data root; the folder below it is called `name`.
        num: Scenes for training, validation and test, two of a region.
        size: Height and width, pixels.
        bands: 1, 3 or 4.
        dtype: One of `SCALE`; PNG holds uint8 and uint16.
        suffix: Of the images; masks are PNG.
        georeferenced: Whether GeoTIFFs say where they lie.
        seed: Another one is another dataset.
        name: Of the dataset.
    """
    rng = np.random.default_rng(seed)
    card = Card(
        name=name,
        root=name,
        images=f"{{split}}/images/{{id}}{suffix}",
        masks="{split}/masks/{id}.png",
        bands=BANDS[bands],
        classes=("background", "lake"),
        ignore=255,
        gsd_m=10.0,
        region=r"^(.+)_\d+$",
        licence="Apache-2.0",
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
    path: Path, pixels_CHW: NDArray[Any], *, georeferenced: bool = False, **profile: Any
) -> None:
    """Write a raster, GeoTIFF or PNG by its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels_CHW.shape
    shape = {"count": count, "height": height, "width": width, "dtype": pixels_CHW.dtype}
    driver = {".tif": "GTiff", ".png": "PNG"}[path.suffix]
    place = PLACE if georeferenced else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver=driver, **shape, **place, **profile) as file:
            file.write(pixels_CHW)
