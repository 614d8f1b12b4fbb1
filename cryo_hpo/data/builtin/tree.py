"""List the images and masks of a published dataset on disk, and pair them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError
from ..dataset import SceneFiles, Split

SHOWN = 3  # names in a message; the others are counted
SUFFIXES = (".tif", ".tiff", ".png")
# Words in the names of masks besides the name of their image.
WORDS = {"mask", "masks", "label", "labels", "gt", "zone", "zones", "image", "images", "img"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Describe where the files of a published dataset lie, as Cryo-Bench expects them.

    Attributes:
        roots: Names of the folder below the data root, in any case; messages give the first.
        images: Folder of a split's images below the root; holds {split}.
        masks: Folder of a split's masks below the root; holds {split}.
        suffixes: Suffixes of the files.
        record: The two folders as the public record has them; None: as `images` and `masks`.
        region: Regular expression whose group is the region or scene in a file's name, if any.
    """

    roots: tuple[str, ...]
    images: str
    masks: str
    suffixes: tuple[str, ...] = SUFFIXES
    record: tuple[str, str] | None = None
    region: str | None = None

    @property
    def words(self) -> str:
        """Layout as text."""
        ends = " or ".join(self.suffixes)
        return f"{self.roots[0]}/ with {self.images}/* and {self.masks}/* ({ends}), {{split}} being train, val or test"


def index(tree: Tree, name: str, data: Path, split: Split) -> list[SceneFiles]:
    """List one split of a published dataset.

    Raises:
        DataError: The folder is missing or empty, or images and masks do not pair.
    """
    root = _root(tree, name, data)
    folders = (tree.images, tree.masks)
    if tree.record and (root / tree.record[0].format(split=split)).is_dir():
        folders = tree.record
    images, masks = (_files(root / folder.format(split=split), tree.suffixes) for folder in folders)
    if not images:
        raise DataError(
            f"{root}: split '{split}' of '{name}' must hold at least one image, there is none in "
            f"'{tree.images.format(split=split)}'. The layout is {tree.words}."
        )
    items = [
        SceneFiles(f"{split}-{image.stem}", _region(tree, image), image, mask, root=data)
        for image, mask in pairs(images, masks)
    ]
    return sorted(items)


def pairs(images: Sequence[Path], masks: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Pair images and masks: by name if names agree but for words like 'mask', else by order.

    Cryo-Bench pairs sorted lists, and '10_mask' sorts before '1_mask' while '10' comes after '1',
    so names decide where they match.

    Raises:
        DataError: The numbers of images and masks differ.
    """
    if len(images) != len(masks):
        unpaired = images or masks
        raise DataError(
            f"{unpaired[0].parent}: every image must have its mask, there are {len(images)} images and "
            f"{len(masks)} masks{_unpaired(images, masks)}. Add or remove files until they pair."
        )
    by_key = {key(mask): mask for mask in masks}
    keys = [key(image) for image in images]
    if set(keys) == set(by_key) and len(set(keys)) == len(images):
        return [(image, by_key[k]) for image, k in zip(images, keys, strict=True)]
    return list(zip(images, masks, strict=True))


def key(path: Path) -> str:
    """Return the common key of an image and its mask: the stem without words like 'mask'."""
    # macOS writes names decomposed (NFD), others composed: both give one key.
    words = re.split(r"[\s_.-]+", unicodedata.normalize("NFC", path.stem).lower())
    return "_".join(word for word in words if word not in WORDS)


def _unpaired(images: Sequence[Path], masks: Sequence[Path]) -> str:
    """Name the first files without a partner, if names show them."""
    images_by, masks_by = ({key(path): path.name for path in paths} for paths in (images, masks))
    odd = [images_by.get(k) or masks_by[k] for k in sorted(set(images_by) ^ set(masks_by))]
    return f" (first: {', '.join(map(repr, odd[:SHOWN]))})" if odd else ""


def _root(tree: Tree, name: str, data: Path) -> Path:
    """Find the dataset's folder below the data root, whatever its case."""
    wanted = [root.lower() for root in tree.roots]
    folders = {path.name.lower(): path for path in sorted(data.glob("*")) if path.is_dir()}
    for root in wanted:
        if root in folders:
            return _unpacked(folders[root], wanted)
    raise DataError(
        f"{data / tree.roots[0]}: dataset '{name}' must lie in this folder, which does not exist. "
        f"Set CRYO_DATA to the folder that holds '{tree.roots[0]}', now '{data}'. "
        f"The layout is {tree.words}; `cryo-hpo data get {name}` says where it comes from."
    )


def _unpacked(root: Path, names: Sequence[str]) -> Path:
    """Return the folder that an archive made inside the dataset's own, or else the latter."""
    inner = [
        path for path in sorted(root.glob("*")) if path.is_dir() and path.name.lower() in names
    ]
    return inner[0] if inner else root


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files of a folder in the order of their names, without hidden ones."""
    return sorted(
        path
        for path in folder.glob("*")
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )


def _region(tree: Tree, image: Path) -> str | None:
    match = re.search(tree.region, image.stem) if tree.region else None
    return match[1] if match else None
