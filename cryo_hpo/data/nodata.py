"""Find pixels without data: nodata values per band, masks, transparency, and undeclared fill."""

# C bands, H W pixels

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.windows import Window

TAGS = ("_fillvalue", "missing_value", "nodata", "nodata_value", "no_data_value")
"""Band or file tags, in any case, in which converters leave a nodata value as text."""
RTOL = 2e-6  # floats written as text lose their last digits: -3.40282e+38 is float32's lowest
FILL_NUMBERS = (-9999.0, -99999.0, -999.0, -32768.0, -32767.0)
"""Conventional fill values, which no pixel of a scene holds otherwise."""
HUGE = 1e20  # fill values of netCDF (9.96921e36), of climate models (1e20), lowest of float32
MIN_EDGE = 0.05  # share of the border's pixels
MIN_SHARE = 0.005  # share of the scene's pixels
MIN_GAP = 0.01  # of the range of the other pixels


class Fill(NamedTuple):
    """Hold a constant value at the edge of a scene that is not declared as nodata."""

    value: float
    share: float
    """Share of the scene's pixels."""
    far: bool
    """Whether it is a conventional fill value, far from all other pixels."""
    edge: bool = True
    """Whether it fills the scene from its edge; else it occurs within."""


def declared_nodata(file: Any, layer: int) -> float | None:
    """Return the nodata value of a layer (from 1), declared as a number or as text in a tag."""
    value = file.nodatavals[layer - 1]
    if value is not None:
        return float(value)
    tags = {name.lower(): text for name, text in {**file.tags(), **file.tags(layer)}.items()}
    for name in TAGS:
        try:
            return float(tags[name])
        except (KeyError, ValueError):
            continue
    return None


def find_absent(
    file: Any,
    pixels_CHW: NDArray[Any],
    layers: Sequence[int],
    *,
    alpha: bool,
    window: Window | None,
    nodata: Sequence[float] = (),
) -> NDArray[np.bool_]:
    """Return which pixels of a file have no data, (H, W).

    A nodata value that is also a saturated or a dark pixel (0, or the largest number of the type)
    counts only where all bands that declare it hold it; any other counts in any band.

    Args:
        file: An open raster.
        pixels_CHW: Pixels of the file, as read.
        layers: Layers of these pixels, from 1.
        alpha: Whether the file's last layer is transparency.
        window: Part of the file; None: all of it.
        nodata: Further values, one for each layer, or one for all.
    """
    absent_HW: NDArray[np.bool_] = np.zeros(pixels_CHW.shape[1:], dtype=np.bool_)
    if alpha:
        absent_HW |= file.read(file.count, window=window) == 0
    flags = file.mask_flag_enums[layers[0] - 1]
    # Four layers of 8 bits are written as RGBA by default; the last is then not transparency.
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        absent_HW |= file.read_masks(layers[0], window=window) == 0
    extra = list(nodata) * len(layers) if len(nodata) == 1 else list(nodata)
    saturated: list[NDArray[np.bool_]] = []
    for i, layer in enumerate(layers):
        values = {declared_nodata(file, layer), extra[i] if extra else None} - {None}
        hits = [(v, equals(pixels_CHW[i], v)) for v in values if v is not None]
        for value, hit_HW in hits:
            if is_limit(value, pixels_CHW.dtype):
                saturated.append(hit_HW)
            else:
                absent_HW |= hit_HW
    if saturated:
        absent_HW |= np.logical_and.reduce(saturated)
    return absent_HW


def equals(pixels: NDArray[Any], value: float) -> NDArray[np.bool_]:
    """Return which pixels hold a nodata value that was declared as a number or as text."""
    kind = pixels.dtype.kind
    hit: NDArray[np.bool_]
    if kind == "f":
        if math.isnan(value):
            hit = np.isnan(pixels)
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                hit = np.abs(pixels - pixels.dtype.type(value)) <= abs(value) * RTOL
                hit |= pixels == pixels.dtype.type(value)
        return hit
    limits = np.iinfo(pixels.dtype)
    if not math.isfinite(value) or not limits.min <= round(value) <= limits.max:
        return np.zeros(pixels.shape, dtype=np.bool_)
    hit = pixels == pixels.dtype.type(round(value))
    return hit


