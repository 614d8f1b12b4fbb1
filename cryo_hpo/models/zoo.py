"""The table of encoders: a card each, with what its authors published."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain

from torch import nn

from ..bands import Band, find_band
from . import remaps
from .card import Encoder
from .galileo import GROUPS, Galileo, galileo_weights
from .unet import UNet
from .vit import Vit, build_vit
from .weights import Weights


def _bands(names: str) -> tuple[Band, ...]:
    return tuple(map(find_band, names.split()))


RGB = _bands("B4 B3 B2")
S2_L1C = _bands("B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B10 B11 B12")
S2_L2A = _bands("B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B11 B12")
DROP_PATH = frozenset({"drop_path"})
# What pretraining leaves in a checkpoint beside the encoder.
MAE_REST = ("decoder_", "mask_token", "norm.")


def _build_unet(bands: Sequence[Band], *, width: int = 64) -> nn.Module:
    return UNet(len(bands), width=width)


def _build_galileo(bands: Sequence[Band], *, drop_path: float = 0.0) -> nn.Module:
    names = {band.name for band in bands}
    given = [group for group, members in GROUPS.items() if names.issuperset(members)]
    return Galileo(given, drop_path=drop_path)


# NDVI is made of two bands before they are normalised, and datasets come normalised.
_GALILEO_GROUPS = tuple(
    tuple(map(find_band, names)) for group, names in GROUPS.items() if group != "NDVI"
)
VIT_B = Vit(dim=768, depth=12, heads=12)
S12 = Vit(dim=384, depth=12, heads=6, norm_last=False)

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
        licence="Apache-2.0",
        knobs=frozenset({"width"}),
        build=_build_unet,
    ),
    Encoder(
        name="vit-scratch",
        bands=None,
        multiple=16,
        smallest=32,
        native_size=None,
        channels=(768,) * 4,
        strides=(16,) * 4,
        weights=None,
        source="arXiv:2010.11929",
        licence="Apache-2.0",
        knobs=DROP_PATH,
        build=partial(build_vit, Vit(dim=768, depth=12, heads=12, positions="learned")),
        cryo_bench={"positions": "zero"},
    ),
    Encoder(
        name="vit-b16",
        bands=RGB,
        grey=RGB,
        multiple=16,
        smallest=32,
        native_size=224,
        channels=(768,) * 4,
        strides=(16,) * 4,
        parameters=85_798_656,
        normalisation="mean and std 0.5 of values in [0, 1]",
        weights=Weights(
            file="vit/jx_vit_base_p16_224-80ecf9dd.pth",
            url="https://github.com/huggingface/pytorch-image-models/releases/tag/v0.1-vitjx",
            adapt=remaps.used,
            may_have=("head.", "pre_logits."),
        ),
        source="arXiv:2010.11929",
        licence="Apache-2.0",
        weights_licence="Apache-2.0",
        knobs=DROP_PATH,
        build=partial(build_vit, VIT_B),
    ),
    Encoder(
        name="s12-moco",
        bands=S2_L1C,
        grey=RGB,
        multiple=16,
        smallest=32,
        native_size=224,
        channels=(384,) * 4,
        strides=(16,) * 4,
        parameters=22_647_936,
        normalisation="reflectance / 10000",
        weights=Weights(
            file="ssl4eo_s12/B13_vits16_moco_0099.pth",
            url="https://drive.google.com/file/d/1LREGuI6w7Gq6Xm0jFQdxxtp8QkmLvJWk",
            entry="state_dict",
            adapt=remaps.renamed((r"^module\.base_encoder\.", "")),
            may_have=("module.momentum_encoder.", "module.predictor.", "head.", "norm."),
        ),
        source="arXiv:2211.07044",
        licence="Apache-2.0",
        weights_licence="CC-BY-4.0",
        knobs=DROP_PATH,
        build=partial(build_vit, S12),
    ),
    Encoder(
        name="prithvi-100m",
        bands=_bands("B2 B3 B4 B8A B11 B12"),
        grey=RGB,
        multiple=16,
        smallest=32,
        native_size=224,
        channels=(768,) * 4,
        strides=(16,) * 4,
        parameters=86_236_416,
        normalisation=(
            "mean 775 1081 1229 2497 2204 1611, std 1282 1270 1399 1368 1292 1155 of reflectance"
            " x 10000"
        ),
        weights=Weights(
            file="prithvi/Prithvi_100M.pt",
            url="https://huggingface.co/ibm-nasa-geospatial/Prithvi-100M",
            adapt=remaps.prithvi,
            may_have=MAE_REST,
        ),
        source="arXiv:2310.18660",
        licence="Apache-2.0",
        weights_licence="Apache-2.0",
        knobs=DROP_PATH,
        build=partial(
            build_vit,
            Vit(dim=768, depth=12, heads=12, eps=1e-5, norm_last=False, positions="cubic"),
        ),
        cryo_bench={"levels": (11,)},
    ),
    Encoder(
        name="galileo-nano",
        bands=tuple(chain.from_iterable(_GALILEO_GROUPS)),
        groups=_GALILEO_GROUPS,
        grey=tuple(map(find_band, GROUPS["S2_RGB"])),
        multiple=8,
        smallest=16,
        native_size=96,
        channels=(128,) * 4,
        strides=(8,) * 4,
        normalisation="(value - mean) / std of each band over its pretraining images",
        weights=galileo_weights(),
        source="arXiv:2502.09356",
        licence="MIT",
        weights_licence="MIT",
        knobs=DROP_PATH,
        build=_build_galileo,
    ),
)

ENCODERS: dict[str, Encoder] = {card.name: card for card in _CARDS}
