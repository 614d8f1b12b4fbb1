"""Decode masks of any form: class numbers, 0/255, palettes, 1 bit, colors, floats, "no label"."""

# C layers, H W pixels

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from ..config.band_files import QualityLayer
from ..errors import DataError, count_of
from .dataset import IGNORE
from .mask_colors import Color, as_numbers, hex_color, in_colors, palette_of
from .nodata import declared_nodata, equals

NO_LABEL = (-9999.0,)  # never a class number: means "no label" even where no file declares it
MAX_LISTED = 12  # distinct values in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterSchema:
    """Describe the legal content of a dataset's files.

    Attributes:
        name: Name of the dataset.
        bands: Names of an image's layers.
        classes: Class names; the index is the mask value.
        codes: (mask value, class or `IGNORE`) of every other legal mask value.
        numbered: Whether 0 to K-1 are legal mask values beside those of `codes`.
        colors: (red, green and blue, class or `IGNORE`) of color masks.
        nan: How to treat pixels that are NaN: refuse the file, or ignore those pixels.
        spare: Whether layers after those of `bands` are skipped instead of refused.
        nodata: Values of pixels without data, in addition to those that files declare: one for each
            band, or one for all.
        scale: How to treat scale and offset tags: apply them, or read the stored numbers.
        band_names: All names of each band; empty: those of `bands` alone.
        by_name: Whether layers that files name as bands are used by their names.
        resampling: Interpolation of bands on other grids; None: such bands are refused.
        quality: Content of quality layers that is left out; None: there are none.
        palettes: Whether palettes must give a class number one color, or are ignored.
    """

    name: str
    bands: tuple[str, ...]
    classes: tuple[str, ...]
    codes: tuple[tuple[float, int], ...] = ()
    numbered: bool = True
    colors: tuple[tuple[Color, int], ...] = ()
    nan: Literal["refuse", "ignore"] = "refuse"
    spare: bool = False
    nodata: tuple[float, ...] = ()
    scale: Literal["apply", "ignore"] | None = None
    band_names: tuple[tuple[str, ...], ...] = ()
    by_name: bool = False
    resampling: str | None = None
    quality: QualityLayer | None = None
    palettes: Literal["agree", "ignore"] = "agree"

    @property
    def rules(self) -> str:
        """All rules but names that affect how a file is read, as text."""
        return (
            f"codes={self.codes} numbered={self.numbered} colors={self.colors} nan={self.nan} "
            f"spare={self.spare} nodata={self.nodata} scale={self.scale} by_name={self.by_name} "
            f"resampling={self.resampling} quality={self.quality}"
            f"{' palettes=ignore' if self.palettes == 'ignore' else ''}"
        )

    @property
    def allowed(self) -> str:
        """Legal mask values and their meaning, for a message."""
        named = [f"{value} ({name})" for value, name in enumerate(self.classes)]
        meant = [f"{value:g} ({self.meaning(to)})" for value, to in self.codes]
        if self.colors:
            return ", ".join(f"{hex_color(c)} ({self.meaning(to)})" for c, to in self.colors)
        if not self.numbered:
            return ", ".join(meant)
        return ", ".join(named) + "".join(f" and {code}" for code in meant)

    def meaning(self, code: int) -> str:
        """Return the name of a class, or "ignore"."""
        return "ignore" if code == IGNORE else self.classes[code]

    def code_of(self, value: float) -> int | None:
        """Return the class of a mask value, or `IGNORE`; None: it is not legal."""
        for coded, meant in self.codes:
            if coded == value:
                return meant
        whole = self.numbered and not self.colors and value == math.floor(value)
        return int(value) if whole and 0 <= value < len(self.classes) else None


