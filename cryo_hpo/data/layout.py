"""Recognize the layout of images and masks in a folder, and write it as a card's path templates."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ..errors import DataError
from .companions import is_envi
from .layout_bands import SAFE, common_bands, fold_suffix, read_band_files, read_quality_files
from .region_split import PARTS

RASTERS = (".tif", ".tiff", ".png", ".jp2", ".jpg", ".jpeg", ".vrt", ".img", ".bmp")
MASK_WORDS = [
    *("mask", "masks", "label", "labels", "gt", "groundtruth", "ground_truth", "annotation"),
    *("annotations", "target", "targets", "seg", "segmentation", "zone", "zones", "truth", "y"),
]
IMAGE_WORDS = [
    *("image", "images", "img", "imgs", "scene", "scenes", "sat", "input", "inputs", "x", "rgb"),
    *("tile", "tiles"),
]
OTHER_PARTS = {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "testing": "test",
}
SEPARATORS = "-_. "  # of words in a name
MAX_FILES = 200_000
MAX_NAMED = 3  # names in a message
MAX_DEPTH = 8  # scenes of Sentinel-2 lie six folders deep


class Shape(NamedTuple):
    """Hold the common form of the paths of one kind of file: the text around the id."""

    folder: str  # with {split} for the name of a part
    prefix: str
    suffix: str  # with the file's ending

    @property
    def template(self) -> str:
        """Path as a card writes it."""
        name = f"{self.prefix}{{id}}{self.suffix}"
        if "{id}" in self.folder:  # a SAFE folder is named for its scene
            name = self.suffix
        return f"{self.folder}/{name}" if self.folder else name


class Layout(NamedTuple):
    """Hold the paths of a folder's scenes.

    Attributes:
        images: Path template of an image below the folder.
        masks: Path template of a mask.
        parts: Whether the templates hold {split}.
        pairs: (part or "", id, image, mask) of every scene.
        unused: Rasters that belong to no scene.
        bands: Band -> text of {band}, where bands lie in files of their own; else empty.
        files: (part, id) -> one file for each of `bands`.
        quality: Path template and kind of a layer of clouds beside every scene; None: there is none.
        other_images: Templates of further images that pair with as many masks, and were not chosen.
        other_masks: The same of masks.
        unpaired: Masks among `unused` that no image was found for.
        elsewhere: Templates of images in other folders that have masks too, and were not chosen.
    """

    images: str
    masks: str
    parts: bool
    pairs: tuple[tuple[str, str, Path, Path], ...]
    unused: tuple[Path, ...]
    bands: Mapping[str, str] = MappingProxyType({})
    files: Mapping[tuple[str, str], tuple[Path, ...]] = MappingProxyType({})
    quality: tuple[str, str] | None = None
    other_images: tuple[str, ...] = ()
    other_masks: tuple[str, ...] = ()
    unpaired: tuple[Path, ...] = ()
    elsewhere: tuple[str, ...] = ()


_Match = tuple[Shape, Shape, list[tuple[str, str, Path, Path]]]
"""Shapes of images and masks, and the (part, id, image, mask) that they pair."""


class Candidate(NamedTuple):
    """Hold a file, read as one of a shape."""

    shape: Shape
    part: str
    id: str
    path: Path


def recognize_layout(folder: Path) -> Layout:
    """Find the images and masks of a folder, and the templates of their paths.

    Known layouts: two folders (`images/a.tif`, `masks/a.png`), endings (`a.tif`, `a_mask.tif`),
    either of them below folders `train`, `val` and `test`, or with those below it.

    Raises:
        DataError: There are no rasters, no masks, or more than one way to pair them.
    """
    files = sorted(_list_files(folder))
    rasters = [path for path in files if path.suffix.lower() in RASTERS]
    rasters = sorted([*rasters, *(path for path in files if is_envi(path))])
    if not rasters:
        raise DataError(
            f"{folder}: no images here. Images and masks are files ending in {', '.join(RASTERS)}."
        )
    _refuse_other_part_names(folder, rasters)
    readings = {path: list(_read_path(path.relative_to(folder), path)) for path in rasters}
    masks = _group(file for path in rasters for file in readings[path] if _is_mask(file.shape))
    images = _group(file for path in rasters for file in readings[path] if not _is_mask(file.shape))
    bands = {
        Shape(place.folder, "", place.name): scenes
        for place, scenes in read_band_files(folder, rasters).items()
    }
    for shape, scenes in bands.items():
        images[shape] = {key: next(iter(files.values())) for key, files in scenes.items()}
    matches = list(_match(images, masks))
    if not matches:
        raise DataError(_explain_no_pairs(folder, rasters, masks))
    best = max(len(pairs) for _, _, pairs in matches)
    chosen = [match for match in matches if len(match[2]) == best]
    image, mask, pairs = min(chosen, key=_rank)
    used = {path for row in pairs for path in row[2:]}
    other_images, other_masks = _other_templates(pairs, chosen)
    layout = Layout(
        images=image.template,
        masks=mask.template,
        parts="{split}" in image.folder,
        pairs=tuple(sorted(pairs)),
        unused=tuple(path for path in rasters if path not in used),
        other_images=other_images,
        other_masks=other_masks,
        unpaired=_unpaired(masks, matches, used),
        elsewhere=_elsewhere(matches, used),
    )
    return _with_bands(layout, folder, bands[image]) if image in bands else layout


def _unpaired(
    masks: Mapping[Shape, Mapping[tuple[str, str], Path]],
    matches: Sequence[_Match],
    used: set[Path],
) -> tuple[Path, ...]:
    """Return the masks that no image was found for."""
    paired = {row[3] for *_, pairs in matches for row in pairs} | used
    return tuple(sorted({p for files in masks.values() for p in files.values()} - paired))


def _elsewhere(matches: Sequence[_Match], used: set[Path]) -> tuple[str, ...]:
    """Return the templates of images that pair with masks, none of both in the chosen scenes."""
    others = (i for i, _, rows in matches if not used & {p for row in rows for p in row[2:]})
    return tuple(dict.fromkeys(image.template for image in others))


def _other_templates(
    pairs: Sequence[tuple[str, str, Path, Path]], matches: Sequence[_Match]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the templates of images and of masks that pair as well as the chosen ones."""
    images, masks = {row[2] for row in pairs}, {row[3] for row in pairs}
    other_images = (i.template for i, _, rows in matches if not images & {row[2] for row in rows})
    other_masks = (m.template for _, m, rows in matches if not masks & {row[3] for row in rows})
    return tuple(dict.fromkeys(other_images)), tuple(dict.fromkeys(other_masks))


