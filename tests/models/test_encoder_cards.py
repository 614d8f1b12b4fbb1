"""Every card says what there is to know of its encoder, held against what was read of its authors."""

# B batch, C channels, H W pixels

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from cryo_hpo.bands import BANDS
from cryo_hpo.models import ENCODERS, Encoder, find_encoder, plan_bands

S2_L1C = "B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B10 B11 B12"
S2_L2A = "B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B11 B12"
RGB = "B4 B3 B2"
THOR = "B2 B3 B4 B8 B5 B6 B7 B8A B11 B12 B1 B9 VV VH HH HV"


class Facts(NamedTuple):
    """What was read; million parameters of the authors' own class; weights as they name the file."""

    bands: str
    size: int
    multiple: int
    millions: float
    file: str
    license: str
    upstream: str = ""


# Each line stands in the authors' code, paper or model card; "any" and "wavelengths" are no names.
FACTS = {
    "unet": Facts("any", 0, 16, 9.4, "", ""),
    "vit-scratch": Facts("any", 0, 16, 87.8, "", ""),
    "vit-b16": Facts(RGB, 224, 16, 85.8, "jx_vit_base_p16_224-80ecf9dd.pth", "Apache-2.0", "vit"),
    "croma-optical": Facts(S2_L2A, 120, 8, 303.0, "CROMA_large.pt", "MIT", "croma_optical"),
    "croma-sar": Facts("VV VH", 120, 8, 151.3, "CROMA_large.pt", "MIT", "croma_sar"),
    "dofa-base": Facts(
        "wavelengths", 224, 16, 111.3, "DOFA_ViT_base_e100.pth", "CC-BY-4.0", "dofa"
    ),
    "gfm-swin": Facts(RGB, 192, 32, 86.7, "gfm.pth", "not stated", "gfmswin"),
    "prithvi-100m": Facts(
        "B2 B3 B4 B8A B11 B12", 224, 16, 86.4, "Prithvi_100M.pt", "Apache-2.0", "prithvi"
    ),
    "remoteclip-b32": Facts(
        RGB, 224, 32, 87.5, "RemoteCLIP-ViT-B-32.pt", "not stated", "remoteclip"
    ),
    "satlasnet-swinv2b": Facts(
        "B4 B3 B2 B5 B6 B7 B8 B11 B12",
        128,
        32,
        87.9,
        "sentinel2_swinb_si_ms.pth",
        "Apache-2.0",
        "satlasnet_si",
    ),
    "scale-mae-l": Facts(
        RGB, 224, 16, 303.1, "scalemae-vitlarge-800.pth", "not stated", "scalemae"
    ),
    "spectralgpt": Facts(S2_L2A, 128, 8, 85.4, "SpectralGPT+.pth", "not stated", "spectralgpt"),
    "s12-moco": Facts(
        S2_L1C, 224, 16, 22.6, "B13_vits16_moco_0099.pth", "CC-BY-4.0", "ssl4eo_moco"
    ),
    "s12-dino": Facts(
        S2_L1C, 224, 16, 22.6, "B13_vits16_dino_0099_ckpt.pth", "CC-BY-4.0", "ssl4eo_dino"
    ),
    "s12-mae": Facts(
        S2_L1C, 224, 16, 22.6, "B13_vits16_mae_0099_ckpt.pth", "CC-BY-4.0", "ssl4eo_mae_optical"
    ),
    "s12-mae-sar": Facts(
        "VV VH", 224, 16, 21.6, "B2_vits16_mae_ep99.pth", "CC-BY-4.0", "ssl4eo_mae_sar"
    ),
    "s12-data2vec": Facts(
        S2_L1C, 224, 16, 22.6, "B13_vits16_data2vec_0099_ckpt.pth", "CC-BY-4.0", "ssl4eo_data2vec"
    ),
    "ramen-base": Facts(
        "wavelengths", 128, 4, 89.9, "ramen_base_99.ckpt", "MIT", "ramen_monotemporal"
    ),
    "terramind-base": Facts(
        S2_L2A, 224, 16, 87.3, "TerraMind_v1_base.pt", "Apache-2.0", "terramind_base"
    ),
    "terramind-large": Facts(S2_L2A, 224, 16, 305.1, "TerraMind_v1_large.pt", "Apache-2.0"),
    "prithvi-v2-300m": Facts(
        "B2 B3 B4 B8A B11 B12",
        224,
        16,
        304.1,
        "Prithvi_EO_V2_300M.pt",
        "Apache-2.0",
        "prithvi_eo_v2_300",
    ),
    "prithvi-v2-600m": Facts(
        "B2 B3 B4 B8A B11 B12", 224, 14, 631.2, "Prithvi_EO_V2_600M.pt", "Apache-2.0"
    ),
    # Its authors count the bands of the optical and radar groups that Cryo-Bench gives: 5.73.
    "thor-tiny": Facts(THOR, 256, 16, 6.13, "thor_v1_vit_tiny.pt", "Apache-2.0", "thor_tiny"),
    "thor-small": Facts(THOR, 256, 16, 22.9, "thor_v1_vit_small.pt", "not stated"),
    "thor-base": Facts(THOR, 256, 16, 88.2, "thor_v1_vit_base.pt", "not stated"),
    "thor-large": Facts(THOR, 256, 16, 304.9, "thor_v1_vit_large.pt", "not stated"),
    "croma-joint": Facts(f"{S2_L2A} VV VH", 120, 8, 655.8, "CROMA_large.pt", "MIT", "croma_joint"),
    "terramind-tiny": Facts(S2_L2A, 224, 16, 5.92, "TerraMind_v1_tiny.pt", "Apache-2.0"),
    "terramind-small": Facts(S2_L2A, 224, 16, 22.46, "TerraMind_v1_small.pt", "Apache-2.0"),
    "terramind-tiny-s2s1": Facts(
        f"{S2_L2A} VV VH", 224, 16, 6.02, "TerraMind_v1_tiny.pt", "Apache-2.0"
    ),
    "terramind-small-s2s1": Facts(
        f"{S2_L2A} VV VH", 224, 16, 22.66, "TerraMind_v1_small.pt", "Apache-2.0"
    ),
    "terramind-base-s2s1": Facts(
        f"{S2_L2A} VV VH",
        224,
        16,
        87.7,
        "TerraMind_v1_base.pt",
        "Apache-2.0",
        "terramind_base_s2_s1",
    ),
    "terramind-large-s2s1": Facts(
        f"{S2_L2A} VV VH", 224, 16, 305.6, "TerraMind_v1_large.pt", "Apache-2.0"
    ),
    "presto": Facts(
        "VV VH B2 B3 B4 B5 B6 B7 B8 B8A B11 B12", 0, 4, 0.402, "default_model.pt", "MIT"
    ),
    "galileo-nano": Facts(
        "VV VH B2 B3 B4 B5 B6 B7 B8 B8A B11 B12", 96, 8, 0.9, "encoder.pt", "MIT"
    ),
}


