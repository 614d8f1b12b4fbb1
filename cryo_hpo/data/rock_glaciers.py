"""Build the rock glaciers of Chile from their authors' crops: turned north-up, and placed."""

# C bands, H W pixels

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from ..errors import DataError
from .dataset import Remote
from .safe_open import open_file

SITE = "https://raw.githubusercontent.com/alcazar90/rock-glacier-detection"
CROPS_COMMIT = "a5d0554edbededdb43f2ebe442cba83bf08b08c1"  # later ones hold archives in their place
MASKS = Remote(
    f"{SITE}/b16cab29b7b1de92f437d73710d12fcdc9d7e968/data/train_full/masks_train.rar",
    "sha256:48670f7dced6d81fae5dee3bc43a4000fa4a1a4f910ea0dc97bfa9da2b80f39c",
    "masks_train.rar",
)
UNPACKED = "masks"  # folder beside the archive; what was unpacked there by hand is taken
# Programs that unpack RAR archives, with the words before the archive and before the folder.
UNPACKERS = (
    ("bsdtar", ("-xf",), ("-C",)),
    ("unrar", ("x", "-y", "-idq"), ()),
    ("7z", ("x", "-y"), ()),
    ("unar", ("-q", "-D"), ("-o",)),
)
CRS, PIXEL_M = "EPSG:32719", 10.0
WEST, NORTH = 427108.9084120566, 6872078.178427041  # meters, of column 0 and row 0 of the table
PARTS = {"A": "train", "C": "train", "E": "train", "D": "val", "B": "test"}  # spatial clusters


class Crop(NamedTuple):
    """Place a crop: the authors rotated and mirrored them, and kept no coordinates.

    Turn and place were found by matching each mask to the authors' outlines in degrees, in eight
    orientations at every offset (median IoU 0.98); they are good to one to three pixels.
    """

    name: str
    """Letter of the spatial cluster, and the authors' number."""
    turn: int
    """Quarter turns against the clock; from 4 on mirrored left to right after them."""
    column: int
    row: int

    @property
    def number(self) -> str:
        """The authors' number, three digits."""
        return self.name.partition("_")[2]

    @property
    def part(self) -> str:
        """The part that holds the crop's cluster."""
        return PARTS[self.name[0]]


def read_crops() -> Iterator[Crop]:
    """Yield the crops of the set: without clouds, with less than half of saturated snow."""
    with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        for name, *numbers in list(csv.reader(file))[1:]:
            yield Crop(name, *map(int, numbers))


def list_sources() -> tuple[Remote, ...]:
    """Return the files to download: the archive of masks, and each crop."""
    crops = (f"glaciar_{crop.number}.png" for crop in read_crops())
    place = f"{SITE}/{CROPS_COMMIT}/data/train_full"
    return MASKS, *(Remote(f"{place}/{name}", None, name) for name in crops)


def build_rock_glaciers(downloads: Path, root: Path) -> None:
    """Write images as GeoTIFFs and masks as PNGs, north-up.

    Raises:
        DataError: No program here unpacks the masks, or the archive is damaged.
    """
    with tempfile.TemporaryDirectory() as folder:
        masks = downloads / UNPACKED
        if not masks.is_dir():
            unpack(downloads / MASKS.name, masks := Path(folder))
        files = {path.name: path for path in masks.rglob("mask_*.png")}
        for crop in read_crops():
            image_CHW = _read(downloads / f"glaciar_{crop.number}.png")[:3]
            mask_1HW = (_read(files[f"mask_{crop.number}.png"])[:1] > 127).astype(np.uint8)
            _write(root / crop.part / "images" / f"{crop.name}.tif", turn(image_CHW, crop), crop)
            _write(root / crop.part / "masks" / f"{crop.name}.png", turn(mask_1HW, crop))


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a RAR archive with the first program that is here.

    Raises:
        DataError: There is none, or it fails.
    """
    for program, before, between in UNPACKERS:
        if shutil.which(program) is None:
            continue
        command = [program, *before, str(archive.absolute()), *between, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        if done.returncode:
            reason = re.sub(r"\s+", " ", (done.stderr or done.stdout).strip())
            raise DataError(
                f"{archive}: {program} cannot unpack it: {reason}. Delete it, and try again."
            )
        return
    names = ", ".join(program for program, *_ in UNPACKERS)
    raise DataError(
        f"{archive}: no program here unpacks RAR archives ({names}). Install one (Debian: "
        "libarchive-tools), or unpack the archive elsewhere into "
        f"{archive.with_name(UNPACKED)}/; then run the same command again."
    )


def turn(pixels_CHW: NDArray[Any], crop: Crop) -> NDArray[Any]:
    """Return a crop north-up."""
    turned = np.rot90(pixels_CHW, crop.turn % 4, axes=(1, 2))
    return turned[..., ::-1] if crop.turn >= 4 else turned


def _read(path: Path) -> NDArray[np.uint8]:
    with open_file(path) as file:
        pixels_CHW: NDArray[np.uint8] = file.read()
    return pixels_CHW


def _write(path: Path, pixels_CHW: NDArray[np.uint8], crop: Crop | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels_CHW.shape
    profile: dict[str, Any] = {"count": count, "dtype": "uint8", "height": height, "width": width}
    if crop is None:
        profile |= {"driver": "PNG"}
    else:
        west, north = WEST + PIXEL_M * crop.column, NORTH - PIXEL_M * crop.row
        place = rasterio.Affine(PIXEL_M, 0, west, 0, -PIXEL_M, north)
        profile |= {"driver": "GTiff", "crs": CRS, "transform": place, "compress": "deflate"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a PNG cannot hold a place
        with rasterio.open(path, "w", **profile) as file:
            file.write(pixels_CHW)
