"""Define SICD: stages of sea ice development in Sentinel-1 scenes of the AI4Arctic challenge."""

from __future__ import annotations

from ..dataset import IGNORE, Remote
from .published import benchmark_dataset
from .tree import Tree

HUB = "https://huggingface.co/datasets/torchgeo/ai4artic-sea-ice-challenge"

SICD = benchmark_dataset(
    Tree(
        roots=("SICD", "AI4Arctic"),
        images="{split}/images",
        masks="{split}/masks",
        suffixes=(".tif", ".tiff"),
        region=r"(\d{8}T\d{6})",  # acquisition time of Sentinel-1: the scene
    ),
    name="sicd",
    classes=(
        "open water",
        "new ice",
        "young ice",
        "thin first-year ice",
        "thick first-year ice",
        "old ice",
    ),
    # AI4Arctic publishes HH and HV; Cryo-Bench declares them VV and VH. Its files have a third
    # layer, which optical models get as B2 (and the others as B4 and B3); its content is not
    # published, so only the first two are read here.
    bands="HH HV",
    upstream_bands="VV VH",
    codes=((255, IGNORE),),
    upstream_ignore=255,
    mean=(-0.16381396, -0.22024433),
    std=(0.61435765, 0.37416646),
    class_shares=(0.65, 0.01, 0.025, 0.021, 0.145, 0.132),
    size_px=512,  # the tile; scenes are larger
    centered=True,
    gsd_m=80.0,
    source="AI4Arctic Sea Ice Challenge (data.dtu.dk, 21316608); doi:10.5194/egusphere-2023-2648",
    license="CC-BY-4.0",
    page=HUB,
    # Checksums as published by torchgeo, which hosts the files.
    downloads=(
        Remote(
            f"{HUB}/resolve/main/metadata.csv",
            "md5:4b610118c2d182325ec7599434b37deb",
            "metadata.csv",
        ),
        Remote(
            f"{HUB}/resolve/main/train.tar.gzaa",
            "md5:847ea12d0a5100f0a00af4bb110404b4",
            "train.tar.gzaa",
            part_of="train.tar.gz",
        ),
        Remote(
            f"{HUB}/resolve/main/train.tar.gzab",
            "md5:3f4770c586487dc681d1d216c7003f2c",
            "train.tar.gzab",
            part_of="train.tar.gz",
        ),
        Remote(
            f"{HUB}/resolve/main/test.tar.gz", "md5:bca98ec6734783aa6f005382549a0d21", "test.tar.gz"
        ),
    ),
    shared="unknown: how Cryo-Bench divided the scenes is not published",
    notes=(
        "The hub has NetCDF scenes; Cryo-Bench reads GeoTIFFs made from them, whole scenes of about "
        "5,200 x 5,000 pixels. Its first revision scored only the center of each: those numbers are "
        "of other pixels."
    ),
)
