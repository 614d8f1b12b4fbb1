"""Define the cards of Prithvi-EO-2.0, THOR and the encoders of both optical and radar bands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..backbones.croma_joint import build_croma_joint
from ..backbones.terramind import build_terramind
from ..backbones.thor import Thor, build_thor
from ..backbones.vit import Vit
from ..encoder_card import Encoder
from ..weights import remap as remaps
from ..weights.published import Weights
from .vit_cards import (
    CROMA,
    CROMA_FACTS,
    CROMA_FILE,
    MAE_REST,
    RADAR,
    RGB,
    S2_L2A,
    TERRAMIND,
    TERRAMIND_FACTS,
    TERRAMIND_REST,
    named_bands,
    plain,
)

BOTH = (*S2_L2A, *RADAR)
THOR_BANDS = named_bands("B2 B3 B4 B8 B5 B6 B7 B8A B11 B12 B1 B9 VV VH HH HV")
THOR_SIZES = {  # dim, depth, heads, number of parameters with all bands
    "tiny": (192, 12, 3, 6_128_256),
    "small": (384, 12, 6, 22_873_344),
    "base": (768, 12, 12, 88_214_016),
    "large": (1024, 24, 16, 306_522_112),
}
THOR_LEVELS = {"large": {"levels": (5, 11, 17, 23)}}  # as Cryo-Bench reads it
TERRAMIND_SIZES = {
    "tiny": Vit(dim=192, depth=12, heads=3, patch_bias=False, class_token=False, modality=True),
    "small": Vit(dim=384, depth=12, heads=6, patch_bias=False, class_token=False, modality=True),
    "base": TERRAMIND,
    "large": replace(TERRAMIND, dim=1024, depth=24, heads=16),
}
TERRAMIND_PARAMETERS = {"tiny": 5_966_400, "small": 22_549_632}
TERRAMIND_JOINT = {
    "tiny": 6_102_528,
    "small": 22_821_888,
    "base": 88_028_160,
    "large": 306_114_560,
}


PRITHVI = Vit(dim=1024, depth=24, heads=16, eps=1e-5, norm_last=False, positions="cubic")
PRITHVI_SIZES = {  # without time and place as inputs; the variants that have them are others
    "300m": (PRITHVI, 304_086_016),
    "600m": (replace(PRITHVI, dim=1280, depth=32, patch=14), 631_514_880),
}


def _prithvi(size: str) -> Encoder:
    vit, parameters = PRITHVI_SIZES[size]
    repository = f"ibm-nasa-geospatial/Prithvi-EO-2.0-{size.upper()}"
    return plain(
        f"prithvi-v2-{size}",
        vit,
        bands=named_bands("B2 B3 B4 B8A B11 B12"),
        cryo_bench_bands=named_bands("B2 B3 B4 B8 B11 B12"),
        gray=RGB,
        normalization=(
            "mean 1087 1342 1433 2734 1958 1363, std 2248 2179 2178 1850 1242 1049 of reflectance "
            "x 10000"
        ),
        parameters=parameters,
        weights=Weights(
            file=f"prithvi/Prithvi_EO_V2_{size.upper()}.pt",
            url=f"https://huggingface.co/{repository}",
            address=f"hf://{repository}/Prithvi_EO_V2_{size.upper()}.pt",
            adapt=remaps.remap_prithvi,
            may_have=MAE_REST,
        ),
        source="arXiv:2412.02732",
        license="Apache-2.0",
        weights_license="Apache-2.0",
        cryo_bench={"time_step": "middle"},
    )


def _thor(size: str) -> Encoder:
    dim, depth, heads, parameters = THOR_SIZES[size]
    return plain(
        f"thor-{size}",
        Thor(dim=dim, depth=depth, heads=heads),
        build_thor,
        bands=THOR_BANDS,
        cryo_bench_bands=named_bands("B2 B3 B4 B8 B11 B12 VV VH"),
        any_subset=True,
        gray=RGB,
        parameters=parameters,
        normalization=(
            "mean and std of each band: reflectance 0 to 1 (blue 0.177 / 0.265, near infrared "
            "0.308 / 0.226), radar in dB (VV -13.0 / 5.0, VH -20.7 / 5.9)"
        ),
        weights=Weights(
            file=f"thor/thor_v1_vit_{size}.pt",
            url=f"https://huggingface.co/FM4CS/THOR-1.0-{size}",
            address=f"hf://FM4CS/THOR-1.0-{size}/thor_v1_vit_{size}.pt",
            adapt=remaps.remap_thor,
            may_have=("patch_embed.", "ind_patch_embed.", "band_embed.", "encoder_slopes"),
        ),
        source="arXiv:2601.16011",
        license="MIT",
        weights_license="Apache-2.0" if size == "tiny" else "not stated",
        cryo_bench={"counts_present": True, **THOR_LEVELS.get(size, {})},
    )


def _terramind_file(size: str) -> Weights:
    return Weights(
        file=f"terramind/TerraMind_v1_{size}.pt",
        url=f"https://huggingface.co/ibm-esa-geospatial/TerraMind-1.0-{size}",
        address=f"hf://ibm-esa-geospatial/TerraMind-1.0-{size}/TerraMind_v1_{size}.pt",
        adapt=remaps.remap_terramind,
        may_have=TERRAMIND_REST,
    )


def _terramind_joint(size: str) -> Encoder:
    optical = TERRAMIND_FACTS["cryo_bench_bands"]
    facts: dict[str, Any] = {
        **TERRAMIND_FACTS,
        "bands": BOTH,
        "cryo_bench_bands": (*optical, *RADAR),
        "normalization": (
            f"{TERRAMIND_FACTS['normalization']}; VV VH in dB: mean -12.6 -20.3, std 5.2 5.9"
        ),
    }
    return plain(
        f"terramind-{size}-s2s1",
        TERRAMIND_SIZES[size],
        build_terramind,
        several_sensors=True,
        parameters=TERRAMIND_JOINT[size],
        weights=_terramind_file(size),
        **facts,
    )


def _terramind_optical(size: str) -> Encoder:
    return plain(
        f"terramind-{size}",
        TERRAMIND_SIZES[size],
        parameters=TERRAMIND_PARAMETERS[size],
        weights=_terramind_file(size),
        **TERRAMIND_FACTS,
    )


SENSOR_CARDS = (
    *(_prithvi(size) for size in PRITHVI_SIZES),
    *(_thor(size) for size in THOR_SIZES),
    plain(
        "croma-joint",
        replace(CROMA, depth=12),
        build_croma_joint,
        bands=BOTH,
        several_sensors=True,
        needs_all=True,
        gray=RGB,
        parameters=655_765_504,
        weights=Weights(
            **{
                **CROMA_FILE,
                "entry": "s1_encoder,s2_encoder,joint_encoder",
                "adapt": remaps.remap_croma_joint,
            }
        ),
        **CROMA_FACTS,
    ),
    *(_terramind_optical(size) for size in TERRAMIND_PARAMETERS),
    *(_terramind_joint(size) for size in TERRAMIND_JOINT),
)
"""Cards of these encoders."""
