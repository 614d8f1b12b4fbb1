"""A dataset of the user's own: a folder of images and masks, described by a card."""

# C bands, H W pixels

from __future__ import annotations

import glob
import re
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from ..bands import find_band
from ..cards import Card
from ..errors import DataError
from ..metrics import IGNORE
from .scenes import Dataset, Item, Scene, Split

SHOWN = 3  # names in a message; the rest is a number
# Read in one piece, a PNG that is cut off gives whatever is in memory, and no error.
GDAL = {"GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO"}


def dataset(card: Card, *, remedy: str = "") -> Dataset:
    """Return the dataset that a card describes.

    Args:
        card: Where the files lie and what they hold.
        remedy: What else helps, besides CRYO_DATA, if the folder is missing.

    Raises:
        UnknownName: The card names a band that is not in `bands.BANDS`.
    """
    return Dataset(
        name=card.name,
        classes=card.classes,
        bands=tuple(find_band(name) for name in card.bands),
        mean=card.mean,
        std=card.std,
        gsd_m=card.gsd_m,
        source=card.source,
        licence=card.licence,
        index=partial(_index, card, remedy),
        read=partial(_read, card),
        rules=f"ignore={card.ignore} nan={card.nan}",
    )


def _index(card: Card, remedy: str, data: Path, split: Split) -> list[Item]:
    """List one split; every image has its mask, and the other way round.

    Raises:
        DataError: The folder is missing or empty, or images and masks do not pair.
    """
    root = data / Path(card.root).expanduser()
    if not root.is_dir():
        message = (
            f"{root}: dataset '{card.name}' must lie in this folder, which does not exist. "
            f"Set CRYO_DATA to the folder that holds '{card.root}', now '{data}'. {remedy}"
        )
        raise DataError(message.rstrip())
    images, masks = (_files(root, template, split) for template in (card.images, card.masks))
    # '{id}.png' also matches the masks '{id}_mask.png': the longer template is the narrower one.
    wide, narrow = (images, masks) if len(card.images) < len(card.masks) else (masks, images)
    for name in {wide_id for wide_id, path in wide.items() if path in set(narrow.values())}:
        del wide[name]
    _require_pairs(root, card, split, images=set(images), masks=set(masks))
    return [Item(name, _region(card, name), images[name], masks[name]) for name in sorted(images)]


def _files(root: Path, template: str, split: Split) -> dict[str, Path]:
    """Return the files that match a template, by id; hidden files are not data."""
    filled = template.replace("{split}", split)
    if Path(filled).is_absolute():
        raise DataError(
            f"{root}: 'images' and 'masks' of a card are paths below its 'root', got '{template}'. "
            "Move what all files share into 'root'."
        )
    name = re.escape(filled).replace(r"\{id\}", "(?P<id>[^/]+)", 1).replace(r"\{id\}", "(?P=id)")
    found = {}
    for path in root.glob(glob.escape(filled).replace("{id}", "*")):
        match = re.fullmatch(name, path.relative_to(root).as_posix())
        if match and not path.name.startswith("."):
            found[match["id"]] = path
    return found


def _require_pairs(
    root: Path, card: Card, split: Split, *, images: set[str], masks: set[str]
) -> None:
    if not images:
        pattern = card.images.format(split=split, id="*")
        raise DataError(
            f"{root}: split '{split}' of '{card.name}' must hold at least one image, no file "
            f"matches '{pattern}'. Check 'images' in the card and the names of the folders."
        )
    for what, other, template, names in (
        ("image", "mask", card.masks, images - masks),
        ("mask", "image", card.images, masks - images),
    ):
        if names:
            first = ", ".join(f"'{name}'" for name in sorted(names)[:SHOWN])
            raise DataError(
                f"{root}: every {what} of split '{split}' must have its {other}, {len(names)} have "
                f"none (first: {first}). They are looked for as '{template}'."
            )


def _region(card: Card, name: str) -> str | None:
    if card.region is None:
        return None
    match = re.search(card.region, name)
    if match is None:
        raise DataError(
            f"The card's region '{card.region}' must match every id of '{card.name}', "
            f"not '{name}'. Widen it, or leave 'region' out."
        )
    return match[1]


