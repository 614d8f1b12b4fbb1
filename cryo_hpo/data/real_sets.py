"""Build the real sets of the shipped cards from their public sources, pixel for pixel."""

# H W pixels

from __future__ import annotations

import hashlib
import re
import tarfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from ..errors import DataError, FetchError, count_of
from ..storage.fetch import fetch
from .dataset import IGNORE, Remote
from .download import KEPT, PAUSE_S, Progress
from .rock_glaciers import build_rock_glaciers, list_sources
from .safe_open import open_file

MELT_PONDS = "https://raw.githubusercontent.com/marlens123/tir_melt_pond_segmentation"
MELT_PONDS_COMMIT = "a7c3725915201d7e87550da84b9a80bd051ae8af"
FRONTS = "https://codeload.github.com/yaramohajerani/FrontLearning/tar.gz"
FRONTS_COMMIT = "70f0e4c2991ff5ba585e20fbc6aa9e7b82ca312c"
# WRS-2 path and row of a Landsat scene -> glacier
GLACIERS = {
    "jakobshavn": ("008011", "009011", "010011"),
    "sverdrup": ("020007", "021006", "021007", "022006", "023006", "024006"),
    "kangerlussuaq": ("229012", "230012", "231012"),
    "helheim": ("231014", "233013"),
}
MAX_NAMED = 8  # files in a message
PARTS = {"jakobshavn": "train", "sverdrup": "train", "kangerlussuaq": "val", "helheim": "test"}
BAND_PX = 30  # labeled on either side of a front
EDGE = 0.1  # of a front's width, at each end, without labels
TALLEST_PX = 10  # of the front in a column; where it is steeper, above and below mean little


class RealSet(NamedTuple):
    """Describe a public set, and how it is brought into the layout that its card names."""

    root: str
    """Folder below the data root, as in the card."""
    page: str
    files: tuple[Remote, ...]
    build: Callable[[Path, Path], None]
    """(folder of the downloads, folder of the set) -> writes images and masks."""
    pixels: str
    """sha256 of all pixels of the built set; see `hash_pixels`."""
    layout: str
    """What the folder holds in the end."""


def get_real_set(real_set: RealSet, data: Path) -> Iterator[Progress]:
    """Download the sources of a set and build it below the data root; yield the progress.

    Raises:
        FetchError: A source cannot be reached, or its checksum differs.
        DataError: The set cannot be built here, or the sources hold other pixels than they did.
    """
    root = data / real_set.root
    for file in real_set.files:
        try:
            for state in fetch(
                file.url, root / KEPT / file.name, checksum=file.checksum or "", pause_s=PAUSE_S
            ):
                yield Progress(file.name, state.done, state.total)
        except FetchError as error:
            raise FetchError(f"{error}\n{describe_by_hand(real_set, root)}") from error
    try:
        real_set.build(root / KEPT, root)
    except (OSError, KeyError, ValueError, tarfile.TarError) as error:
        raise DataError(
            f"{root / KEPT}: cannot build the set from its sources: {error}. Delete this folder, and "
            "run the same command again."
        ) from error
    if hash_pixels(root) != real_set.pixels:
        raise DataError(
            f"{root}: the built set holds other pixels than the one that README's results are of. "
            f"Have the files of {real_set.page} changed? Compare results with care."
        )


def describe_by_hand(real_set: RealSet, root: Path, *, at_most: int = MAX_NAMED) -> str:
    """Return which files to put where, for a machine without a network; the first `at_most` by name."""
    command = f"cryo-hpo data get {next(name for name, s in REAL_SETS.items() if s.root == real_set.root)}"
    lines = [f"By hand, from {real_set.page}:"]
    named = real_set.files[:at_most]
    lines += [
        f"  {' '.join(filter(None, (file.url, file.checksum)))}\n    as {root / KEPT / file.name}"
        for file in named
    ]
    if more := len(real_set.files) - len(named):
        last = real_set.files[-1].name
        lines.append(
            f"  and {count_of(more, 'more file')}, up to {last}: `{command} --list` has them all"
        )
    lines.append(f"Then `{command}`, without --list, builds the set from these files.")
    lines.append(f"The layout to arrive at: {root}/ with {real_set.layout}.")
    return "\n".join(lines)


def hash_pixels(root: Path) -> str:
    """Return the sha256 of names, sizes and pixels of a set's images and masks."""
    digest = hashlib.sha256()
    files = [path for end in ("png", "tif") for path in root.glob(f"*/*/*.{end}")]
    for path in sorted(path for path in files if KEPT not in path.parts):
        with open_file(path) as file:
            pixels = file.read()
        name = path.relative_to(root).as_posix()
        digest.update(f"{name} {pixels.shape} {pixels.dtype} ".encode())
        digest.update(pixels.tobytes())
    return digest.hexdigest()


def _build_melt_ponds(downloads: Path, root: Path) -> None:
    """Write the frames of four arrays; frames of the same ground are in one part."""
    for of in ("train", "test"):
        images = np.load(downloads / f"{of}_images.npy", allow_pickle=False)
        masks = np.load(downloads / f"{of}_masks.npy", allow_pickle=False)
        for number, (image_HW, mask_HW) in enumerate(zip(images, masks, strict=True)):
            part = of
            if of == "test":
                part = "val" if number in (0, 4, 7, 8) else "test"
            elif number == 2:  # it shows the same ground as the test part's number 2
                part = "test"
            _write(root / part / "images" / f"{of}{number:02}.png", image_HW)
            _write(root / part / "masks" / f"{of}{number:02}.png", mask_HW)


