"""Generate terrain: fractal surfaces, basins that hold water, and the light that falls on them."""

# H W pixels; row 0 is north, column 0 is west

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Raster = NDArray[np.float64]
Labels = NDArray[np.int32]
Facts = NDArray[np.bool_]

NEIGHBORS = tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0))


class Light(NamedTuple):
    """Hold the direction to the sun, or to a radar, from the ground."""

    azimuth_deg: float
    """Clockwise from north."""
    elevation_deg: float
    """Above the horizon, more than 0 and less than 90."""

    @property
    def towards(self) -> tuple[float, float, float]:
        """Unit vector to the light: rows (south), columns (east), up."""
        azimuth, elevation = np.deg2rad(self)
        flat = np.cos(elevation)
        return -flat * np.cos(azimuth), flat * np.sin(azimuth), float(np.sin(elevation))


class Grain(NamedTuple):
    """Hold the direction along which a surface is stretched, as wind streaks and crevasses are."""

    azimuth_deg: float
    """Clockwise from north."""
    stretch: float
    """Ratio of length to width of its features."""


def fractal(
    size: int, *, exponent: float, rng: np.random.Generator, grain: Grain | None = None
) -> Raster:
    """Draw a random surface whose power falls with frequency as a power law.

    The surface is cut from one of twice the side, since the Fourier synthesis is periodic.

    Args:
        size: Side, pixels.
        exponent: Exponent of the power spectrum, k^-exponent: 0 is white noise, 2 rough, 4 smooth.
        rng: Random generator.
        grain: Draws the features out in one direction; None leaves them round.

    Returns:
        Heights, (size, size), of mean 0 and standard deviation 1.

    Source:
        Spectral synthesis: Saupe, in The Science of Fractal Images, Springer 1988, section 2.4.
    """
    side = 2 * size
    row, column = np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij")
    if grain is not None:
        angle = np.deg2rad(grain.azimuth_deg)
        along = -row * np.cos(angle) + column * np.sin(angle)
        across = row * np.sin(angle) + column * np.cos(angle)
        row, column = along * grain.stretch, across
    frequency = np.hypot(row, column)
    frequency[0, 0] = np.inf
    white = np.fft.rfft2(rng.standard_normal((side, side)))
    whole = np.fft.irfft2(white * frequency ** (-exponent / 2), s=(side, side))
    cut = whole[:size, :size]
    surface: Raster = (cut - cut.mean()) / cut.std()
    return surface


def fill_depressions(dem_HW: Raster) -> Raster:
    """Raise every pixel to the lowest level from which water still runs off the edge.

    Args:
        dem_HW: Elevation, meters, (H, W).

    Returns:
        The filled surface, meters, (H, W): flat over each basin, at the height of its outlet.

    Source:
        Priority-flood: Barnes, Lehman and Mulla 2014, doi:10.1016/j.cageo.2013.04.024, algorithm 1.
    """
    height, width = dem_HW.shape
    dem = dem_HW.tolist()
    level: list[list[float | None]] = [[None] * width for _ in range(height)]
    shore: list[tuple[float, int, int]] = []
    for i in range(height):
        for j in range(width):
            if i in (0, height - 1) or j in (0, width - 1):
                level[i][j] = dem[i][j]
                shore.append((dem[i][j], i, j))
    heapq.heapify(shore)
    while shore:
        water, i, j = heapq.heappop(shore)
        for down, right in NEIGHBORS:
            row, column = i + down, j + right
            if 0 <= row < height and 0 <= column < width and level[row][column] is None:
                rises = max(dem[row][column], water)
                level[row][column] = rises
                heapq.heappush(shore, (rises, row, column))
    return np.array(level, dtype=np.float64)


def basins(dem_HW: Raster, *, depth_m: float, pixels: int) -> tuple[Labels, Raster]:
    """Find the depressions that are deep and wide enough to hold a lake.

    Args:
        dem_HW: Elevation, meters, (H, W).
        depth_m: Least depth at the deepest point, meters.
        pixels: Least area, pixels.

    Returns:
        Basin numbers from 1, 0 outside, (H, W); and the height of each basin's outlet, meters,
        one per number, that of number 0 being nan.
    """
    filled_HW = fill_depressions(dem_HW)
    wet_HW, count = ndimage.label(filled_HW > dem_HW, structure=np.ones((3, 3)))
    numbers = np.arange(1, count + 1)
    area = ndimage.sum_labels(np.ones_like(dem_HW), wet_HW, numbers)
    depth = ndimage.maximum(filled_HW - dem_HW, wet_HW, numbers)
    kept = numbers[(area >= pixels) & (depth >= depth_m)]
    renumber = np.zeros(count + 1, dtype=np.int32)
    renumber[kept] = np.arange(1, len(kept) + 1)
    outlets = ndimage.maximum(filled_HW, wet_HW, kept)
    return renumber[wet_HW], np.concatenate([[np.nan], outlets])


def slope_deg(dem_HW: Raster, *, gsd_m: float) -> Raster:
    """Return the slope of the ground, degrees, (H, W)."""
    steep_HW: Raster = np.rad2deg(np.arctan(np.hypot(*np.gradient(dem_HW, gsd_m))))
    return steep_HW


def facing(dem_HW: Raster, light: Light, *, gsd_m: float) -> Raster:
    """Return the cosine between the ground's normal and the light, (H, W), negative if averted.

    Source:
        Lambert's law on a shaded relief: Horn 1981, doi:10.1109/PROC.1981.11918.
    """
    down, right = np.gradient(dem_HW, gsd_m)
    south, east, up = light.towards
    cosine_HW: Raster = (up - south * down - east * right) / np.sqrt(1 + down**2 + right**2)
    return cosine_HW


def shadowed(dem_HW: Raster, light: Light, *, gsd_m: float) -> Facts:
    """Return whether higher ground blocks the light, (H, W).

    Ground beyond the edge is assumed to be as high as the edge.
    """
    south, east, up = light.towards
    flat = np.hypot(south, east)
    rise_m = gsd_m * up / flat  # of the ray, per pixel walked
    steps = int(np.ptp(dem_HW) / rise_m) + 1
    dark_HW = np.zeros(dem_HW.shape, dtype=np.bool_)
    for step in range(1, min(steps, max(dem_HW.shape)) + 1):
        offset = (-step * south / flat, -step * east / flat)
        there_HW = ndimage.shift(dem_HW, offset, order=1, mode="nearest")
        dark_HW |= there_HW - step * rise_m > dem_HW
    return dark_HW