def _with_bands(
    layout: Layout, folder: Path, scenes: Mapping[tuple[str, str], Mapping[str, Path]]
) -> Layout:
    """Add the files of bands that all scenes have, and a layer of clouds if all have one.

    Raises:
        DataError: No band is common to all scenes.
    """
    keys = [row[:2] for row in layout.pairs]
    bands = common_bands([scenes[key] for key in keys])
    if not bands:
        raise DataError(
            f"{folder}: bands lie in files of their own ('{layout.images}'), and no band is there for "
            "all scenes. Keep scenes of one sensor in the folder."
        )
    files = {key: tuple(scenes[key][token] for token in bands.values()) for key in keys}
    quality = read_quality_files(folder, layout.unused)
    whole = sorted(kind for kind, having in quality.items() if set(keys) <= having)
    first = dict(zip(keys, (row[2:] for row in layout.pairs), strict=True))
    return layout._replace(
        bands=bands,
        files=files,
        pairs=tuple((*key, files[key][0], first[key][1]) for key in keys),
        unused=tuple(
            path for path in layout.unused if not _belongs(path, folder, {name for _, name in keys})
        ),
        quality=whole[0] if whole else None,
    )


def _belongs(path: Path, folder: Path, ids: set[str]) -> bool:
    """Return whether a raster is another band or layer of one of the scenes."""
    inner = path.relative_to(folder)
    folders = {Path(n).stem if n.upper().endswith(SAFE) else n for n in inner.parts[:-1]}
    if folders & ids:
        return True
    return any(inner.stem.startswith((f"{name}_", f"{name}-", f"{name}.")) for name in ids)


