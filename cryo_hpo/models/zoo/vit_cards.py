"""Define the cards of the plain vision transformers, with facts that their authors published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from ...bands import Band, find_band
from ..backbones.beit import Beit, build_data2vec
from ..backbones.dofa import build_dofa
from ..backbones.ramen import RamenBlocks, build_ramen
from ..backbones.spectralgpt import build_spectralgpt
from ..backbones.thor import Thor
from ..backbones.vit import Vit, build_vit
from ..backbones.vit_blocks import choose_levels
from ..encoder_card import Encoder
from ..weights import mirrors
from ..weights import remap as remaps
from ..weights.published import Weights


def named_bands(names: str) -> tuple[Band, ...]:
    """Return the bands of names that are separated by spaces."""
    return tuple(map(find_band, names.split()))


RGB = named_bands("B4 B3 B2")
RADAR = named_bands("VV VH")
VV = named_bands("VV")
S2_L1C = named_bands("B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B10 B11 B12")
S2_L2A = named_bands("B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B11 B12")
DROP_PATH = frozenset({"drop_path"})
# Keys that checkpoints of pretraining hold beside the encoder.
MAE_REST = ("decoder_", "mask_token", "norm.")
CLIP_REST = (
    *("visual.ln_post.", "visual.proj", "transformer.", "token_embedding.", "positional_embedding"),
    *("ln_final.", "text_projection", "logit_scale"),
)


def plain(
    name: str,
    vit: Vit | RamenBlocks | Thor,
    build: Callable[..., nn.Module] = build_vit,
    **rest: Any,
) -> Encoder:
    """Return the card of a plain vision transformer, with strides and crop sizes filled in."""
    num_levels = len(vit.levels or choose_levels(vit.depth))
    filled = {
        "multiple": vit.patch,
        "smallest": 2 * vit.patch,
        "native_size": vit.size,
        "channels": (vit.dim,) * num_levels,
        "strides": (vit.patch,) * num_levels,
        "knobs": DROP_PATH,
        "build": partial(build, vit),
    }
    return Encoder(name=name, **{**filled, **rest})


S12 = Vit(dim=384, depth=12, heads=6, norm_last=False, positions="planar")
S12_FACTS: dict[str, Any] = {
    "source": "arXiv:2211.07044",
    "license": "Apache-2.0",
    "weights_license": "CC-BY-4.0",
    "normalization": "reflectance / 10000",
}
CROMA = Vit(
    dim=1024,
    depth=24,
    heads=16,
    eps=1e-5,
    qkv_bias=False,
    patch=8,
    size=120,
    positions="alibi",
    class_token=False,
)
CROMA_FACTS: dict[str, Any] = {
    "normalization": "each band clipped to mean +- 2 std and scaled to [0, 1]",
    "source": "arXiv:2311.00566",
    "license": "MIT",
    "weights_license": "MIT",
}
CROMA_FILE: dict[str, Any] = {
    "file": "croma/CROMA_large.pt",
    "url": "https://huggingface.co/antofuller/CROMA",
    "address": "hf://antofuller/CROMA/CROMA_large.pt",
    "adapt": remaps.remap_croma,
}
TERRAMIND = Vit(
    dim=768,
    depth=12,
    heads=12,
    qkv_bias=False,
    gated=True,
    patch_bias=False,
    class_token=False,
    modality=True,
)
TERRAMIND_FACTS: dict[str, Any] = {
    "bands": S2_L2A,
    "cryo_bench_bands": named_bands("B1 B2 B3 B4 B5 B6 B7 B8 B8A B10 B11 B12"),
    "gray": RGB,
    "normalization": (
        "mean 1390 1503 1718 1854 2199 2780 2987 3083 3132 3164 2425 1858, std 2107 2141 2039 2134 "
        "2085 1890 1820 1872 1754 1797 1434 1334 of reflectance x 10000"
    ),
    "source": "arXiv:2504.11171",
    "license": "Apache-2.0",
    "weights_license": "Apache-2.0",
}
TERRAMIND_REST = ("encoder_embeddings.", "optical.", "sar.", "decoder", "mask_token", "to_logits.")

VIT_CARDS = (
    plain(
        "croma-optical",
        CROMA,
        bands=S2_L2A,
        gray=RGB,
        parameters=303_025_152,
        weights=Weights(**CROMA_FILE, entry="s2_encoder"),
        cryo_bench={"levels": (3, 5, 7, 11)},
        **CROMA_FACTS,
    ),
    plain(
        "croma-sar",
        replace(CROMA, depth=12),
        bands=RADAR,
        gray=VV,
        parameters=151_251_968,
        weights=Weights(**CROMA_FILE, entry="s1_encoder"),
        **CROMA_FACTS,
    ),
    plain(
        "dofa-base",
        Vit(dim=768, depth=12, heads=12),
        build_dofa,
        bands=None,
        spectral=True,
        coded=frozenset({"sar"}),
        gray=RGB,
        normalization="mean and std of each sensor's bands",
        parameters=111_312_128,
        weights=Weights(
            file="dofa/DOFA_ViT_base_e100.pth",
            url="https://huggingface.co/earthflow/DOFA",
            address="hf://earthflow/DOFA/DOFA_ViT_base_e100.pth",
            adapt=remaps.drop_unused,
            may_miss=("norm.",),
            may_have=("decoder", "mask_token", "projector.", "fc_norm.", "head."),
        ),
        source="arXiv:2403.15356",
        license="MIT",
        weights_license="CC-BY-4.0",
    ),
    plain(
        "prithvi-100m",
        Vit(dim=768, depth=12, heads=12, eps=1e-5, norm_last=False, positions="cubic"),
        bands=named_bands("B2 B3 B4 B8A B11 B12"),
        gray=RGB,
        normalization=(
            "mean 775 1081 1229 2497 2204 1611, std 1282 1270 1399 1368 1292 1155 of reflectance "
            "x 10000"
        ),
        parameters=86_386_944,
        weights=Weights(
            file="prithvi/Prithvi_100M.pt",
            url="https://huggingface.co/ibm-nasa-geospatial/Prithvi-EO-1.0-100M",
            address="hf://ibm-nasa-geospatial/Prithvi-EO-1.0-100M/Prithvi_EO_V1_100M.pt",
            adapt=remaps.remap_prithvi,
            may_have=MAE_REST,
        ),
        source="arXiv:2310.18660",
        license="Apache-2.0",
        weights_license="Apache-2.0",
        cryo_bench={"levels": (11,)},
        later={"time_step": "middle"},
        later_bands=named_bands("B2 B3 B4 B8A"),
    ),
    plain(
        "remoteclip-b32",
        Vit(
            dim=768,
            depth=12,
            heads=12,
            eps=1e-5,
            norm_last=False,
            patch=32,
            patch_bias=False,
            positions="learned",
            pre_norm=True,
        ),
        bands=RGB,
        gray=RGB,
        normalization="mean and std of CLIP's images",
        parameters=87_454_464,
        weights=Weights(
            file="remoteclip/RemoteCLIP-ViT-B-32.pt",
            url="https://huggingface.co/chendelong/RemoteCLIP",
            address="hf://chendelong/RemoteCLIP/RemoteCLIP-ViT-B-32.pt",
            adapt=remaps.remap_clip,
            may_have=CLIP_REST,
        ),
        source="arXiv:2306.11029",
        license="Apache-2.0",
        weights_license="not stated",
    ),
    plain(
        "scale-mae-l",
        Vit(dim=1024, depth=24, heads=16, norm_last=False, positions="flat"),
        bands=RGB,
        gray=RGB,
        normalization="mean and std of ImageNet",
        parameters=303_097_856,
        weights=Weights(
            file="scale_mae/scalemae-vitlarge-800.pth",
            url="https://github.com/bair-climate-initiative/scale-mae/releases/tag/base-800",
            address=(
                "https://github.com/bair-climate-initiative/scale-mae/releases/download/base-800/"
                "scalemae-vitlarge-800.pth"
            ),
            entry="model",
            adapt=remaps.drop_unused,
            may_have=("pos_embed", "fpn.", "fcn_", *MAE_REST),
        ),
        source="arXiv:2212.14532",
        license="CC-BY-NC-4.0",
        weights_license="not stated",
    ),
    plain(
        "spectralgpt",
        Vit(dim=768, depth=12, heads=12, eps=1e-5, norm_last=False, patch=8, size=128),
        build_spectralgpt,
        bands=S2_L2A,
        gray=RGB,
        channels=(4 * 768,) * 4,
        normalization="each band clipped to mean +- 2 std",
        parameters=85_402_368,
        weights=Weights(
            file="spectralgpt/SpectralGPT+.pth",
            url="https://zenodo.org/records/8412455",
            address="https://zenodo.org/records/8412455/files/SpectralGPT%2B.pth",
            entry="model",
            adapt=remaps.remap_spectralgpt,
            may_have=MAE_REST,
        ),
        source="arXiv:2311.07113",
        license="not stated",
        weights_license="not stated",
        cryo_bench={"drop_path": 0.5},
    ),
    plain(
        "s12-moco",
        S12,
        bands=S2_L1C,
        gray=RGB,
        parameters=22_647_936,
        weights=Weights(
            file="ssl4eo_s12/B13_vits16_moco_0099.pth",
            url="https://drive.google.com/file/d/1LREGuI6w7Gq6Xm0jFQdxxtp8QkmLvJWk",
            entry="state_dict",
            adapt=remaps.rename_keys((r"^module\.base_encoder\.", "")),
            may_have=("module.momentum_encoder.", "module.predictor.", "head.", "norm."),
            mirror=mirrors.MOCO,
        ),
        **S12_FACTS,
    ),
    plain(
        "s12-dino",
        replace(S12, positions="dino"),
        bands=S2_L1C,
        gray=RGB,
        parameters=22_647_936,
        weights=Weights(
            file="ssl4eo_s12/B13_vits16_dino_0099_ckpt.pth",
            url="https://drive.google.com/file/d/1CseO5vvMReGlAulm5o4ZgbjUgj8VlAH7",
            entry="teacher",
            adapt=remaps.remap_dino,
            may_have=("head.", "norm."),
            mirror=mirrors.DINO,
        ),
        cryo_bench={"qkv_bias": False},
        **S12_FACTS,
    ),
    plain(
        "s12-mae",
        S12,
        bands=S2_L1C,
        gray=RGB,
        parameters=22_647_936,
        weights=Weights(
            file="ssl4eo_s12/B13_vits16_mae_0099_ckpt.pth",
            url="https://drive.google.com/file/d/1QTBKl1asxgQCNd6bO2azXZNPfoQ3Sazv",
            mirror=mirrors.MAE,
            entry="model",
            adapt=remaps.drop_unused,
            may_have=MAE_REST,
        ),
        **S12_FACTS,
    ),
    plain(
        "s12-mae-sar",
        S12,
        bands=RADAR,
        gray=VV,
        parameters=21_566_592,
        weights=Weights(
            file="ssl4eo_s12/B2_vits16_mae_ep99.pth",
            url="https://huggingface.co/wangyi111/SSL4EO-S12",
            address="hf://wangyi111/SSL4EO-S12/B2_vits16_mae_ep99.pth",
            entry="model",
            adapt=remaps.drop_unused,
            may_have=MAE_REST,
        ),
        **S12_FACTS,
    ),
    plain(
        "s12-data2vec",
        Beit(dim=384, depth=12, heads=6, norm_last=False),
        build_data2vec,
        bands=S2_L1C,
        gray=RGB,
        parameters=22_581_288,
        weights=Weights(
            file="ssl4eo_s12/B13_vits16_data2vec_0099_ckpt.pth",
            url="https://drive.google.com/file/d/1VbIGBwzZYndv4v1vx9FiD6IP-YwsHEns",
            entry="model",
            adapt=remaps.drop_unused,
            may_have=(
                *("mask_token", "norm.", "fc_norm.", "head.", "lm_head."),
                "rel_pos_bias.relative_position_index",
            ),
        ),
        **S12_FACTS,
    ),
    plain(
        "ramen-base",
        RamenBlocks(dim=768, depth=12, heads=12),
        build_ramen,
        bands=None,
        spectral=True,
        gray=RGB,
        normalization="mean and std of each dataset's bands",
        parameters=89_932_229,
        weights=Weights(
            file="ramen/ramen_base_99.ckpt",
            url="https://huggingface.co/nicolashoudre/RAMEN",
            address="hf://nicolashoudre/RAMEN/ramen_base_99.ckpt",
            entry="state_dict",
            adapt=remaps.drop_unused,
            may_have=("spectral_projector.", "decoder", "mask_token"),
        ),
        source="arXiv:2512.05025",
        license="MIT",
        weights_license="MIT",
    ),
    plain(
        "terramind-base",
        TERRAMIND,
        parameters=87_483_648,
        weights=Weights(
            file="terramind/TerraMind_v1_base.pt",
            url="https://huggingface.co/ibm-esa-geospatial/TerraMind-1.0-base",
            address="hf://ibm-esa-geospatial/TerraMind-1.0-base/TerraMind_v1_base.pt",
            adapt=remaps.remap_terramind,
            may_have=TERRAMIND_REST,
        ),
        **TERRAMIND_FACTS,
    ),
    plain(
        "terramind-large",
        replace(TERRAMIND, dim=1024, depth=24, heads=16),
        parameters=305_388_544,
        weights=Weights(
            file="terramind/TerraMind_v1_large.pt",
            url="https://huggingface.co/ibm-esa-geospatial/TerraMind-1.0-large",
            address="hf://ibm-esa-geospatial/TerraMind-1.0-large/TerraMind_v1_large.pt",
            adapt=remaps.remap_terramind,
            may_have=TERRAMIND_REST,
        ),
        **TERRAMIND_FACTS,
    ),
)
"""Cards of these encoders."""
