"""Define GSDD: supraglacial debris worldwide, Sentinel-2 with four ancillary layers."""

from __future__ import annotations

from ..dataset import IGNORE
from .published import benchmark_dataset
from .tree import Tree

GSDD = benchmark_dataset(
    Tree(
        roots=("GSDD", "GSSD"),
        images="{split}/image",
        masks="{split}/mask",
        suffixes=(".tif", ".tiff"),
        region=r"(?<![A-Za-z0-9])(T?\d{2}[C-X][A-Z]{2})(?![A-Za-z0-9])",  # a Sentinel-2 tile
    ),
    name="gsdd",
    classes=("background", "supraglacial debris"),
    # Slope, elevation and velocity are among the last four; their order is not published, so
    # they are numbered. Cryo-Bench gives them the names of bands near 0.7 and 0.86 um.
    bands="B2 B3 B4 B8 B11 B12 AUX1 AUX2 AUX3 AUX4",
    upstream_bands="B2 B3 B4 B8 B11 B12 B8A B5 B6 B7",
    codes=((-1, IGNORE),),
    upstream_ignore=-1,
    mean=(0.2004, 0.2163, 0.2235, 0.2415, 0.1830, 0.1761, 0.1813, 0.4101, 0.4689, 0.1117),
    std=(0.1966, 0.1941, 0.1919, 0.1762, 0.1627, 0.1567, 0.3303, 0.2306, 0.3337, 0.1794),
    class_shares=(0.8662, 0.1338),
    size_px=512,
    gsd_m=10.0,
    source="Article S2666017225001257 (Science of Remote Sensing 2025); data doi:10.5281/zenodo.17161810",
    license="unverified: see the record",
    page="https://zenodo.org/records/17161810",
    shared="unknown: no names or footprints are published",
    notes="Pixels are scaled to 0..1. AUX1 to AUX4 hold slope, elevation and velocity in unknown order.",
)
