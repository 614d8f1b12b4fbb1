"""Open a folder of images and masks that a dataset card describes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import get_args

from ..bands import bands_of_sensor
from ..config.card_guesses import describe_guesses
from ..config.dataset_card import COLOR, IGNORED, DatasetCard
from ..config.site import expand_path
from ..errors import DataError, count_of
from .dataset import IGNORE, Dataset, SceneFiles, Split
from .file_templates import SHOWN, find_band_files, find_files, find_quality
from .mask_colors import Color
from .mask_labels import RasterSchema
from .raster import read_scene
from .region_outlines import regions_on_ground
from .regions import find_regions
from .windows import read_window

RASTERS = {".tif", ".tiff", ".png", ".jp2", ".j2k", ".jpg", ".jpeg", ".vrt", ".img", ".bmp", ".gif"}
RASTERS |= {".webp", ".asc", ".dat", ".bsq", ".bil", ".bip", ".nc", ".hdf", ".h5", ".npy", ".npz"}
PARTS: tuple[Split, ...] = get_args(Split)


def custom_dataset(card: DatasetCard, *, remedy: str = "") -> Dataset:
    """Return the dataset that a card describes.

    Args:
        card: Description of the files.
        remedy: Further remedy, besides CRYO_DATA, if the folder is missing.

    Raises:
        UnknownName: The card names a band or a sensor that is not in the tables of `bands`.
    """
    schema = schema_of(card)
    return Dataset(
        name=card.name,
        classes=card.classes,
        bands=bands_of_sensor(card.bands, card.sensor),
        mean=card.mean,
        std=card.std,
        gsd_m=card.gsd_m,
        front=card.front,
        source=card.source,
        license=card.license,
        index=partial(_index, card, remedy),
        scale=card.scale,
        unused=partial(find_unused, card),
        doubts=(describe_guesses(card),) if card.assumed else (),
        read=partial(read_window, partial(read_scene, schema)),
        rules=schema.rules,
        upstream_ignore=int(card.ignored[0]) if card.ignored else None,
        rule=card.split,
        folder=card.root,
        layout=f"{card.root}/ with {card.images} and {card.masks}",
    )


def schema_of(card: DatasetCard) -> RasterSchema:
    """Return the schema of the files of a card's dataset."""
    index = {name: number for number, name in enumerate(card.classes)} | {IGNORED: IGNORE}
    values = card.values or {}
    colors = tuple((_color(k), index[v]) for k, v in values.items() if COLOR.fullmatch(k))
    codes = [(float(k), index[v]) for k, v in values.items() if not COLOR.fullmatch(k)]
    numbered = not values and not card.first_value
    if not values and card.first_value:
        codes = [(float(number + 1), number) for number in range(len(card.classes))]
    codes += [(value, IGNORE) for value in card.ignored if value not in dict(codes)]
    nodata = card.nodata if isinstance(card.nodata, tuple) else (card.nodata,)
    return RasterSchema(
        name=card.name,
        bands=card.bands,
        classes=card.classes,
        codes=tuple(codes),
        numbered=numbered,
        colors=colors,
        nan=card.nan,
        nodata=tuple(value for value in nodata if value is not None),
        scale=card.scale,
        band_names=tuple(band.names for band in bands_of_sensor(card.bands, card.sensor)),
        by_name=card.layer_names == "use",
        resampling=card.warp.resampling if card.warp else None,
        quality=card.quality,
        palettes=card.palettes,
    )


def root_of(folder: str, data: Path) -> Path:
    """Return a dataset's folder: below the data root unless absolute; `~` and `$NAME` expanded.

    Raises:
        SpecError: A variable is not set.
    """
    return data / expand_path(folder, os.environ, named="root")


def _color(text: str) -> Color:
    if text.startswith("#"):
        return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
    red, green, blue = (int(part) for part in text.strip("()").split(","))
    return red, green, blue


