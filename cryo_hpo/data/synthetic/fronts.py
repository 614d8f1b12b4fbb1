"""Generate calving fronts in radar images: one band, speckle, radar shadow."""

# H W pixels

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

from .terrain import Facts, Grain, Light, Raster, facing, fractal, shadowed

BANDS = ("VV",)
CLASSES = ("n/a", "rock", "glacier", "ocean")
GSD_M = 20.0
NOISE_FLOOR_DB = -28.0
WHITE_DB = -1.0  # backscatter at which the 8 bits are full
STEEPNESS = 0.7  # rise of the rock walls, per distance from the fjord


class Fjord(NamedTuple):
    """Hold the part of a scene that all dates share; lengths in half sides of the scene."""

    along_HW: Raster
    """Distance down the fjord, growing towards the sea."""
    across_HW: Raster
    """Distance from the fjord's axis, negative on one side."""
    rock_HW: Facts
    wall_HW: Raster
    """Height of the rock above the sea, meters."""
    front: float
    """Mean position of the front, along the fjord."""
    flow_deg: float
    """Direction of the glacier's flow, clockwise from north."""


def fjord(size: int, *, rng: np.random.Generator) -> Fjord:
    """Draw a fjord between two fractal rock walls, in any direction.

    Args:
        size: Side, pixels of 20 m.
        rng: Random generator.
    """
    flow_deg = rng.uniform(0, 360)
    angle = np.deg2rad(flow_deg)
    row, column = np.meshgrid(*[np.linspace(-1, 1, size)] * 2, indexing="ij")
    along = -row * np.cos(angle) + column * np.sin(angle)
    across = row * np.sin(angle) + column * np.cos(angle) - rng.uniform(-0.25, 0.25)
    across = across + 0.10 * fractal(size, exponent=3.2, rng=rng)
    half_width = rng.uniform(0.45, 0.7) + rng.uniform(-0.05, 0.2) * along
    inland = np.abs(across) - half_width
    half_side_m = size * GSD_M / 2
    rough = fractal(size, exponent=3.7, rng=rng)
    wall = half_side_m * (STEEPNESS * np.sqrt(np.clip(inland, 0, None)) * (1 + 0.45 * rough))
    return Fjord(
        along_HW=along,
        across_HW=across,
        rock_HW=inland > 0,
        wall_HW=np.clip(wall, 0, None),
        front=rng.uniform(-0.2, 0.3),
        flow_deg=flow_deg,
    )


