"""Define CaFFe: zones of marine-terminating glaciers in radar amplitude, from seven missions."""

from __future__ import annotations

from ..dataset import IGNORE, Remote
from .published import benchmark_dataset
from .tree import Tree

CAFFE = benchmark_dataset(
    Tree(
        roots=("CaFFe",),
        images="images/{split}",
        masks="labels/{split}",
        suffixes=(".png",),
        region=r"^([A-Za-z]+)_\d{4}-\d{2}-\d{2}",  # the glacier: COL_2011-11-13_TDX_7_1_092
    ),
    name="caffe",
    # "No data" (radar shadow, layover, outside) is a class of its own in Cryo-Bench's score.
    classes=("no data", "rock", "glacier", "ocean and ice melange"),
    bands="SAR",  # C, X and L band, 8 bits
    upstream_bands="VV",
    # The published zones are gray values; Cryo-Bench's copy has 0 to 3, and ignores -1.
    codes=((64, 1), (127, 2), (254, 3), (-1, IGNORE)),
    upstream_ignore=-1,
    mean=(73.72,),
    std=(80.71,),
    class_shares=(0.0829, 0.1501, 0.5627, 0.2043),
    size_px=1024,  # the tile; scenes are larger
    num_scenes=681,
    gsd_m=None,
    gsd_in_name=r"_(\d+)_\d+_\d+(?:_|$)",  # 7 m to 20 m: COL_2011-11-13_TDX_7_1_092
    # The ocean's pixels beside the glacier, as in the authors' code.
    front=("ocean and ice melange", "glacier"),
    source="Gourmelon et al. 2022, doi:10.5194/essd-14-4287-2022; data doi:10.1594/PANGAEA.940950",
    license="CC-BY-4.0",
    page="https://doi.pangaea.de/10.1594/PANGAEA.940950",
    downloads=(
        Remote(
            "https://download.pangaea.de/dataset/940950/files/data_raw.zip", None, "data_raw.zip"
        ),
    ),
    shared="glaciers: training and validation see the same ones, the test split sees others (as the authors split them)",
    notes="The archive has sar_images/ and zones/; put them below images/ and labels/, by split.",
)