def test_all_encoders_are_read_of() -> None:
    assert set(ENCODERS) == set(FACTS)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_card_agrees_with_what_was_read(name: str) -> None:
    card, facts = ENCODERS[name], FACTS[name]
    assert _bands(card) == facts.bands
    assert (card.native_size or 0) == facts.size
    assert card.multiple == facts.multiple
    assert card.weights_license == facts.license
    assert ("" if card.weights is None else Path(card.weights.file).name) == facts.file


def _bands(card: Encoder) -> str:
    if card.bands is None:
        return "wavelengths" if card.spectral else "any"
    return " ".join(band.name for band in card.bands)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_card_is_complete(name: str) -> None:
    card = ENCODERS[name]
    assert card.name == name
    assert card.source.startswith(("arXiv:", "doi:"))
    assert card.license
    assert len(card.channels) == len(card.strides) >= 4
    assert card.smallest % card.multiple == 0
    optical = any(band.sensor == "sentinel-2" for band in card.bands or ())
    assert bool(card.gray) == (not card.takes_any)
    assert not optical or {band.name for band in card.gray} == {"B2", "B3", "B4"}
    if card.weights is None:
        assert card.native_size is None
        return
    assert card.normalization
    assert card.weights.url.startswith("https://")
    assert card.weights.address.startswith(("https://", "hf://")) or not card.weights.address
    assert len(card.weights.sha256) in (0, 8, 64)
    # Every optical encoder knows its wavelengths, whichever way it reads them.
    assert all(band.center_um for band in card.bands or () if band.sensor != "sar")


@pytest.mark.parametrize("name", ENCODERS)
def test_size_and_levels_are_those_of_the_card(name: str) -> None:
    card, facts = ENCODERS[name], FACTS[name]
    bands = card.bands or tuple(BANDS[band] for band in S2_L1C.split())
    size = card.native_size or 64
    with torch.device("meta"):
        model = card.build(bands).eval()
        levels = model(torch.empty(1, len(bands), size, size))
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert millions == pytest.approx(facts.millions, rel=0.02)
    if card.parameters is not None:
        assert millions == pytest.approx(
            card.parameters / 1e6, rel=0.015
        )  # fixed positions count there
    assert [tuple(level.shape[1:]) for level in levels] == [
        (channels, size // stride, size // stride)
        for channels, stride in zip(card.channels, card.strides, strict=True)
    ]


@pytest.mark.parametrize("name", [name for name in ENCODERS if FACTS[name].upstream])
def test_the_other_protocol_has_upstreams_bands_and_size(name: str, shared: Path) -> None:
    file = shared / "parity" / "encoders" / f"{FACTS[name].upstream}.json"
    described = json.loads(file.read_text())
    card = find_encoder(name, protocol="cryo-bench")
    have = [BANDS[band] for band in described["bands"]]
    plan = plan_bands(card, have, missing="refuse")
    assert plan.as_given
    assert card.native_size == described["input_size"]


FIVE = {
    "glid": "B4 B3 B2",
    "gld": "B2 B3 B4 B8 B11 TIR COH SLOPE DEM NDWI",
    "sicd": "HH HV",
    "caffe": "GREY",
    "gsdd": "B2 B3 B4 B8 B11 B12 AUX1 AUX2 AUX3 AUX4",
}


@pytest.mark.parametrize("name", [name for name, card in ENCODERS.items() if card.weights])
@pytest.mark.parametrize("dataset", ["glid", "gld", "gsdd"])
def test_optical_encoders_see_the_true_bands_of_optical_datasets(name: str, dataset: str) -> None:
    card, have = ENCODERS[name], [BANDS[band] for band in FIVE[dataset].split()]
    if card.needs_all or (card.bands and all(band.sensor == "sar" for band in card.bands)):
        return
    plan = plan_bands(card, have)
    for slot in plan.slots:
        assert slot.layer is None or have[slot.layer].name == slot.band.name
    # Nothing that no encoder has learned from goes in, by whatever name.
    assert not [band for band in plan.bands if band.sensor in ("ancillary", "terrain")]
