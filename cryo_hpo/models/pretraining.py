"""Hold the mean and standard deviation of encoders' pretraining images, band by band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

Unit = Literal["reflectance", "colors"]
UNITS: Mapping[Unit, str] = MappingProxyType(
    {
        "reflectance": "reflectance (0 to 1, or counts of 1/10000), radar in decibels",
        "colors": "photographs of 8 bits, or their values from 0 to 1",
    }
)


class Statistics(NamedTuple):
    """Hold the statistics of an encoder's pretraining images."""

    unit: Unit
    """Kind of the values of optical bands, from 0 to 1; radar is in decibels."""
    bands: Mapping[str, tuple[float, float]]
    """Band -> mean and standard deviation."""


def _of(
    names: str, mean: Sequence[float], std: Sequence[float], unit: float = 1.0
) -> dict[str, tuple[float, float]]:
    """Return band -> (mean, std), each divided by the value that stands for 1."""
    pairs = zip(names.split(), mean, std, strict=True)
    return {name: (m / unit, s / unit) for name, m, s in pairs}


_DN = 10_000.0
_RGB = "B4 B3 B2"
_S2_L1C = "B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B10 B11 B12"
# Source: ImageNet, as torchvision normalizes it.
_IMAGENET = Statistics("colors", _of(_RGB, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
# Source: torchgeo, ViTSmall16_Weights: reflectance x 10000, divided by 10000.
_SSL4EO = Statistics("reflectance", _of(_S2_L1C, (0.0,) * 13, (1.0,) * 13))
# Source: FM4CS/THOR, arXiv:2601.16011; radar of the IW mode.
_THOR = Statistics(
    "reflectance",
    {
        "B1": (0.182569, 0.282463),
        "B2": (0.17662, 0.26452),
        "B3": (0.195923, 0.252949),
        "B4": (0.213948, 0.25918),
        "B5": (0.263378, 0.272771),
        "B6": (0.300818, 0.248175),
        "B7": (0.313144, 0.235432),
        "B8": (0.308133, 0.226434),
        "B8A": (0.320993, 0.223274),
        "B9": (0.322589, 0.235857),
        "B11": (0.22155, 0.171606),
        "B12": (0.175772, 0.156223),
        "VV": (-12.985, 5.0062),
        "VH": (-20.6958, 5.8688),
        "HH": (-13.9485, 6.8015),
        "HV": (-22.4575, 6.9106),
    },
)
# Source: terratorch, TerraMind S2L2A and S1GRD.
_TERRAMIND = Statistics(
    "reflectance",
    {
        **_of(
            "B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B11 B12",
            (
                1390.5,
                1503.3,
                1718.2,
                1853.9,
                2199.1,
                2780.0,
                2987.0,
                3083.2,
                3132.2,
                3163.0,
                2424.9,
                1857.6,
            ),
            (
                2106.8,
                2141.1,
                2039.0,
                2134.1,
                2085.3,
                1889.9,
                1820.3,
                1871.9,
                1753.8,
                1797.4,
                1434.3,
                1334.3,
            ),
            _DN,
        ),
        "VV": (-12.599, 5.195),
        "VH": (-20.293, 5.89),
    },
)
# Source: nasaharvest/presto, arXiv:2304.14065: (dB + 25) / 25 and reflectance.
_PRESTO = Statistics(
    "reflectance",
    {
        **dict.fromkeys(
            ["B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"], (0.0, 1.0)
        ),
        **dict.fromkeys(("VV", "VH"), (-25.0, 25.0)),
    },
)
_HLS = "B2 B3 B4 B8A B11 B12"

_PRITHVI_2 = Statistics(
    "reflectance",
    _of(_HLS, (1087, 1342, 1433, 2734, 1958, 1363), (2248, 2179, 2178, 1850, 1242, 1049), _DN),
)
PRETRAINING: Mapping[str, Statistics] = MappingProxyType(
    {
        "gfm-swin": _IMAGENET,
        "scale-mae-l": _IMAGENET,
        "vit-b16": Statistics("colors", _of(_RGB, (0.5,) * 3, (0.5,) * 3)),
        # Source: OpenAI CLIP, arXiv:2103.00020.
        "remoteclip-b32": Statistics(
            "colors",
            _of(_RGB, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ),
        # Source: terratorch, Prithvi-EO-1.0 and 2.0.
        "prithvi-100m": Statistics(
            "reflectance",
            _of(
                _HLS, (775, 1081, 1229, 2497, 2204, 1611), (1282, 1270, 1399, 1368, 1292, 1155), _DN
            ),
        ),
        **dict.fromkeys(("prithvi-v2-300m", "prithvi-v2-600m"), _PRITHVI_2),
        **dict.fromkeys(("s12-moco", "s12-dino", "s12-mae", "s12-data2vec"), _SSL4EO),
        **dict.fromkeys((f"thor-{size}" for size in ("tiny", "small", "base", "large")), _THOR),
        **dict.fromkeys(
            (
                f"terramind-{size}{radar}"
                for size in ("tiny", "small", "base", "large")
                for radar in ("", "-s2s1")
            ),
            _TERRAMIND,
        ),
        "presto": _PRESTO,
    }
)
"""Encoder -> statistics. Others have none that are fixed: CROMA and SpectralGPT scaled every image."""
