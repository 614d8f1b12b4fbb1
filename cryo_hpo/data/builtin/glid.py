"""Define GLID: glacial lakes of the Himalaya in true color, from four satellites."""

from __future__ import annotations

from ..dataset import IGNORE
from .published import benchmark_dataset
from .tree import Tree

GLID = benchmark_dataset(
    Tree(roots=("GLID",), images="{split}/images", masks="{split}/masks"),
    name="glid",
    classes=("background", "glacial lake"),
    # Red, green and blue of WorldView-2, Gaofen-2, Sentinel-2 and Landsat-8, stretched to 8 bits;
    # named after the nearest bands of Sentinel-2, whose centers are within some nanometers.
    bands="B4 B3 B2",
    upstream_bands="B4 B3 B2",
    # The published masks write lakes as 255; Cryo-Bench's copy has 1, and ignores -1.
    codes=((255, 1), (-1, IGNORE)),
    upstream_ignore=-1,
    # Full digits are public for red alone.
    mean=(120.08558725516001, 124.72, 123.14),
    std=(74.64604398949137, 74.35, 76.55),
    class_shares=None,
    size_px=512,
    num_scenes=18_367,
    gsd_m=None,  # 2 m to 30 m, mixed and not recorded
    source="Ma, Li and Jiang 2025, Journal of Hydrology 657, 133072; data doi:10.5281/zenodo.14838695",
    license="CC-BY-4.0",
    page="https://zenodo.org/records/14838695",
    shared="unknown: 36 scenes were cut into 18,367 pieces, and the names do not say which",
    notes=(
        "The record has a training and a validation part; how Cryo-Bench makes three of them is "
        "not published. Names are numbers and files carry no coordinates: no split by region."
    ),
)
