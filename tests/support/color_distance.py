"""Measure how far apart two colors look, to any eye (CIEDE2000; 1 is just seen by a careful eye)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cryo_hpo.data.palette import rgb

# Linear sRGB as a person without one kind of cone sees it.
# Source: Machado, Oliveira and Fernandes, 2009, doi 10.1109/TVCG.2009.113, severity 1.
SIGHTS = {
    "all cones": np.eye(3).tolist(),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
) / np.array([[0.9505], [1.0], [1.089]])
Lab = NDArray[np.float64]


def seen(color: str, sight: str) -> Lab:
    """Return a color in CIE L*a*b* as an eye of a kind sees it."""
    value = np.array(rgb(color)) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.array(SIGHTS[sight]) @ linear, 0, 1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(one: Lab, other: Lab) -> float:
    """Return CIEDE2000 of two colors in CIE L*a*b*.

    Source: Sharma, Wu and Dalal, 2005, doi 10.1002/col.20070, whose test data it reproduces.
    """
    chroma = (math.hypot(*one[1:]) + math.hypot(*other[1:])) / 2
    stretch = 1.5 - 0.5 * math.sqrt(chroma**7 / (chroma**7 + 25**7))
    (c1, h1), (c2, h2) = (_polar(lab, stretch) for lab in (one, other))
    turn = 0.0 if c1 * c2 == 0 else (h2 - h1 + 180) % 360 - 180
    hue = h1 + h2 if c1 * c2 == 0 else (h1 + turn / 2) % 360
    light, chroma = (one[0] + other[0]) / 2, (c1 + c2) / 2
    parts = _weighed(other[0] - one[0], c2 - c1, turn, math.sqrt(c1 * c2), light, chroma, hue)
    spin = 60 * math.exp(-(((hue - 275) / 25) ** 2))
    rotation = -2 * math.sqrt(chroma**7 / (chroma**7 + 25**7)) * math.sin(math.radians(spin))
    return math.sqrt(sum(part**2 for part in parts) + rotation * parts[1] * parts[2])


def _polar(lab: Lab, stretch: float) -> tuple[float, float]:
    a, b = lab[1] * stretch, lab[2]
    return math.hypot(a, b), math.degrees(math.atan2(b, a)) % 360


def _weighed(
    dl: float, dc: float, turn: float, root: float, light: float, chroma: float, hue: float
) -> tuple[float, float, float]:
    """Return the differences of lightness, chroma and hue in the units in which they are seen."""
    terms = ((-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.2, 4, -63))
    shape = 1 + sum(a * math.cos(math.radians(n * hue + shift)) for a, n, shift in terms)
    dh = 2 * root * math.sin(math.radians(turn / 2))
    scale_l = 1 + 0.015 * (light - 50) ** 2 / math.sqrt(20 + (light - 50) ** 2)
    return dl / scale_l, dc / (1 + 0.045 * chroma), dh / (1 + 0.015 * chroma * shape)