def _build_fronts(downloads: Path, root: Path) -> None:
    """Write Landsat crops, and zones beside the authors' lines of one pixel."""
    with tarfile.open(downloads / "FrontLearning.tar.gz") as archive:
        members = {member.name.partition("/")[2]: member for member in archive.getmembers()}
        for name in sorted(members):
            match = re.fullmatch(r"(.*/data/(?:train|test))/images/(.+)_Subset\.png", name)
            if match is None:
                continue
            line = f"{match[1]}/labels_1px/{match[2]}_Front.png"
            scene = re.search(r"_(\d{6})_", match[2])
            glacier = next(g for g, places in GLACIERS.items() if scene and scene[1] in places)
            part = PARTS[glacier]
            image_HW, front_HW = (_pixels(archive, members[key]) for key in (name, line))
            _write(root / part / "images" / f"{glacier}_{match[2]}.png", image_HW)
            _write(
                root / part / "masks_zones" / f"{glacier}_{match[2]}.png", zones_of(front_HW < 128)
            )


def _pixels(archive: tarfile.TarFile, member: tarfile.TarInfo) -> NDArray[np.uint8]:
    content = archive.extractfile(member)
    if content is None:
        raise ValueError(f"{member.name} is no file")
    with warnings.catch_warnings(), MemoryFile(content.read()) as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(driver="PNG") as file:
            pixels_HW: NDArray[np.uint8] = file.read(1)
    return pixels_HW


def zones_of(front_HW: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the ocean (0, above) and the glacier (1, below) beside a front, 255 elsewhere, (H, W).

    Only `BAND_PX` pixels on either side are labeled, beyond one pixel next to the line; not where
    the front is steeper than `TALLEST_PX`, nor at its ends. Ice flows upwards in these scenes.

    Args:
        front_HW: True on the line of the front.
    """
    zones_HW = np.full(front_HW.shape, IGNORE, dtype=np.uint8)
    columns = np.flatnonzero(front_HW.any(axis=0))
    if not columns.size:
        return zones_HW
    trim = int(EDGE * (columns[-1] - columns[0]))
    for column in columns:
        rows = np.flatnonzero(front_HW[:, column])
        top, bottom = int(rows[0]), int(rows[-1])
        inside = columns[0] + trim <= column <= columns[-1] - trim
        if inside and bottom - top <= TALLEST_PX:
            zones_HW[max(0, top - 1 - BAND_PX) : max(0, top - 1), column] = 0
            zones_HW[bottom + 2 : bottom + 2 + BAND_PX, column] = 1
    return zones_HW


def _write(path: Path, pixels_HW: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pixels_HW.shape
    profile = {"driver": "PNG", "count": 1, "dtype": "uint8", "height": height, "width": width}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile) as file:
            file.write(pixels_HW.astype(np.uint8), 1)


def _melt_pond(name: str, digest: str) -> Remote:
    url = f"{MELT_PONDS}/{MELT_PONDS_COMMIT}/data/training/{name}.npy"
    return Remote(url, f"sha256:{digest}", f"{name}.npy")


REAL_SETS = {
    "melt-ponds": RealSet(
        root="tir_melt_ponds",
        page="https://github.com/marlens123/tir_melt_pond_segmentation",
        files=(
            _melt_pond(
                "train_images", "17a89f068402343094cf188b84b3e930747a7c599a280677bd6352ec98c47c8e"
            ),
            _melt_pond(
                "train_masks", "027601696f922fd33995d96a4d0f03a12544cf0c7e14f5340ecb209b2f3a4c98"
            ),
            _melt_pond(
                "test_images", "7bfb36c11adeed58d1d2f99fb1c4ce941b5827bd12dd352371c8881c0d0a973b"
            ),
            _melt_pond(
                "test_masks", "bfe4a5db794f02ec2ce8d033b54bfcb116c97172e19f7fb213d4de5e5f964b61"
            ),
        ),
        build=_build_melt_ponds,
        pixels="e1271ba847f3fdf56c60720f876ee81001df8d9c8bc82421706f73ea7a848ddd",
        layout="{train,val,test}/{images,masks}/*.png, 21 frames of 480 x 480 pixels",
    ),
    "calving-fronts": RealSet(
        root="frontlearning",
        page="https://github.com/yaramohajerani/FrontLearning",
        files=(Remote(f"{FRONTS}/{FRONTS_COMMIT}", None, "FrontLearning.tar.gz"),),
        build=_build_fronts,
        pixels="c9a2b9a8508060ac80c75004bd781aa50010a065b2b19cb1b56370888c8558a8",
        layout="{train,val,test}/{images,masks_zones}/*.png, 133 crops of 200 x 300 pixels",
    ),
    "rock-glaciers": RealSet(
        root="rock_glaciers_s2",
        page="https://github.com/alcazar90/rock-glacier-detection",
        files=list_sources(),
        build=build_rock_glaciers,
        pixels="353d9f9c47a41fc382c50c5486feab121481dfbb965a8323d4ebc59e085643ba",
        layout="{train,val,test}/{images/*.tif,masks/*.png}, 449 crops of 128 x 128 pixels",
    ),
}
