"""Define GLD: glacial lakes of the Himalaya in ten layers: optics, coherence, heat, terrain."""

from __future__ import annotations

from ..dataset import IGNORE
from .published import benchmark_dataset
from .tree import Tree

GLD = benchmark_dataset(
    Tree(
        roots=("GLD", "GLNet_Dataset"),
        images="{split}/image",
        masks="{split}/mask",
        suffixes=(".tif", ".tiff"),
        region=r"(?<![A-Za-z0-9])(T?\d{2}[C-X][A-Z]{2})(?![A-Za-z0-9])",  # a Sentinel-2 tile
    ),
    name="gld",
    classes=("background", "glacial lake"),
    # The authors used coherence, heat, visible, near and shortwave infrared, elevation, slope and
    # NDWI (doi:10.5194/egusphere-egu22-2904: 300 x 300 x 10). The order of the layers follows from
    # the published means: 18,646 is a raw thermal count, 25 a slope in degrees, 4,865 a height.
    # Cryo-Bench gives them the names of bands near 0.7 and 0.86 um, and calls coherence VV.
    bands="B2 B3 B4 B8 B11 TIR COH SLOPE DEM NDWI",
    upstream_bands="B2 B3 B4 B8 B11 B8A VV B5 B6 B7",
    codes=((-1, IGNORE),),
    upstream_ignore=-1,
    mean=(1741.88, 1683.51, 1765.57, 1910.06, 1588.44, 18645.66, 174.70, 25.45, 4865.18, 124.71),
    std=(1443.36, 1463.06, 1562.94, 1451.65, 1131.96, 2583.56, 30.97, 14.99, 561.26, 29.54),
    class_shares=(0.9703, 0.0297),
    size_px=300,
    gsd_m=10.0,
    source="Kaushik et al. 2022, doi:10.1016/j.jag.2022.103085; data doi:10.5281/zenodo.16986936",
    license="CC-BY-4.0 and Apache-2.0",
    page="https://zenodo.org/records/16986936",
    shared="unknown: how many Sentinel-2 scenes the parts share is not published",
    notes="The layers after B11 are named from their statistics, not by the record.",
)