def read_labels(
    schema: RasterSchema, path: Path, file: Any, window: Window | None
) -> tuple[NDArray[np.uint8], list[str]]:
    """Decode a mask's labels on its own grid; 255 is ignored.

    Args:
        schema: Meaning of the values.
        path: Path for messages.
        file: The open mask.
        window: Part of the mask; None: all of it.

    Returns:
        Labels (H, W), and warnings, a sentence each.

    Raises:
        DataError: The mask holds a value or color that is not in the schema.
    """
    layers_CHW, unseen_HW = _read_layers(path, file, window)
    if schema.colors:
        unseen_HW |= _undeclared_index(schema, file, layers_CHW)
        colors_CHW = in_colors(path, file, layers_CHW, unseen_HW)
        return _by_color(schema, path, colors_CHW, unseen_HW), []
    layers_CHW = _as_gray(schema.classes, path, layers_CHW)
    values_HW, notes = _as_stored(path, file, layers_CHW[0]), _describe_tags(file)
    nodata = declared_nodata(file, 1)
    if nodata is not None and not math.isnan(nodata):
        meant = schema.code_of(nodata)
        if meant is None:
            unseen_HW |= equals(values_HW, nodata)
        elif meant != IGNORE and equals(values_HW, nodata).any():
            notes.append(
                f"the mask declares nodata {nodata:g}, which is class '{schema.meaning(meant)}': "
                f"read as the class; `values: {{{nodata:g}: ignore, ...}}` leaves it out"
            )
    return decode(schema, path, values_HW, unseen_HW), notes


def read_palette(
    schema: RasterSchema, file: Any, window: Window | None
) -> tuple[tuple[int, str], ...]:
    """Return (number, color) of the class numbers that a mask holds and its palette paints.

    Empty where colors are the classes, the mask has no palette, or palettes are to be ignored.
    """
    if schema.colors or schema.palettes == "ignore" or file.count != 1:
        return ()
    palette = palette_of(file)
    held = np.unique(file.read(1, window=window)).tolist() if palette else []
    numbers = [n for n in held if n in palette and schema.code_of(n) not in (None, IGNORE)]
    return tuple((int(number), hex_color(palette[number])) for number in numbers)


