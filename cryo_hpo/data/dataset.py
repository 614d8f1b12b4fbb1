"""Define a dataset, the files of its scenes, and a decoded scene."""

# C bands, H W pixels

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..bands import Band
from ..config.split_rule import SplitRule

Split = Literal["train", "val", "test"]
IGNORE = 255  # mask value of pixels left out of loss and score


def _none_unused(_: Path) -> list[str]:
    return []


class SceneFiles(NamedTuple):
    """Locate the files of a scene."""

    id: str
    """Unique within a dataset."""
    region: str | None
    """Scenes of one region belong to one split; None: regions are unknown."""
    image: Path
    """Of bands in files of their own, the one whose grid all get."""
    mask: Path
    window: tuple[slice, slice] | None = None
    """Rows and columns of a block of a larger scene; None: all."""
    root: Path | None = None
    """Folder that VRTs must not leave; None: the VRT's own."""
    band_files: tuple[Path, ...] = ()
    """One file for each band; empty: `image` holds all."""
    quality: Path | None = None
    """Layer of clouds and missing pixels; None: there is none."""

    @property
    def image_files(self) -> tuple[Path, ...]:
        """All files that decide the image's pixels, and which of them count."""
        return (*(self.band_files or (self.image,)), *((self.quality,) if self.quality else ()))


class SceneHeader(NamedTuple):
    """Hold the metadata that the files of a scene declare."""

    dtype: str
    scales: tuple[float, ...] = ()
    """Physical value of a stored number is number * scale + offset, band by band."""
    offsets: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    """Descriptions of the layers; empty where there are none."""
    gsd_m: float | None = None
    """Side of a square with the area of a pixel on the ground, meters; None where it is unknown."""
    notes: tuple[str, ...] = ()
    """Warnings, a sentence each."""
    palette: tuple[tuple[int, str], ...] = ()
    """Color that the mask's palette gives to each class number of the mask."""
    pixel_m: tuple[float, float] | None = None
    """Width and height of a pixel on the ground, meters; None where they are unknown."""


class Scene(NamedTuple):
    """Hold one image and its labels, decoded."""

    id: str
    image_CHW: NDArray[Any]
    """In the file's own data type; finite everywhere."""
    mask_HW: NDArray[np.uint8]
    """0..K-1, or 255 where the pixel is left out of loss and score."""
    header: SceneHeader
    absent_HW: NDArray[np.bool_]
    """True where the image has no data; labels are 255 there."""


class Remote(NamedTuple):
    """Describe a file of a public record."""

    url: str
    checksum: str | None
    """"md5:..." or "sha256:..." as the record's publisher states it; None: none is known."""
    name: str
    part_of: str = ""
    """Name of the archive that files like this one are parts of; "": none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Hold the facts of a dataset, and the two functions that open it.

    Attributes:
        name: Name in studies and reports.
        classes: Class names; the index is the mask value.
        bands: Band names in the order of an image's layers.
        mean: Mean per band, in the file's units; None: computed on the training split.
        std: Standard deviation per band; None: computed on the training split.
        gsd_m: Side of a pixel on the ground, meters; None where unknown.
        gsd_in_name: Regular expression whose group is the side of a pixel in a scene's name, meters;
            "": none.
        front: The two classes whose common edge is the front that people measure; None: none.
        source: DOI or address, and citation.
        license: License of the pixels and the labels.
        index: (data root, split) -> files of its scenes in the order of their ids; reads no pixels.
        read: SceneFiles -> scene; with `window`, two slices of pixels, only that part of it.
        rules: Everything else that decides the outcome of `read`, as text; part of the cache's key.
        upstream_bands: The layers as Cryo-Bench declares them, in the same order; None: as `bands`.
            They differ where upstream gives a layer a wrong name.
        upstream_statistics: Mean and standard deviation that Cryo-Bench uses for every band, in the
            file's units; None: those of `mean` and `std`.
        upstream_ignore: Mask value that Cryo-Bench ignores; None: none.
        centered: Whether the first revision of Cryo-Bench used only the center of each image.
        size_px: Side of an image in Cryo-Bench's configuration; None where there is none.
        num_scenes: Published number of scenes in all parts; None: none is published.
        class_shares: Published share of each class; None where none are published.
        split_seed: Seed of the split by region that replaces the official one; None: not replaced.
        rule: How scenes without official parts are divided; then `index` lists all of them,
            whatever the part. None: `index` lists the scenes of a part.
        shared: Known overlap between the parts of the official split; "": none.
        acquisition: Regular expression whose group is the satellite scene in an image's name, for
            datasets whose region is larger; "": none.
        page: Web page about the data, with downloads by hand.
        downloads: Files of the public record.
        collected: Files of the copy that Cryo-Bench collected; empty: none is public.
        folder: Name of the folder below the data root.
        layout: Folder and its content, for messages.
        scale: How the reader treats scale and offset tags; None: they are ignored and must agree.
        unused: Data root -> sentences on files beside the data that no scene uses.
        doubts: Sentences on what its description assumes; warnings of every review.
        notes: Caveats to read before trusting a score.
    """

    name: str
    classes: tuple[str, ...]
    bands: tuple[Band, ...]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    gsd_m: float | None
    source: str
    license: str
    index: Callable[[Path, Split], Sequence[SceneFiles]]
    read: Callable[..., Scene]
    rules: str = ""
    gsd_in_name: str = ""
    front: tuple[str, str] | None = None
    upstream_bands: tuple[Band, ...] | None = None
    upstream_statistics: tuple[float, float] | None = None
    upstream_ignore: int | None = None
    centered: bool = False
    size_px: int | None = None
    num_scenes: int | None = None
    class_shares: tuple[float, ...] | None = None
    split_seed: int | None = None
    rule: SplitRule | None = None
    shared: str = ""
    acquisition: str = ""
    page: str = ""
    downloads: tuple[Remote, ...] = ()
    collected: tuple[Remote, ...] = ()
    folder: str = ""
    layout: str = ""
    notes: str = ""
    scale: str | None = None
    unused: Callable[[Path], list[str]] = _none_unused
    doubts: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """What is dealt out to the parts: scenes, or blocks of ground that are cut from them."""
        return "block" if self.rule is not None and self.rule.by == "place" else "scene"

    @property
    def split_name(self) -> str:
        """Name of the split in use, for reports."""
        if self.rule is not None:
            folds = self.rule.folds
            fold = "" if folds is None else f", fold {self.rule.fold} of {folds} (from 0)"
            return f"by {self.rule.by}{fold}, seed {self.rule.seed}"
        return "official" if self.split_seed is None else f"region, seed {self.split_seed}"
