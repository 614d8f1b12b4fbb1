"""List the encoders, each with a card of the facts that its authors published."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain

from torch import nn

from ...bands import Band, find_band
from ..backbones.galileo import GROUPS, Galileo, galileo_weights
from ..backbones.presto import GROUPS as PRESTO_GROUPS
from ..backbones.presto import STRIDES, build_presto, presto_weights
from ..backbones.swin import Swin, build_gfm, build_satlas
from ..backbones.unet import UNet
from ..backbones.vit import Vit
from ..encoder_card import Encoder
from ..weights import remap as remaps
from ..weights.published import Weights
from .sensor_cards import SENSOR_CARDS
from .vit_cards import DROP_PATH, RGB, VIT_CARDS, named_bands, plain


def _build_unet(bands: Sequence[Band], *, width: int = 64) -> nn.Module:
    return UNet(len(bands), width=width)


def _build_galileo(bands: Sequence[Band], *, drop_path: float = 0.0) -> nn.Module:
    names = {band.name for band in bands}
    given = [group for group, members in GROUPS.items() if names.issuperset(members)]
    return Galileo(given, drop_path=drop_path)


# NDVI is computed from two bands before normalization, and datasets come normalized.
_GALILEO_GROUPS = tuple(
    tuple(map(find_band, names)) for group, names in GROUPS.items() if group != "NDVI"
)

# Terrain, weather and NDVI stay out: datasets hold them in other units, or not at all.
_PRESTO_GROUPS = tuple(
    tuple(map(find_band, names))
    for group, names in PRESTO_GROUPS.items()
    if group not in ("ERA5", "SRTM", "NDVI")
)

_CARDS = (
    Encoder(
        name="unet",
        bands=None,
        multiple=16,
        smallest=16,
        native_size=None,
        channels=(64, 128, 256, 512, 512),
        strides=(1, 2, 4, 8, 16),
        weights=None,
        source="doi:10.1007/978-3-319-24574-4_28",
        license="Apache-2.0",
        knobs=frozenset({"width"}),
        build=_build_unet,
    ),
    plain(
        "vit-scratch",
        Vit(dim=768, depth=12, heads=12, positions="learned"),
        bands=None,
        native_size=None,
        weights=None,
        source="arXiv:2010.11929",
        license="Apache-2.0",
        cryo_bench={"positions": "zero"},
    ),
    plain(
        "vit-b16",
        Vit(dim=768, depth=12, heads=12),
        bands=RGB,
        gray=RGB,
        normalization="mean and std 0.5 of values in [0, 1]",
        parameters=85_798_656,
        weights=Weights(
            file="vit/jx_vit_base_p16_224-80ecf9dd.pth",
            url="https://github.com/huggingface/pytorch-image-models/releases/tag/v0.1-vitjx",
            address=(
                "https://github.com/huggingface/pytorch-image-models/releases/download/"
                "v0.1-vitjx/jx_vit_base_p16_224-80ecf9dd.pth"
            ),
            sha256="80ecf9dd",
            adapt=remaps.drop_unused,
            may_have=("head.", "pre_logits."),
        ),
        source="arXiv:2010.11929",
        license="Apache-2.0",
        weights_license="Apache-2.0",
    ),
    *VIT_CARDS,
    *SENSOR_CARDS,
    Encoder(
        name="gfm-swin",
        bands=RGB,
        gray=RGB,
        multiple=32,
        smallest=64,
        native_size=192,
        channels=(128, 256, 512, 1024),
        strides=(4, 8, 16, 32),
        normalization="mean and std of ImageNet",
        parameters=86_723_128,
        weights=Weights(
            file="gfm/gfm.pth",
            url="https://github.com/mmendiet/GFM",
            entry="model",
            adapt=remaps.remap_swin,
            may_have=("norm.", "decoder.", "mask_token", "projector.", "teacher."),
        ),
        source="arXiv:2302.04476",
        license="Apache-2.0",
        weights_license="not stated",
        knobs=DROP_PATH,
        build=partial(build_gfm, Swin(window=6, size=192)),
        cryo_bench={"merged": True, "drop_path": 0.1},
    ),
    Encoder(
        name="satlasnet-swinv2b",
        bands=named_bands("B4 B3 B2 B5 B6 B7 B8 B11 B12"),
        cryo_bench_bands=named_bands("B2 B3 B4 B5 B6 B7 B8 B11 B12"),
        gray=RGB,
        multiple=32,
        smallest=64,
        native_size=128,
        channels=(128, 256, 512, 1024),
        strides=(4, 8, 16, 32),
        normalization="true colors / 255, other bands / 8160, clipped to [0, 1]",
        parameters=86_926_888,
        weights=Weights(
            file="satlas/sentinel2_swinb_si_ms.pth",
            url="https://huggingface.co/allenai/satlas-pretrain",
            address="hf://allenai/satlas-pretrain/sentinel2_swinb_si_ms.pth",
            adapt=remaps.remap_satlas,
            may_have=("norm.", "head.", "fpn.", "upsample.", "intermediates.", "heads."),
        ),
        source="arXiv:2211.15660",
        license="Apache-2.0",
        weights_license="Apache-2.0",
        knobs=DROP_PATH,
        build=partial(build_satlas, Swin(window=8, size=128)),
        cryo_bench={"drop_path": 0.5},
    ),
    Encoder(
        name="galileo-nano",
        bands=tuple(chain.from_iterable(_GALILEO_GROUPS)),
        groups=_GALILEO_GROUPS,
        gray=tuple(map(find_band, GROUPS["S2_RGB"])),
        multiple=8,
        smallest=16,
        native_size=96,
        channels=(128,) * 4,
        strides=(8,) * 4,
        normalization="(value - mean) / std of each band over its pretraining images",
        parameters=892_608,
        weights=galileo_weights(),
        source="arXiv:2502.09356",
        license="MIT",
        weights_license="MIT",
        knobs=DROP_PATH,
        build=_build_galileo,
    ),
    Encoder(
        name="presto",
        bands=tuple(chain.from_iterable(_PRESTO_GROUPS)),
        groups=_PRESTO_GROUPS,
        gray=tuple(map(find_band, GROUPS["S2_RGB"])),
        multiple=4,
        smallest=8,
        native_size=None,
        channels=(128,) * 4,
        strides=STRIDES,
        normalization="radar (dB + 25) / 25, optical bands reflectance x 10000 / 10000",
        parameters=399_808,
        weights=presto_weights(),
        source="arXiv:2304.14065",
        license="MIT",
        weights_license="MIT",
        knobs=frozenset(),
        build=build_presto,
    ),
)

ENCODERS: dict[str, Encoder] = {card.name: card for card in _CARDS}