def scenes(
    size: int, *, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield one date after another over one fjord, without end.

    Args:
        size: Side, pixels of 20 m.
        rng: Random generator.

    Yields:
        Amplitude, (1, H, W); and the zones, (H, W), numbered as in `CLASSES`.
    """
    place = fjord(size, rng=rng)
    look = Light(azimuth_deg=rng.choice([80.0, 280.0]), elevation_deg=rng.uniform(35, 50))
    while True:
        yield _date(place, look, rng=rng)


def speckle(power_HW: Raster, *, looks: int, rng: np.random.Generator) -> Raster:
    """Multiply backscattered power by fully developed speckle of mean 1.

    Args:
        power_HW: Backscattered power, linear, (H, W).
        looks: Independent looks averaged; the coefficient of variation is 1 / sqrt(looks).
        rng: Random generator.

    Source:
        Gamma law of multi-look power: Oliver and Quegan, Understanding SAR Images, 2004, section 4.3.
    """
    return power_HW * rng.gamma(looks, 1 / looks, power_HW.shape)


def _date(
    place: Fjord, look: Light, *, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    seaward_HW = _seaward(place, rng=rng)
    ice_HW = (seaward_HW < 0) & ~place.rock_HW
    height_HW = np.where(ice_HW, 40 - 60 * np.clip(seaward_HW, -2, 0), place.wall_HW)
    hidden_HW = shadowed(height_HW, look, gsd_m=GSD_M) & place.rock_HW
    hidden_HW = ndimage.median_filter(hidden_HW, 5) & place.rock_HW  # no specks
    outside_HW = _outside(len(ice_HW), rng=rng)
    zones_HW = np.select([hidden_HW | outside_HW, place.rock_HW, ice_HW], [0, 1, 2], 3)
    power_db = np.select(
        [hidden_HW, place.rock_HW, ice_HW],
        [
            np.full(ice_HW.shape, NOISE_FLOOR_DB),
            _rock(height_HW, look, rng=rng),
            _glacier(place, seaward_HW, rng=rng),
        ],
        _ocean(seaward_HW, rng=rng),
    )
    amplitude_HW = _sense(power_db, look, rng=rng)
    amplitude_HW[outside_HW] = 0
    return amplitude_HW[None], zones_HW.astype(np.uint8)


def _seaward(place: Fjord, *, rng: np.random.Generator) -> Raster:
    """Return the distance beyond the date's front: an arch with fractal bays."""
    size = len(place.rock_HW)
    arch = rng.uniform(-0.3, 0.3) * place.across_HW**2 + rng.uniform(-0.3, 0.3) * place.across_HW
    bays = 0.06 * fractal(size, exponent=2.8, rng=rng)
    advance = rng.normal(0, 0.12)
    return place.along_HW - (place.front + advance + arch + bays)


def _outside(size: int, *, rng: np.random.Generator) -> Facts:
    """Cut a corner off some scenes, as the edge of a swath does."""
    row, column = np.meshgrid(*[np.linspace(-1, 1, size)] * 2, indexing="ij")
    angle = rng.uniform(0, 2 * np.pi)
    reach = rng.uniform(0.75, 1.1) if rng.random() < 0.35 else np.inf
    return np.asarray(row * np.cos(angle) + column * np.sin(angle) > reach)


def _rock(height_HW: Raster, look: Light, *, rng: np.random.Generator) -> Raster:
    """Brighten slopes that face the radar, as foreshortening and layover do."""
    tilt = np.clip(facing(height_HW, look, gsd_m=GSD_M) - look.towards[2], -0.25, None)
    texture = fractal(len(height_HW), exponent=1.6, rng=rng)
    return rng.uniform(-9, -7) + 12 * tilt + 2.2 * texture


def _glacier(place: Fjord, seaward_HW: Raster, *, rng: np.random.Generator) -> Raster:
    """Draw crevasses across the flow, deepest near the front, and moraines along it."""
    size = len(seaward_HW)
    crevasses = fractal(size, exponent=1.6, rng=rng, grain=Grain(place.flow_deg + 90, 4))
    swell = fractal(size, exponent=3.0, rng=rng, grain=Grain(place.flow_deg, 5))
    near_front = 0.35 + 0.65 * np.exp(seaward_HW.clip(None, 0) / 0.5)
    wet = rng.uniform(-15, -12)  # melting snow absorbs the beam, dry firn returns it
    return wet + rng.uniform(1.5, 3.5) * near_front * crevasses + 1.2 * swell + 2 * near_front


def _ocean(seaward_HW: Raster, *, rng: np.random.Generator) -> Raster:
    """Roughen the water by wind, and cover it with melange near the front and icebergs beyond."""
    size = len(seaward_HW)
    wind = Grain(rng.uniform(0, 360), 6)
    water = rng.uniform(-22, -17) + 1.2 * fractal(size, exponent=2.0, rng=rng, grain=wind)
    floes = fractal(size, exponent=1.8, rng=rng)
    reach, cover = rng.uniform(0.05, 0.35), rng.choice([-1.5, 0.0, 1.5])
    packed = cover - 3 * np.clip(seaward_HW, 0, None) / reach
    share = expit(5 * (floes + packed - 0.6))
    bergs = expit(8 * (fractal(size, exponent=1.6, rng=rng) - rng.uniform(2.0, 3.0)))
    ice = rng.uniform(-13, -8) + 2 * floes
    drifting = water + share * np.clip(ice - water, 0, None)
    power_db: Raster = np.maximum(drifting, -5 + 20 * (bergs - 1))
    return power_db


def _sense(power_db: Raster, look: Light, *, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Simulate the sensor: incidence trend, gain, speckle, noise floor, 8 bits."""
    size = len(power_db)
    near_to_far = np.linspace(0.5, -0.5, size) * np.sign(look.towards[1])
    trend_db = -rng.uniform(0, 3) * near_to_far[None, :] + rng.normal(0, 0.7)
    power = 10 ** ((power_db + trend_db) / 10) + 10 ** (NOISE_FLOOR_DB / 10)
    seen = speckle(power, looks=int(rng.integers(1, 5)), rng=rng)
    full = 10 ** (WHITE_DB / 20)
    return np.clip(np.rint(255 * np.sqrt(seen) / full), 1, 255).astype(np.uint8)