def _index(card: DatasetCard, remedy: str, data: Path, split: Split) -> list[SceneFiles]:
    """List one split and pair each image with its mask.

    Raises:
        DataError: The folder is missing or empty, or images and masks do not pair.
    """
    root = root_of(card.root, data)
    if not root.is_dir():
        message = (
            f"{root}: dataset '{card.name}' must lie in this folder, which does not exist. "
            f"Set CRYO_DATA to the folder that holds '{card.root}', now '{data}'. {remedy}"
        )
        raise DataError(message.rstrip())
    part = "" if card.split else split
    bands = find_band_files(card, root, part)
    images = {name: files[0] for name, files in bands.items()}
    masks = find_files(root, card.masks, part)
    # '{id}.png' also matches the masks '{id}_mask.png': the longer template is more specific.
    wide, narrow = (images, masks) if len(card.images) < len(card.masks) else (masks, images)
    for name in {wide_id for wide_id, path in wide.items() if path in set(narrow.values())}:
        del wide[name]
    _require_pairs(root, card, split, images=set(images), masks=set(masks))
    quality = find_quality(card, root, part, set(images))
    inside = data if root.absolute().is_relative_to(data.absolute()) else root
    main = card.bands.index(card.warp.to) if card.warp else 0
    placed = {name: (bands[name][main], inside) for name in sorted(images)}
    regions = _regions(card, root, placed)
    return [
        SceneFiles(
            name,
            regions[name],
            bands[name][main],
            masks[name],
            root=inside,
            band_files=bands[name] if "{band}" in card.images else (),
            quality=quality.get(name),
        )
        for name in sorted(images)
    ]


def _regions(
    card: DatasetCard, root: Path, scenes: Mapping[str, tuple[Path, Path]]
) -> Mapping[str, str | None]:
    """Return id -> region, by the ground or by the ids; None: the card names none."""
    if card.region_outlines is None:
        return find_regions(card, list(scenes))
    return regions_on_ground(card.name, card.region_outlines, root, scenes)


def find_unused(card: DatasetCard, data: Path) -> list[str]:
    """Return a sentence for each folder with rasters beside the data that no scene uses."""
    root = root_of(card.root, data)
    sentences: list[str] = []
    if "{band}" in card.images:
        return []  # bands and quality layers that a card does not use are the rule there
    for template in dict.fromkeys((card.images, card.masks)):
        for split in ("",) if card.split else PARTS:
            used = {
                p for t in (card.images, card.masks) for p in find_files(root, t, split).values()
            }
            folders = {path.parent for path in find_files(root, template, split).values()}
            for folder in sorted(folders):
                left = [p.name for p in sorted(folder.iterdir()) if _is_left(p, used)]
                if left:
                    names = ", ".join(left[:SHOWN]) + (", ..." if len(left) > SHOWN else "")
                    sentences.append(
                        f"{folder}: not used: {count_of(len(left), 'file of pixels')} whose names do not match "
                        f"'{template}' ({names})."
                    )
    return list(dict.fromkeys(sentences))


def _is_left(path: Path, used: set[Path]) -> bool:
    return path not in used and path.suffix.lower() in RASTERS and not path.name.startswith(".")


def _require_pairs(
    root: Path, card: DatasetCard, split: Split, *, images: set[str], masks: set[str]
) -> None:
    if not images:
        pattern = card.images.format(split=split, id="*", band="*")
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
                f"{_near_miss(names, images | masks) or _complete(what, other)}"
            )


def _complete(what: str, other: str) -> str:
    return f" Copy the missing {other} there, or move the {what} out of the folder."


def _near_miss(names: set[str], choices: set[str]) -> str:
    """Return a hint if names differ only in case."""
    for name in sorted(names):
        for other in sorted(choices - {name}):
            if other.casefold() == name.casefold():
                return f" '{name}' and '{other}' differ only in upper and lower case: rename one."
    return ""
