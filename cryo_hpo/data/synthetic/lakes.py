"""Generate mountain lakes in optical images: four bands, clouds, shadows, haze."""

# C bands (B2, B3, B4, B8), H W pixels, K lakes counted from 1 (0 is land)

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

from ..dataset import IGNORE
from .terrain import Facts, Labels, Light, Raster, basins, facing, fractal, shadowed, slope_deg

BANDS = ("B2", "B3", "B4", "B8")
CLASSES = ("background", "glacial lake")
GSD_M = 10.0
SCALE = 10_000  # digital numbers per reflectance, as in Sentinel-2's products

Spectrum = NDArray[np.float64]


def _spectrum(*reflectance: float) -> Spectrum:
    return np.array(reflectance)[:, None, None]


# Round numbers of the right order and shape; made for looks, not for physics.
FRESH_SNOW = _spectrum(0.84, 0.85, 0.85, 0.78)
OLD_SNOW = _spectrum(0.58, 0.57, 0.54, 0.40)
GRAY_ROCK = _spectrum(0.12, 0.13, 0.14, 0.17)
BROWN_ROCK = _spectrum(0.09, 0.12, 0.17, 0.24)
WET_ROCK = _spectrum(0.06, 0.065, 0.07, 0.07)
TUNDRA = _spectrum(0.05, 0.08, 0.07, 0.26)
CLOUD = _spectrum(0.78, 0.77, 0.77, 0.79)
LAKE_ICE = _spectrum(0.60, 0.61, 0.58, 0.42)
CLEAR_WATER = _spectrum(0.050, 0.050, 0.025, 0.012)
MILKY_WATER = _spectrum(0.17, 0.23, 0.15, 0.05)  # glacial flour
MUDDY_WATER = _spectrum(0.12, 0.15, 0.17, 0.11)

DIRECT = 0.85  # share of flat ground's light that a shadow takes away
SKYLIGHT = _spectrum(0.22, 0.17, 0.12, 0.08)  # what remains of it in the shade: bluish
HAZE = _spectrum(1.0, 0.75, 0.5, 0.2)
OPAQUE = 0.9  # cloud cover of a pixel from which on the ground cannot be judged


class Valley(NamedTuple):
    """Hold the part of a scene that all dates share."""

    dem_HW: Raster
    """Meters above the sea."""
    lakes_HW: Labels
    """Number of the basin, 0 outside."""
    floors_K: Raster
    outlets_K: Raster
    """Lowest and highest level of each basin's water, meters."""
    flour_K: Raster
    mud_K: Raster
    """Milkiness and muddiness of each lake, 0 to 1."""
    ground_CHW: NDArray[np.float64]
    """Reflectance of the ground without snow and water."""


def valley(size: int, *, rng: np.random.Generator) -> Valley:
    """Draw mountains until their depressions hold lakes on 4 to 22 % of the area.

    Args:
        size: Side, pixels of 10 m.
        rng: Random generator.
    """
    while True:
        relief_m = rng.uniform(0.7, 1.1) * size**0.5 * GSD_M
        summit_m = rng.uniform(4600, 5400)
        rough = fractal(size, exponent=rng.uniform(3.3, 3.8), rng=rng)
        dem_HW = summit_m + relief_m * ndimage.gaussian_filter(rough, 1.2)
        lakes_HW, outlets_K = basins(dem_HW, depth_m=4, pixels=25)
        if 0.04 <= np.mean(lakes_HW > 0) <= 0.22:
            break
    count = int(lakes_HW.max())
    floors = ndimage.minimum(dem_HW, lakes_HW, range(1, count + 1))
    return Valley(
        dem_HW=dem_HW,
        lakes_HW=lakes_HW,
        floors_K=np.concatenate([[np.nan], floors]),
        outlets_K=outlets_K,
        flour_K=rng.beta(0.6, 0.8, count + 1),
        mud_K=rng.beta(0.4, 1.6, count + 1),
        ground_CHW=_ground(dem_HW, rng=rng),
    )


