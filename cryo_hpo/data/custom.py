"""Open a folder of images and masks that a dataset card describes."""

from __future__ import annotations

import glob
import re
from functools import partial
from pathlib import Path

from ..bands import find_band
from ..config.dataset_card import DatasetCard
from ..errors import DataError
from .dataset import IGNORE, Dataset, SceneFiles, Split
from .raster import RasterSchema, read
from .windows import read_window

SHOWN = 3  # names in a message; the rest is a number


def custom_dataset(card: DatasetCard, *, remedy: str = "") -> Dataset:
    """Return the dataset that a card describes.

    Args:
        card: Where the files lie and what they hold.
        remedy: What else helps, besides CRYO_DATA, if the folder is missing.

    Raises:
        UnknownName: The card names a band that is not in `bands.BANDS`.
    """
    legend = RasterSchema(
        name=card.name,
        bands=card.bands,
        classes=card.classes,
        codes=() if card.ignore is None else ((card.ignore, IGNORE),),
        nan=card.nan,
    )
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
        read=partial(read_window, partial(read, legend)),
        rule=card.split,
        rules=legend.rules,
        upstream_ignore=card.ignore,
        folder=card.root,
        layout=f"{card.root}/ with {card.images} and {card.masks}",
    )


def _index(card: DatasetCard, remedy: str, data: Path, split: Split) -> list[SceneFiles]:
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
    part = "" if card.split else split
    images, masks = (_files(root, template, part) for template in (card.images, card.masks))
    # '{id}.png' also matches the masks '{id}_mask.png': the longer template is the narrower one.
    wide, narrow = (images, masks) if len(card.images) < len(card.masks) else (masks, images)
    for name in {wide_id for wide_id, path in wide.items() if path in set(narrow.values())}:
        del wide[name]
    _require_pairs(root, card, split, images=set(images), masks=set(masks))
    return [
        SceneFiles(name, _region(card, name), images[name], masks[name]) for name in sorted(images)
    ]


def _files(root: Path, template: str, split: str) -> dict[str, Path]:
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
    root: Path, card: DatasetCard, split: Split, *, images: set[str], masks: set[str]
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


def _region(card: DatasetCard, name: str) -> str | None:
    if card.region is None:
        return None
    match = re.search(card.region, name)
    if match is None:
        raise DataError(
            f"The card's region '{card.region}' must match every id of '{card.name}', "
            f"not '{name}'. Widen it, or leave 'region' out."
        )
    return match[1]
