"""Define GLB: glacial lakes of 18 regions in 11 layers: optics, terrain and radar."""

from __future__ import annotations

from ..dataset import IGNORE, Remote
from .published import benchmark_dataset
from .tree import Tree

HUB = "https://huggingface.co/datasets/Sk-21/Cryo-Bench"

GLB = benchmark_dataset(
    Tree(
        roots=("GLB", "Glacial_Lake_Bench", "Glacial-Lake-Bench"),
        images="{split}/images",
        masks="{split}/masks",
        record=("img_dir/{split}", "ann_dir/{split}"),
        suffixes=(".tif", ".tiff"),
        # The glacier region, two or three letters; NA is North Asia.
        region=r"^([A-Z]{2,3})_S2[A-D]_",
    ),
    name="glb",
    classes=("background", "glacial lake"),
    # Cryo-Bench declares the index and the terrain as light of 0.49 um, the wavelength of B2.
    bands="B2 B3 B4 B8 B11 B12 NDWI SLOPE DEM VV VH",
    upstream_bands="B2 B3 B4 B8 B11 B12 NDWI@0.49 SLOPE@0.49 DEM@0.49 VV VH",
    codes=((-1, IGNORE),),
    upstream_ignore=-1,
    mean=(
        *(0.21400237643154849, 0.2264538755100517, 0.25319849295487507, 0.28518339885690314),
        *(0.3030714130880526, 0.2797731585520111, 0.5373577892422741, 0.3246158615711826),
        *(0.425830764969469, 0.04044295133271959, 0.05490461227539277),
    ),
    std=(
        *(0.21542999694517911, 0.2083629700619588, 0.21648249557928248, 0.20320691161579535),
        *(0.2322038567976622, 0.22281646341907912, 0.33573806858840344, 0.21963599403521075),
        *(0.26245893360730677, 0.05841855121829275, 0.0661232383753074),
    ),
    class_shares=None,
    size_px=256,
    num_scenes=19_119,  # of the record; the hub's copy has six more of the test part
    gsd_m=10.0,
    source=("Kaushik et al., preprint doi:10.5194/essd-2026-474; data doi:10.5281/zenodo.17917359"),
    license="CC-BY-4.0",
    page="https://zenodo.org/records/17917359",
    collected=(
        Remote(
            f"{HUB}/resolve/main/data/GLB.tar.gz",
            "sha256:ef47a250d0bd3551c77ca1716967108c4ffa6bd56ae09f21cf02f4857ddfc085",
            "GLB.tar.gz",
        ),
    ),
    shared=(
        "Sentinel-2 scenes: 1,774 of 1,907 test chips (93 %) and 1,786 of 1,912 validation chips come "
        "from one that is also in training; its authors recommend parts of whole regions"
    ),
    acquisition=r"(S2[A-D]_\d{1,2}[A-Z]{3}_\d{8}_\d+)_L2A",
    notes=(
        "Every layer of a chip is stretched to 0..1 by itself: values are neither reflectance nor "
        "decibels, and NDWI > 0 means nothing. Arctic chips have HH and HV in the place of VV and VH, "
        "unmarked. A map without lakes has a mean IoU of about 0.48."
    ),
)
