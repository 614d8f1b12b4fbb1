"""Define Shelf-Bench: extent of Antarctic ice shelves in radar images of four missions."""

from __future__ import annotations

from .published import benchmark_dataset
from .tree import Tree

SHELF_BENCH = benchmark_dataset(
    Tree(
        roots=("Shelf-Bench", "Shelf_Bench", "ShelfBench"),
        images="{split}/images",
        masks="{split}/masks",
        suffixes=(".png",),
        region=r"^(.+?)__\d+_",  # the radar scene: <scene>__<padH>_<padW>_<i>_<y>_<x>
    ),
    name="shelf-bench",
    classes=("background", "ice shelf"),
    # HH of Sentinel-1, VV of ERS and Envisat. Cryo-Bench gives the layer twice, as blue light (B2)
    # and as VV; here its declared bands have it once, as blue light.
    bands="SAR",
    upstream_bands="B2",
    codes=((255, 1),),
    upstream_ignore=-1,
    # The authors' statistics of their training part, 0.47684 and 0.27794 of 0..1, in 8 bits.
    mean=(121.5942,),
    std=(70.8747,),
    upstream_statistics=(127.5, 127.5),  # 0.5 and 0.5 of 0..1
    class_shares=None,
    size_px=256,
    gsd_m=None,  # 30 m (ERS, Envisat) and 40 m (Sentinel-1)
    source="Baumhoer et al., preprint doi:10.5194/essd-2025-758; data doi:10.5281/zenodo.20430768",
    license="unverified: see the record",
    page="https://zenodo.org/records/20430768",
    shared=(
        "unknown: by their names training, validation and test hold other radar scenes, but a shelf "
        "may occur in several, at other dates"
    ),
    notes=(
        "Each patch is in decibels, clipped to its own 2nd to 98th percentile and stretched to 8 bits; "
        "0 is also the padding at the bottom and on the right, which counts as background."
    ),
)