def read_values(
    path: Path, file: Any, window: Window | None, *, colors: bool = False
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Decode a mask's values, (H, W), and which pixels are "no label" whatever the classes are.

    Args:
        path: Path for messages.
        file: The open mask.
        window: Part of the mask; None: all of it.
        colors: Whether values are colors, returned as numbers (`mask_colors.number_of`).

    Raises:
        DataError: The mask holds colors and should not, or no numbers.
    """
    layers_CHW, unseen_HW = _read_layers(path, file, window)
    if colors:
        return as_numbers(in_colors(path, file, layers_CHW, unseen_HW)), unseen_HW
    layers_CHW = _as_gray(("background", "lake", "river"), path, layers_CHW)
    values_HW = _as_stored(path, file, layers_CHW[0])
    unseen_HW |= values_HW != values_HW  # NaN
    for value in NO_LABEL:
        unseen_HW |= equals(values_HW, value)
    return values_HW, unseen_HW


def holds_colors(path: Path, file: Any, window: Window | None) -> bool:
    """Return whether a mask of three layers holds colors: pixels at which the layers differ."""
    layers_CHW, unseen_HW = _read_layers(path, file, window)
    seen_CN = layers_CHW[:, ~unseen_HW]
    return bool((seen_CN != seen_CN[0]).any())


def _read_layers(
    path: Path, file: Any, window: Window | None
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the one or three layers of a mask, and which pixels are transparent or masked out."""
    kinds = {np.dtype(name).kind for name in file.dtypes}
    if not kinds <= set("iuf"):
        raise _wrong_layers(path, file)
    alpha = file.count in (2, 4) and file.colorinterp[-1] == ColorInterp.alpha
    count = file.count - alpha
    if count not in (1, 3):
        raise _wrong_layers(path, file)
    layers_CHW = file.read(list(range(1, count + 1)), window=window)
    return layers_CHW, _unseen(file, window, alpha=alpha)


def _describe_tags(file: Any) -> list[str]:
    """Return a warning if a mask declares a scale or an offset: class numbers have none."""
    scale, offset = file.scales[0], file.offsets[0]
    if (scale, offset) == (1.0, 0.0):
        return []
    return [
        f"the mask declares scale {scale:g} and offset {offset:g}: its values are read as they are "
        "stored, without them"
    ]


def decode(
    schema: RasterSchema, path: Path, values_HW: NDArray[Any], unseen_HW: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return mask values as classes, (H, W); 255 where ignored or unseen.

    Raises:
        DataError: A value is not in the schema.
    """
    legal_HW = unseen_HW | (values_HW != values_HW)  # NaN is no label
    mask_HW = np.full(values_HW.shape, IGNORE, dtype=np.uint8)
    if schema.numbered:
        whole_HW = (values_HW >= 0) & (values_HW < len(schema.classes))
        if values_HW.dtype.kind == "f":
            whole_HW &= values_HW == np.floor(values_HW)
        mask_HW = np.where(whole_HW & ~legal_HW, values_HW, IGNORE).astype(np.uint8)
        legal_HW |= whole_HW
    for value, meant in schema.codes:
        coded_HW = equals(values_HW, value) & ~unseen_HW
        mask_HW[coded_HW] = meant
        legal_HW |= coded_HW
    if not legal_HW.all():
        for value in NO_LABEL:
            legal_HW |= equals(values_HW, value)
        if not legal_HW.all():
            raise _wrong_values(schema, path, values_HW, legal_HW, unseen_HW)
    return mask_HW


def _unseen(file: Any, window: Window | None, *, alpha: bool) -> NDArray[np.bool_]:
    """Return which pixels of a mask are transparent or masked out."""
    if alpha:
        unseen_HW: NDArray[np.bool_] = file.read(file.count, window=window) == 0
        return unseen_HW
    flags = file.mask_flag_enums[0]
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        return np.asarray(file.read_masks(1, window=window) == 0)
    shape = file.shape if window is None else (int(window.height), int(window.width))
    return np.zeros(shape, dtype=np.bool_)


def _as_stored(path: Path, file: Any, values_HW: NDArray[Any]) -> NDArray[Any]:
    """Return the values of a gray mask; those of one bit whose 0 is white are inverted."""
    structure = file.tags(ns="IMAGE_STRUCTURE")
    if structure.get("MINISWHITE") != "YES":
        return values_HW
    if file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS") == "1":
        turned_HW: NDArray[Any] = 1 - (values_HW > 0).astype(np.uint8)
        return turned_HW
    raise DataError(
        f"{path}: this mask stores white as 0 (MINISWHITE) in more than 1 bit, so that its values "
        "can be read two ways. Save it with black as 0 (MINISBLACK)."
    )


def _as_gray(classes: Sequence[str], path: Path, layers_CHW: NDArray[Any]) -> NDArray[Any]:
    """Return the only layer, or the common values of three equal ones.

    Raises:
        DataError: The layers differ: they are colors.
    """
    if all((layer_HW == layers_CHW[0]).all() for layer_HW in layers_CHW[1:]):
        return layers_CHW[:1]
    colors = np.unique(layers_CHW.reshape(3, -1), axis=1).T[: MAX_LISTED + 1].tolist()
    pairs = dict(zip(map(hex_color, colors), classes, strict=False))
    line = ", ".join(f'"{color}": {name}' for color, name in pairs.items())
    raise DataError(
        f"{path}: a mask holds one layer of class numbers, this file has 3 layers of "
        f"{layers_CHW.dtype} in {_count(colors)} colors. Name the class of each color in the card, "
        f"such as `values: {{{line}}}`, or write class numbers."
    )


def _count(values: Sequence[Any]) -> str:
    return f"more than {MAX_LISTED}" if len(values) > MAX_LISTED else str(len(values))


def _undeclared_index(
    schema: RasterSchema, file: Any, layers_CHW: NDArray[Any]
) -> NDArray[np.bool_]:
    """Return which pixels of a color mask hold its nodata value, where that is no class's own color.

    A palette of 256 entries paints an unused index black: an index that is declared as nodata is
    "no label", unless it alone has a class's color.
    """
    nodata = declared_nodata(file, 1)
    if nodata is None:
        return np.zeros(layers_CHW.shape[1:], dtype=np.bool_)
    palette = palette_of(file) if len(layers_CHW) == 1 else {}
    color = palette.get(int(nodata), (0, 0, 0)) if palette else (nodata,) * 3
    legal = any(tuple(color[:3]) == legend for legend, _ in schema.colors)
    same = sum(tuple(other[:3]) == tuple(color[:3]) for other in palette.values())
    if legal and same <= 1:
        return np.zeros(layers_CHW.shape[1:], dtype=np.bool_)
    hit_HW: NDArray[np.bool_] = np.ones(layers_CHW.shape[1:], dtype=np.bool_)
    for layer_HW in layers_CHW:
        hit_HW &= equals(layer_HW, nodata)
    return hit_HW


def _by_color(
    schema: RasterSchema, path: Path, colors_CHW: NDArray[np.uint8], unseen_HW: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    mask_HW = np.full(unseen_HW.shape, IGNORE, dtype=np.uint8)
    legal_HW = unseen_HW.copy()
    for color, meant in schema.colors:
        hit_HW = (colors_CHW == np.array(color, dtype=np.uint8)[:, None, None]).all(axis=0)
        mask_HW[hit_HW & ~unseen_HW] = meant
        legal_HW |= hit_HW
    if not legal_HW.all():
        wrong = colors_CHW[:, ~legal_HW][:, 0]
        raise DataError(
            f"{path}: the mask holds the color {hex_color(wrong.tolist())} ({count_of(int((~legal_HW).sum()), 'wrong pixel')}); '{schema.name}' allows {schema.allowed}. Add it to `values`, or write "
            "the mask without smoothing and lossy compression."
        )
    return mask_HW


def _wrong_layers(path: Path, file: Any) -> DataError:
    return DataError(
        f"{path}: a mask holds one layer of class numbers, this file has {count_of(file.count, 'layer')} of "
        f"{file.dtypes[0]}. Write class numbers, not colors."
    )


def _wrong_values(
    schema: RasterSchema,
    path: Path,
    values_HW: NDArray[Any],
    legal_HW: NDArray[np.bool_],
    unseen_HW: NDArray[np.bool_],
) -> DataError:
    wrong = values_HW[~legal_HW]
    seen = np.unique(values_HW[~unseen_HW & np.isfinite(values_HW)])
    labels = [value for value in seen.tolist() if schema.code_of(value) != IGNORE]
    return DataError(
        f"{path}: the mask holds the value {wrong[0]:g} ({count_of(wrong.size, 'wrong pixel')}); "
        f"'{schema.name}' allows {schema.allowed}. {_remedy(schema, labels)}"
    )


def _remedy(schema: RasterSchema, labels: list[float]) -> str:
    """Return a remedy for a mask with these values: lines for the card."""
    classes = schema.classes
    if len(classes) == 2 and set(labels) <= {0, 255}:
        line = f"{{0: {classes[0]}, 255: {classes[1]}}}"
        return f"This is a binary mask with 0 and 255: write `values: {line}` in the card."
    if len(labels) == len(classes):
        line = ", ".join(f"{value:g}: {name}" for value, name in zip(labels, classes, strict=True))
        return f"If these are the classes in order, write `values: {{{line}}}` in the card."
    if len(labels) == len(classes) + 1 and labels[0] <= 0:
        line = ", ".join(
            f"{value:g}: {name}" for value, name in zip(labels, ("ignore", *classes), strict=True)
        )
        return (
            f"If {labels[0]:g} means 'no label', write `ignore: {labels[0]:g}`, or "
            f"`values: {{{line}}}`, in the card."
        )
    return (
        "Was it resampled with interpolation? If not, name the class of each value in `values:` of "
        "the card, or leave values out with `ignore:`."
    )