def scenes(
    size: int, *, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.uint16], NDArray[np.uint8]]]:
    """Yield one date after another over one valley, without end.

    Args:
        size: Side, pixels of 10 m.
        rng: Random generator.

    Yields:
        Reflectance times 10,000, (C, H, W); and the mask, (H, W): the truth on the ground, 255
        where an opaque cloud hides it.
    """
    place = valley(size, rng=rng)
    while True:
        yield _date(place, rng=rng)


def water_level(place: Valley, *, fullness: float) -> tuple[Facts, Raster]:
    """Fill each basin to a share of its depth.

    Args:
        place: The valley.
        fullness: 0 leaves the basins dry, 1 fills them to their outlets.

    Returns:
        Whether each pixel is water, (H, W); and the surface seen from above, meters, (H, W).
    """
    level_K = place.floors_K + fullness * (place.outlets_K - place.floors_K)
    level_HW = level_K[place.lakes_HW]
    wet_HW = (place.lakes_HW > 0) & (place.dem_HW < level_HW)
    return wet_HW, np.where(wet_HW, level_HW, place.dem_HW)


def _date(
    place: Valley, *, rng: np.random.Generator
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    size = len(place.dem_HW)
    sun = Light(azimuth_deg=rng.uniform(95, 215), elevation_deg=rng.uniform(24, 58))
    wet_HW, surface_HW = water_level(place, fullness=rng.uniform(0.7, 1.0))
    albedo_CHW = _snow(place, rng=rng)
    water_CHW = _water(place, surface_HW, rng=rng)
    albedo_CHW = np.where(wet_HW, water_CHW, albedo_CHW)
    cloud_HW = _clouds(size, rng=rng)
    shade_HW = _cloud_shadow(cloud_HW, sun, rng=rng)
    lit_HW = _sunlight(surface_HW, sun) * (1 - 0.9 * shade_HW)
    image_CHW = albedo_CHW * (DIRECT * lit_HW + SKYLIGHT)
    image_CHW = image_CHW * (1 - cloud_HW) + CLOUD * rng.uniform(0.85, 1.15) * cloud_HW
    mask_HW = np.where(cloud_HW >= OPAQUE, IGNORE, wet_HW).astype(np.uint8)
    return _sense(image_CHW, rng=rng), mask_HW


def _ground(dem_HW: Raster, *, rng: np.random.Generator) -> NDArray[np.float64]:
    """Mix rocks at random, tundra by height and slope, and grain."""
    size = len(dem_HW)
    brown, wet, green = (fractal(size, exponent=2.2, rng=rng) for _ in range(3))
    grain = np.exp(0.18 * fractal(size, exponent=1.2, rng=rng))
    high = (dem_HW - dem_HW.mean()) / dem_HW.std()
    steep = slope_deg(dem_HW, gsd_m=GSD_M)
    rock = _mix(GRAY_ROCK, BROWN_ROCK, expit(3 * brown + rng.normal()))
    rock = _mix(rock, WET_ROCK, expit(4 * (wet - 1.3)))
    meadow = expit(2 * (green - high - 1.2)) * expit((28 - steep) / 4)
    return _mix(rock, TUNDRA, meadow) * grain * rng.uniform(0.8, 1.2)


def _snow(place: Valley, *, rng: np.random.Generator) -> NDArray[np.float64]:
    """Lay snow above the date's snow line, less of it on steep ground."""
    size = len(place.dem_HW)
    high = (place.dem_HW - place.dem_HW.mean()) / place.dem_HW.std()
    line = rng.uniform(-0.4, 2.2)
    patchy = fractal(size, exponent=1.8, rng=rng)
    steep = slope_deg(place.dem_HW, gsd_m=GSD_M)
    cover = expit(4 * (high - line + 0.4 * patchy)) * expit((42 - steep) / 4)
    snow = _mix(OLD_SNOW, FRESH_SNOW, expit(2 * (high - line - 0.5)))
    texture = np.exp(0.05 * fractal(size, exponent=1.2, rng=rng))
    return _mix(place.ground_CHW, snow * texture, cover)


def _water(place: Valley, surface_HW: Raster, *, rng: np.random.Generator) -> NDArray[np.float64]:
    """Color each lake by its flour, mud and depth, and freeze some of them."""
    size, count = len(place.dem_HW), len(place.outlets_K)
    flour = np.clip(place.flour_K + rng.normal(0, 0.1, count), 0, 1)[place.lakes_HW]
    mud = np.clip(place.mud_K + rng.normal(0, 0.1, count), 0, 1)[place.lakes_HW]
    water = _mix(_mix(CLEAR_WATER, MILKY_WATER, flour), MUDDY_WATER, mud)
    depth_m = surface_HW - place.dem_HW
    seen = 0.6 * np.exp(-depth_m / (2.0 - 1.5 * np.maximum(flour, mud)))
    water = _mix(water, place.ground_CHW, seen)
    frozen = (rng.random(count) < rng.choice([0.0, 0.1, 0.6]))[place.lakes_HW]
    cracks = expit(6 * (fractal(size, exponent=1.8, rng=rng) + rng.uniform(0, 2.5)))
    return _mix(water, LAKE_ICE * rng.uniform(0.7, 1.1), frozen * cracks)


def _sunlight(surface_HW: Raster, sun: Light) -> Raster:
    """Return direct light relative to flat ground, with soft-edged cast shadows."""
    cosine = np.clip(facing(surface_HW, sun, gsd_m=GSD_M), 0, None)
    dark = shadowed(surface_HW, sun, gsd_m=GSD_M).astype(np.float64)
    lit_HW: Raster = cosine / sun.towards[2] * (1 - ndimage.gaussian_filter(dark, 0.6))
    return lit_HW


def _clouds(size: int, *, rng: np.random.Generator) -> Raster:
    """Return the clouds' opacity, 0 to 1: a clear, veiled or broken sky at random."""
    thin = np.clip(fractal(size, exponent=3.0, rng=rng) - rng.uniform(0, 2), 0, None)
    thick = fractal(size, exponent=2.8, rng=rng) - rng.uniform(1.2, 2.0)
    veiled, broken = rng.random(2) < (0.4, 0.35)
    opacity = 0.35 * veiled * thin + broken * np.clip(2.5 * thick, 0, None)
    cloud_HW: Raster = np.clip(opacity, 0, 1)
    return cloud_HW


def _cloud_shadow(cloud_HW: Raster, sun: Light, *, rng: np.random.Generator) -> Raster:
    """Cast the clouds' shadows away from the sun, at a distance set by their height."""
    away = rng.uniform(100, 250) / np.tan(np.deg2rad(sun.elevation_deg)) / GSD_M
    south, east, _ = np.array(sun.towards) / np.cos(np.deg2rad(sun.elevation_deg))
    thrown = ndimage.shift(cloud_HW, (-away * south, -away * east), order=1, mode="constant")
    shade_HW: Raster = np.clip(ndimage.gaussian_filter(thrown, 1.0), 0, 1)
    return shade_HW


def _sense(image_CHW: NDArray[np.float64], *, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Simulate the sensor: haze, gain, blur, noise and rounding."""
    hazy = image_CHW * rng.uniform(0.8, 1.2) + HAZE * rng.gamma(2.0, 0.015)
    blurred = ndimage.gaussian_filter(hazy, (0, 0.55, 0.55))
    noise = rng.standard_normal(blurred.shape) * (0.004 + 0.015 * blurred)
    numbers: Raster = np.rint((blurred + noise) * SCALE)
    # 0 keeps Sentinel-2's meaning: no data.
    return np.clip(numbers, 1, np.iinfo(np.uint16).max).astype(np.uint16)


def _mix(under: Spectrum, over: Spectrum, share_HW: Raster) -> NDArray[np.float64]:
    return np.asarray(under * (1 - share_HW) + over * share_HW)