def _list_files(folder: Path) -> Iterator[Path]:
    """Yield files that are not hidden, a few folders deep, also below links to folders."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Give the folder that holds your images.")
    number, entered = 0, set[Path]()
    for place, folders, names in os.walk(folder, followlinks=True):
        inner = Path(place).relative_to(folder).parts
        links_last = sorted(_visible(folders), key=lambda name: Path(place, name).is_symlink())
        folders[:] = links_last if len(inner) + 1 < MAX_DEPTH else []
        # What several paths lead to is read once, and a link in a circle ends.
        if (real := Path(place).resolve()) in entered:
            folders.clear()
            continue
        entered.add(real)
        number += len(names)
        if number > MAX_FILES:
            raise DataError(
                f"{folder}: more than {MAX_FILES:,} files. Give the folder of the dataset itself."
            )
        yield from (path for name in _visible(names) if (path := Path(place, name)).is_file())


def _visible(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not name.startswith((".", "_")))


def _refuse_other_part_names(folder: Path, rasters: Sequence[Path]) -> None:
    named = {part for path in rasters for part in path.relative_to(folder).parts[:-1]}
    standard = named & set(PARTS)
    meant = OTHER_PARTS | {part: part for part in PARTS}
    others = {name: meant[name.lower()] for name in named - standard if name.lower() in meant}
    if others and len(standard | set(others.values())) > 1:
        renames = ", ".join(f"'{old}' to '{new}'" for old, new in sorted(others.items()))
        raise DataError(
            f"{folder}: parts of a split lie in folders named {', '.join(PARTS)}. Rename {renames}."
        )
    missing = [part for part in PARTS if part not in standard]
    if standard and missing:
        raise DataError(
            f"{folder}: found the parts {', '.join(sorted(standard))} and no "
            f"{' and no '.join(missing)}. A study needs all three: one to learn from, one to choose "
            "by, one to prove on. Move scenes of places of their own there, or put all scenes "
            "together for an automatic division."
        )


def _read_path(inner: Path, path: Path) -> Iterator[Candidate]:
    """Yield the readings of a path: the whole stem as the id, or without a word before or after."""
    folders = list(inner.parent.parts)
    parts = [name for name in folders if name in PARTS]
    place = "/".join("{split}" if name in PARTS else name for name in folders)
    part = parts[0] if len(parts) == 1 else ""
    yield Candidate(Shape(place, "", path.suffix), part, path.stem, path)
    words = "|".join(map(re.escape, [*MASK_WORDS, *IMAGE_WORDS]))
    if after := re.fullmatch(rf"(.+?)([-_. ]({words}))", path.stem, re.IGNORECASE):
        yield Candidate(Shape(place, "", after[2] + path.suffix), part, after[1], path)
    named = after[1] if after else path.stem
    if folders and folders[-1] == named and named not in PARTS:
        # The same, named like its folder: a/a.tif, a/a_mask.tif.
        above = "/".join([*place.split("/")[:-1], "{id}"])
        suffix = f"{{id}}{after[2] if after else ''}{path.suffix}"
        yield Candidate(Shape(above, "", suffix), part, named, path)
    if len(parts) < len(folders) and path.stem.lower() in (*MASK_WORDS, *IMAGE_WORDS):
        # A folder for each scene: a/image.tif, a/mask.tif.
        above = "/".join([*place.split("/")[:-1], "{id}"])
        yield Candidate(Shape(above, "", path.name), part, folders[-1], path)
    if before := re.fullmatch(rf"(({words})[-_. ])(.+)", path.stem, re.IGNORECASE):
        yield Candidate(Shape(place, before[1], path.suffix), part, before[3], path)


def _is_mask(shape: Shape) -> bool:
    names = [name.lower() for name in shape.folder.split("/")]
    around = re.split(r"[-_. ]", f"{shape.prefix}{shape.suffix}".lower())
    return any(word in MASK_WORDS for word in (*names, *around))


def _group(candidates: Iterable[Candidate]) -> dict[Shape, dict[tuple[str, str], Path]]:
    """Return the files of each shape; suffixes that differ in case are one, as for a card."""
    groups: dict[Shape, dict[tuple[str, str], Path]] = defaultdict(dict)
    spelled: dict[Shape, Counter[Shape]] = defaultdict(Counter)
    for file in candidates:
        shape = file.shape._replace(suffix=fold_suffix(file.shape.suffix))
        groups[shape].setdefault((file.part, file.id), file.path)
        spelled[shape][file.shape] += 1
    return {spelled[shape].most_common(1)[0][0]: files for shape, files in groups.items()}


def _match(
    images: Mapping[Shape, Mapping[tuple[str, str], Path]],
    masks: Mapping[Shape, Mapping[tuple[str, str], Path]],
) -> Iterator[_Match]:
    """Yield pairs of shapes whose files share ids."""
    for image, image_files in images.items():
        for mask, mask_files in masks.items():
            both = image_files.keys() & mask_files.keys()
            if both and ("{split}" in image.folder) == ("{split}" in mask.folder):
                rows = [(*key, image_files[key], mask_files[key]) for key in both]
                yield image, mask, rows


def _rank(match: _Match) -> tuple[bool, bool, int]:
    """Return what orders matches of equally many pairs: images that are named so come first."""
    image, mask, _ = match
    words = re.split(r"[-_. /]", f"{image.folder}/{image.prefix}{image.suffix}".lower())
    named = bool(set(words) & set(IMAGE_WORDS))
    return "{id}" in mask.folder, not named, len(image.template) + len(mask.template)


def _explain_no_pairs(
    folder: Path, rasters: Sequence[Path], masks: Mapping[Shape, Mapping[tuple[str, str], Path]]
) -> str:
    kinds = Counter(str(path.parent.relative_to(folder)) for path in rasters)
    seen = ", ".join(f"{count} in '{place}'" for place, count in kinds.most_common(MAX_NAMED))
    if not masks:
        return (
            f"{folder}: {len(rasters)} image{'s' * (len(rasters) != 1)} ({seen}) and no masks. Masks lie in a folder named "
            "'masks' or 'labels', or are named like their image with '_mask' behind. For outlines "
            "in a vector file, write masks first: cryo-hpo data rasterize OUTLINES IMAGE --out FOLDER."
        )
    labels = sorted({path for files in masks.values() for path in files.values()})
    images = sorted(set(rasters) - set(labels))
    proposed = _propose_templates(folder, images, labels)
    image, mask = proposed or ("rgb/{id}_S2.tif", "labels/{id}_outline.png")
    return (
        f"{folder}: no mask has the name of an image ({seen}; first mask: "
        f"'{labels[0].relative_to(folder)}'). Give a mask its image's name, but for one of these "
        f"words behind '_', '-' or '.': {', '.join(MASK_WORDS)} (an image: {', '.join(IMAGE_WORDS)}). "
        f"Or leave the names and write a card (docs/datasets.md) with their paths"
        f'{"" if proposed else ", such as"} `images: "{image}"` and `masks: "{mask}"`, then: '
        "cryo-hpo data check CARD."
    )


def _propose_templates(
    folder: Path, images: Sequence[Path], masks: Sequence[Path]
) -> tuple[str, str] | None:
    """Return path templates of images and masks by what the first two names share, if most pair.

    The id is what the names of the first image and the first mask have in common, at their
    beginning or their end.
    """
    if not images or not masks:
        return None
    image, mask = images[0].stem, masks[0].stem
    start = _common_start(image, mask)
    end = _common_start(image[::-1], mask[::-1])[::-1]
    for shared, is_start in ((start, True), (end, False)):
        shapes = [
            _shape_around(folder, path, shared, is_start=is_start) for path in (images[0], masks[0])
        ]
        ids = [
            {key for path in paths if (key := _key_of(shape, folder, path)) is not None}
            for shape, paths in zip(shapes, (images, masks), strict=True)
        ]
        if shared and 2 * len(ids[0] & ids[1]) > len(masks):
            return shapes[0].template, shapes[1].template
    return None


def _common_start(first: str, second: str) -> str:
    """Return the words that two names begin with, without the separator behind them."""
    equal = takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    shared = "".join(letter for letter, _ in equal)
    whole = all(
        len(name) == len(shared) or name[len(shared)] in SEPARATORS for name in (first, second)
    )
    return shared if whole else re.sub(r"[^-_. ]*$", "", shared).rstrip(SEPARATORS)


def _shape_around(folder: Path, path: Path, shared: str, *, is_start: bool) -> Shape:
    whole = next(_read_path(path.relative_to(folder), path)).shape
    if is_start:
        return whole._replace(suffix=path.name.removeprefix(shared))
    return whole._replace(prefix=path.stem.removesuffix(shared))


def _key_of(shape: Shape, folder: Path, path: Path) -> tuple[str, str] | None:
    """Return part and id of a file of a shape; None: it has another shape."""
    read = next(_read_path(path.relative_to(folder), path))
    name, (_, before, after) = path.name, shape
    fits = name.startswith(before) and name.endswith(after) and len(name) > len(before + after)
    if read.shape.folder != shape.folder or not fits:
        return None
    return read.part, name[len(before) : len(name) - len(after)]
