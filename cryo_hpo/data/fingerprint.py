"""Fingerprint the scenes of a folder: sizes, bands, values, classes, objects and positions."""

# C bands, H W pixels

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rasterio.windows import Window

from ..errors import DataError
from .layout import Layout
from .mask_colors import color_of, hex_color, palette_of
from .mask_labels import holds_colors
from .places import Places, find_places
from .safe_open import open_file
from .scene_look import SceneLook, add_bands, center_of, look_at, require_few

MAX_SCENES = 200  # opened; evenly spaced if there are more, which the report states
MAX_NAMED = 20  # scenes in a message


class Carrier(NamedTuple):
    """Hold the mask with most pixels of a value, their number, and the number of such masks."""

    mask: Path
    pixels: int
    masks: int

    def __str__(self) -> str:
        number = "1 pixel" if self.pixels == 1 else f"{self.pixels:,} pixels"
        others = "" if self.masks == 1 else f", the most of {self.masks} masks"
        return f"{number} in '{self.mask}'{others}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Hold the common properties of a folder's scenes.

    Attributes:
        scenes: Number of scenes.
        looked_at: Number of scenes that were opened.
        sizes: (height, width) of the smallest and the largest scene, by area, pixels.
        pixels: Pixels of all scenes, estimated from the opened ones.
        bands: Number of layers of every image, transparency included.
        alpha: Whether the last layer is declared as transparency, which GDAL does by default to any
            fourth layer of 8 bits.
        names: Descriptions of the layers, if equal in every image; else empty.
        dtypes: Data types of the images.
        low, high: 1st and 99th percentile over all bands and scenes.
        nodata: Declared values of pixels without data.
        crs: Names of coordinate reference systems; "" for an image without one.
        gsd_m: Median side of a square with the area of a pixel, meters; None if unknown.
        pixel_m: Median width and height of a pixel, meters; None if unknown.
        values: Mask value -> share of the pixels.
        object_px: Median diameter of a connected patch of a rare class, pixels; None if there is none.
        places: Places that the scenes show, by their files and ids.
        unnumbered: Share of pixels that are NaN or infinite in a band, where no file declares that.
        colors: Whether mask values are colors, as numbers (`mask_colors.number_of`).
        finest: Band with the smallest pixels, where bands lie in files on different grids; else "".
        carriers: Mask value -> the mask with most pixels of it.
    """

    scenes: int
    looked_at: int
    sizes: tuple[tuple[int, int], tuple[int, int]]
    pixels: int
    bands: int
    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    low: float
    high: float
    nodata: tuple[float, ...]
    crs: tuple[str, ...]
    gsd_m: float | None
    values: dict[float, float]
    object_px: float | None
    places: Places
    colors: bool = False
    unnumbered: float = 0.0
    finest: str = ""
    carriers: dict[float, Carrier] = field(default_factory=dict)
    alpha: bool = False
    pixel_m: tuple[float, float] | None = None
    together: frozenset[tuple[float, float]] = frozenset()
    """Pairs of values that one mask holds, the smaller first."""

    def is_together(self, first: float, second: float) -> bool:
        """Return whether a mask that was opened holds both values."""
        return (first, second) in self.together

    @property
    def unlabeled(self) -> float:
        """Share of the mask's pixels that are 255 where that means no label, not a class."""
        if self.colors:
            return 0.0
        share = self.values.get(255.0, 0.0)
        return share if len(self.values) > 2 else 0.0

    def name_of(self, value: float) -> str:
        """Return a mask value as a card writes it: a number, or a color such as #0000ff."""
        return hex_color(color_of(int(value))) if self.colors else f"{value:g}"

    @property
    def smallest_side(self) -> int:
        """Shorter side of the smallest scene, pixels."""
        return min(self.sizes[0])