def is_limit(value: float, dtype: np.dtype[Any]) -> bool:
    """Return whether dark or saturated pixels also hold a value."""
    return value == 0 or (dtype.kind in "iu" and round_or_nan(value) == np.iinfo(dtype).max)


def round_or_nan(value: float) -> float:
    """Return a finite value rounded, any other unchanged."""
    return round(value) if math.isfinite(value) else value


def suspect_fill(image_CHW: NDArray[Any], absent_HW: NDArray[np.bool_]) -> Fill | None:
    """Return an undeclared value that fills part of a scene, from its edge or within; None: none."""
    at_edge = _edge_fill(image_CHW, absent_HW)
    if at_edge is not None and at_edge.far:
        return at_edge
    fills = (_fill_within(band_HW, ~absent_HW) for band_HW in image_CHW)
    within = next((fill for fill in fills if fill is not None), None)
    return within if within is not None and (within.far or at_edge is None) else at_edge


def _fill_within(band_HW: NDArray[Any], seen_HW: NDArray[np.bool_]) -> Fill | None:
    """Return a fill value that is far from all other pixels of a band, wherever it is.

    It is a conventional one, or the largest number of a type of 16 bits or more, which saturated
    pixels hold too: that is not `far`.
    """
    values = band_HW if seen_HW.all() else band_HW[seen_HW]
    if not values.size:
        return None
    for value in (float(values.min()), float(values.max())):
        limit = band_HW.dtype.kind in "iu" and value == np.iinfo(band_HW.dtype).max > 255
        if value not in FILL_NUMBERS and abs(value) < HUGE and not limit:
            continue
        rest = values[values != values.dtype.type(value)]
        if not rest.size:
            continue
        low, high = float(rest.min()), float(rest.max())
        span = max(high - low, 1e-12)
        if not low - 3 * span <= value <= high + 3 * span:
            return Fill(value, 1 - rest.size / band_HW.size, far=not limit, edge=False)
    return None


def _edge_fill(image_CHW: NDArray[Any], absent_HW: NDArray[np.bool_]) -> Fill | None:
    """Return an undeclared value that fills part of a scene from its edge.

    It holds in all bands at once, on `MIN_EDGE` of the border and `MIN_SHARE` of the scene, and
    all other pixels are on one side of it, apart by `MIN_GAP` of their range; a scene with all
    bands 0 needs no gap.
    """
    border = np.concatenate(
        [image_CHW[0, 0], image_CHW[0, -1], image_CHW[0, :, 0], image_CHW[0, :, -1]]
    )
    absent = np.concatenate([absent_HW[0], absent_HW[-1], absent_HW[:, 0], absent_HW[:, -1]])
    values, counts = np.unique(border[~absent], return_counts=True)
    if not counts.size or counts.max() < MIN_EDGE * border.size:
        return None
    value = values[counts.argmax()]
    fill_HW = np.logical_and.reduce([band_HW == value for band_HW in image_CHW]) & ~absent_HW
    share = float(fill_HW.mean())
    if share < MIN_SHARE or share + absent_HW.mean() > 1 - MIN_SHARE:
        return None
    apart, far = _gap(image_CHW, ~fill_HW & ~absent_HW, float(value))
    zeros = value == 0 and len(image_CHW) > 2
    return Fill(float(value), share, far) if apart or zeros else None


def _gap(image_CHW: NDArray[Any], rest_HW: NDArray[np.bool_], value: float) -> tuple[bool, bool]:
    """Return whether a value lies apart from the other pixels, and whether it is a usual fill."""
    lows, highs = zip(*_ranges(image_CHW, rest_HW), strict=True)
    low, high = min(lows), max(highs)
    span = max(high - low, 1e-12)
    apart = value < low - MIN_GAP * span or value > high + MIN_GAP * span
    return apart, apart and value in FILL_NUMBERS and value < low - 3 * span


def _ranges(image_CHW: NDArray[Any], rest_HW: NDArray[np.bool_]) -> Iterator[tuple[float, float]]:
    for band_HW in image_CHW:
        rest = band_HW[rest_HW]
        yield float(rest.min()), float(rest.max())