def _read(card: Card, item: Item) -> Scene:
    """Decode one scene; pixels without data are 0 and ignored.

    Raises:
        DataError: A file is damaged, or holds what the card says it cannot.
    """
    image_CHW, absent_HW = _layers(
        item.image,
        number=len(card.bands),
        law=f"an image holds the card's {len(card.bands)} bands ({' '.join(card.bands)})",
        remedy="List every layer in 'bands', in the file's order.",
    )
    labels_CHW, _ = _layers(
        item.mask,
        number=1,
        law="a mask holds one layer of class numbers",
        remedy="Write class numbers, not colours.",
    )
    mask_HW = _labels(card, item.mask, labels_CHW[0])
    if image_CHW.shape[1:] != mask_HW.shape:
        (height, width), (mask_height, mask_width) = image_CHW.shape[1:], mask_HW.shape
        raise DataError(
            f"{item.mask}: a mask must be as large as its image of {height} x {width} pixels, "
            f"this one has {mask_height} x {mask_width}. Resample it to nearest neighbours."
        )
    absent_HW |= _not_finite(card, item.image, image_CHW, absent_HW)
    image_CHW[:, absent_HW] = 0
    mask_HW[absent_HW] = IGNORE
    return Scene(item.id, image_CHW, mask_HW)


def _layers(
    path: Path, *, number: int, law: str, remedy: str
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the pixels (C, H, W), and where the file says that there are none (H, W)."""
    try:
        with warnings.catch_warnings(), rasterio.Env(**GDAL):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                alpha = file.count == number + 1 and file.colorinterp[-1] == ColorInterp.alpha
                if file.count != number + alpha or np.dtype(file.dtypes[0]).kind not in "iuf":
                    raise DataError(
                        f"{path}: {law}, this file has {file.count} layers of "
                        f"{file.dtypes[0]}. {remedy}"
                    )
                pixels_CHW = file.read(list(range(1, number + 1)))
                return pixels_CHW, _absent(file, number=number, alpha=alpha)
    except RasterioError as error:
        raise DataError(
            f"{path}: a raster must be readable to its last pixel: "
            f"{str(error.__cause__ or error).rstrip('.')}. "
            "Was it copied completely?"
        ) from error


def _absent(file: Any, *, number: int, alpha: bool) -> NDArray[np.bool_]:
    """Return the pixels without data by the file's own account: nodata, mask or transparency."""
    absent_HW: NDArray[np.bool_] = np.zeros(file.shape, dtype=np.bool_)
    if alpha:
        absent_HW |= file.read(number + 1) == 0
    # Four layers of 8 bits are written as RGBA by default: then the last band is no transparency.
    if {MaskFlags.nodata, MaskFlags.per_dataset} & set(file.mask_flag_enums[0]) and (
        MaskFlags.alpha not in file.mask_flag_enums[0]
    ):
        absent_CHW = file.read_masks(list(range(1, number + 1))) == 0
        # 0 in one band is a dark pixel, even where the file calls 0 nodata; -9999 is none.
        absent_HW |= absent_CHW.all(axis=0) if file.nodata == 0 else absent_CHW.any(axis=0)
    return absent_HW


def _not_finite(
    card: Card, path: Path, image_CHW: NDArray[Any], absent_HW: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    bad_HW: NDArray[np.bool_] = ~np.isfinite(image_CHW).all(axis=0) & ~absent_HW
    if card.nan == "refuse" and bad_HW.any():
        raise DataError(
            f"{path}: pixels must be finite, {int(bad_HW.sum())} of {bad_HW.size} are NaN or "
            "infinite. Write `nan: ignore` in the card to leave them out of loss and score."
        )
    return bad_HW


def _labels(card: Card, path: Path, labels_HW: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the labels with the card's ignore value as 255."""
    ignored_HW = labels_HW == (np.nan if card.ignore is None else card.ignore)  # nan equals nothing
    legal_HW = (
        (labels_HW >= 0) & (labels_HW < len(card.classes)) & (labels_HW == np.floor(labels_HW))
    )
    wrong = labels_HW[~(legal_HW | ignored_HW)]
    if wrong.size:
        allowed = ", ".join(f"{value} ({name})" for value, name in enumerate(card.classes))
        allowed += "" if card.ignore is None else f" and {card.ignore} (ignore)"
        raise DataError(
            f"{path}: the mask holds the value {wrong[0]:g} ({wrong.size} pixels are wrong); "
            f"'{card.name}' allows {allowed}. Was it resampled with interpolation?"
        )
    mask_HW = labels_HW.astype(np.uint8)
    mask_HW[ignored_HW] = IGNORE
    return mask_HW