def take_fingerprint(layout: Layout) -> Fingerprint:
    """Open the scenes of a layout, or an evenly spaced subset of many, and summarize them.

    Raises:
        DataError: A file cannot be read, images have different numbers of layers, or a mask holds
            more values than a mask of classes can have.
    """
    rows = _choose(layout)
    colors = _hold_colors([mask for *_, mask in rows])
    looks = list(_look_at_all(layout, rows, colors=colors))
    bands = {look.bands: row[2] for row, look in zip(rows, looks, strict=True)}
    if len(bands) > 1:
        words = ", ".join(f"{layers} in {path}" for layers, path in sorted(bands.items()))
        raise DataError(
            f"The images have different numbers of layers: {words}. Keep images of one sensor "
            "in the folder."
        )
    looks = _with_labels(looks)
    values: Counter[float] = sum((look.values for look in looks), Counter())
    require_few(layout.masks, len(values))
    total = sum(values.values())
    sizes = sorted((look.size for look in looks), key=lambda size: size[0] * size[1])
    area = float(np.mean([h * w for h, w in sizes]))
    names = {look.names for look in looks}
    diameters = [d for look in looks for d in look.diameters]
    ids = [name for _, name, _, _ in layout.pairs]
    resolutions = [look.gsd_m for look in looks if look.gsd_m]
    pixels = [look.pixel_m for look in looks if look.pixel_m]
    return Fingerprint(
        scenes=len(layout.pairs),
        looked_at=len(looks),
        sizes=(sizes[0], sizes[-1]),
        pixels=int(area * len(layout.pairs)),
        bands=looks[0].bands,
        names=names.pop() if len(names) == 1 else (),
        dtypes=tuple(sorted({look.dtype for look in looks})),
        low=float(np.min([look.percentiles[0] for look in looks])),
        high=float(np.max([look.percentiles[1] for look in looks])),
        nodata=tuple(sorted({_same_nan(look.nodata) for look in looks if look.nodata is not None})),
        unnumbered=float(np.mean([look.unnumbered for look in looks])),
        crs=tuple(sorted({look.crs for look in looks})),
        gsd_m=float(np.median(resolutions)) if resolutions else None,
        values={value: count / total for value, count in sorted(values.items())},
        object_px=float(np.median(diameters)) if diameters else None,
        places=find_places(ids, [row[2] for row in rows], [look.size for look in looks]),
        colors=colors,
        finest=_finest(layout, looks),
        carriers={value: _find_carrier(looks, value) for value in values},
        alpha=all(look.alpha for look in looks),
        pixel_m=_median_pair(pixels) if pixels else None,
        together=frozenset(p for look in looks for p in combinations(sorted(look.values), 2)),
    )


def _with_labels(looks: Sequence[SceneLook]) -> list[SceneLook]:
    """Return the looks with the values that masks declare as nodata, where these are classes.

    That is 0, the background of many masks, and any value without which fewer than two are left.
    """
    few = len(set().union(*(look.values for look in looks))) < 2
    return [
        replace(
            look,
            values=look.values + Counter({v: n for v, n in look.fill.items() if few or v == 0}),
        )
        for look in looks
    ]


def _median_pair(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    first, second = np.median(np.array(pairs), axis=0).tolist()
    return first, second


def _same_nan(value: float) -> float:
    """Return a value, NaN always as the same object, which a set holds once."""
    return math.nan if math.isnan(value) else value


def _find_carrier(looks: Sequence[SceneLook], value: float) -> Carrier:
    having = [look for look in looks if value in look.values]
    most = max(having, key=lambda look: look.values[value])
    return Carrier(most.mask, most.values[value], len(having))


def _finest(layout: Layout, looks: Sequence[SceneLook]) -> str:
    numbers = [look.finest for look in looks if look.finest is not None]
    return list(layout.bands)[Counter(numbers).most_common(1)[0][0]] if numbers else ""


def _choose(layout: Layout) -> list[tuple[str, str, Path, Path]]:
    """Return all pairs of a layout, or an evenly spaced subset of many."""
    number = min(len(layout.pairs), MAX_SCENES)
    chosen = np.linspace(0, len(layout.pairs) - 1, number).round().astype(int)
    return [layout.pairs[i] for i in dict.fromkeys(chosen.tolist())]


def _look_at_all(
    layout: Layout, rows: Sequence[tuple[str, str, Path, Path]], *, colors: bool
) -> Iterator[SceneLook]:
    """Yield a look at each scene.

    Raises:
        DataError: Scenes cannot be used; all of them are looked at before.
    """
    errors = []
    for part, name, image, mask in rows:
        try:
            look = look_at(image, mask, colors=colors)
            files = layout.files.get((part, name))
            yield look if files is None else add_bands(look, files, tuple(layout.bands))
        except DataError as error:
            errors.append(str(error))
    if errors:
        more = len(errors) - MAX_NAMED
        raise DataError(
            "\n".join([*errors[:MAX_NAMED], *([f"{more} more scenes."] if more > 0 else [])])
        )


def _hold_colors(masks: Sequence[Path]) -> bool:
    """Return whether masks hold colors in three layers; others hold numbers, with or without a palette.

    Raises:
        DataError: Palettes give one number different colors: number or color may be the class.
    """
    shown: dict[int, tuple[str, Path]] = {}
    for mask in masks:
        try:
            with open_file(mask) as file:
                window = Window.from_slices(*center_of(file.height, file.width))
                if file.count > 2 and holds_colors(mask, file, window):
                    return True
                palette = palette_of(file) if file.count == 1 else {}
                used = np.unique(file.read(1, window=window)).tolist() if palette else []
        except DataError:
            continue  # it is named with all others when it is looked at
        for number in set(used) & set(palette):
            color = hex_color(palette[number][:3])
            first, where = shown.setdefault(number, (color, mask))
            if first != color:
                raise DataError(
                    f"Palettes of the masks differ: {number} is {first} in '{where}' and {color} in "
                    f"'{mask}', so that a class may be the number or the color. Write colors in three "
                    "layers (gdal_translate -expand rgb), or class numbers with one palette; or write "
                    "a card (docs/datasets.md) with `values` of colors, or with `palettes: ignore`."
                )
    return False
