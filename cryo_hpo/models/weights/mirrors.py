"""List copies on the Hugging Face hub of weights that programs cannot download from their authors.

Source: the addresses in TorchGeo's `ViTSmall16_Weights`; the end of a name there is the beginning
of the file's sha256.
"""

from __future__ import annotations

from . import remap as remaps
from .published import Weights


def _torchgeo(method: str, revision: str, digits: str) -> Weights:
    """Return TorchGeo's copy, which uses timm's names."""
    name = f"vit_small_patch16_224_sentinel2_all_{method}"
    return Weights(
        file=f"ssl4eo_s12/{name}-{digits}.pth",
        url=f"https://huggingface.co/torchgeo/{name}",
        address=f"hf://torchgeo/{name}@{revision}/{name}-{digits}.pth",
        sha256=digits,
        adapt=remaps.remap_dino,
        may_have=("head.", "norm."),
    )


MOCO = _torchgeo("moco", "1cb683f6c14739634cdfaaceb076529adf898c74", "67c9032d")
DINO = _torchgeo("dino", "5b41dd418a79de47ac9f5be3e035405a83818a62", "36bcc127")
MAE = Weights(
    file="ssl4eo_s12/B13_vits16_mae_ep99_enc.pth",
    url="https://huggingface.co/wangyi111/SSL4EO-S12",
    address="hf://wangyi111/SSL4EO-S12/B13_vits16_mae_ep99_enc.pth",
    adapt=remaps.drop_unused,
    may_have=("head.", "norm.", "decoder_", "mask_token"),
)
