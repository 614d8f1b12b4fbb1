"""Rename and reshape the tensors of published checkpoints for the encoders.

Each is a pure function of an encoder and a state dict, and keeps unknown keys: a key that neither
the encoder nor its card expects is refused when the weights are loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .published import State

Adapt = Callable[[nn.Module, State], State]
Rules = Sequence[tuple[str, str]]


def rename_keys(*rules: tuple[str, str]) -> Adapt:
    """Return an adaptation that replaces patterns in keys, every rule in turn.

    Keys that the encoder lists as unused are then left out.
    """

    def adapt(backbone: nn.Module, state: State) -> State:
        return drop_unused(backbone, _rename(state, rules))

    return adapt


def drop_unused(backbone: nn.Module, state: State) -> dict[str, Tensor]:
    """Drop the tensors that an encoder lists as unused, such as blocks after its last level."""
    unused: tuple[str, ...] = getattr(backbone, "unused", ())
    return {key: x for key, x in state.items() if not key.startswith(unused)}


def _rename(state: State, rules: Rules) -> dict[str, Tensor]:
    renamed = {}
    for key, x in state.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = x
    return renamed


def remap_dino(backbone: nn.Module, state: State) -> State:
    """Rename the teacher's tensors; drop query, key and value biases if the encoder has none."""
    adapted = drop_unused(backbone, _rename(state, ((r"^backbone\.", ""),)))
    if "blocks.0.attn.qkv.bias" in backbone.state_dict():
        return adapted
    return {key: x for key, x in adapted.items() if not key.endswith(".attn.qkv.bias")}


def remap_prithvi(backbone: nn.Module, state: State) -> State:
    """Keep the encoder's tensors, with the kernel's only time step and one of the positions.

    The kernels of bands that the encoder lacks go: Cryo-Bench's later revisions cut it to four.
    """
    inside = {key for key in state if key.startswith("encoder.")}
    kept = {key: x for key, x in state.items() if key in inside or not inside}
    adapted = drop_unused(backbone, _rename(kept, ((r"^encoder\.", ""),)))
    places = backbone.get_buffer("pos_embed").shape[1] - 1
    vit: Any = getattr(backbone, "vit", None)
    middle = vit is not None and vit.time_step == "middle"
    _change(adapted, "pos_embed", lambda x: _take_step(x, places, middle=middle))
    kernels = backbone.get_parameter("patch_embed.proj.weight")
    bands = kernels.shape[1] if middle else None
    _change(adapted, "patch_embed.proj.weight", lambda x: x.squeeze(2)[:, :bands])
    return adapted


def _take_step(x_1ND: Tensor, places: int, *, middle: bool) -> Tensor:
    """Return the class token's position and the positions of one time step of several."""
    if not middle or x_1ND.shape[1] == 1 + places:
        return x_1ND[:, : 1 + places]
    steps = x_1ND[:, 1:].reshape(1, -1, places, x_1ND.shape[2])
    first, last = (steps.shape[1] - 1) // 2, steps.shape[1] // 2
    return torch.cat([x_1ND[:, :1], (steps[:, first] + steps[:, last]) / 2], dim=1)


CLIP: Rules = (
    (r"^visual\.class_embedding$", "cls_token"),
    (r"^visual\.positional_embedding$", "pos_embed"),
    (r"^visual\.conv1\.", "patch_embed.proj."),
    (r"^visual\.ln_pre\.", "norm_pre."),
    (r"^visual\.transformer\.resblocks\.(\d+)\.ln_([12])\.", r"blocks.\1.norm\2."),
    (r"^visual\.transformer\.resblocks\.(\d+)\.attn\.in_proj_", r"blocks.\1.attn.qkv."),
    (r"^visual\.transformer\.resblocks\.(\d+)\.attn\.out_proj\.", r"blocks.\1.attn.proj."),
    (r"^visual\.transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", r"blocks.\1.mlp.fc1."),
    (r"^visual\.transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", r"blocks.\1.mlp.fc2."),
)


def remap_clip(backbone: nn.Module, state: State) -> State:
    """Rename the tensors of an open_clip model's image encoder."""
    adapted = drop_unused(backbone, _rename(state, CLIP))
    _change(adapted, "cls_token", lambda x: x.reshape(1, 1, -1))
    _change(adapted, "pos_embed", lambda x: x[None] if x.ndim == 2 else x)
    return adapted


CROMA: Rules = (
    (r"^linear_input\.", "patch_embed.proj."),
    (r"^transformer\.norm_out\.", "norm."),
    (r"^transformer\.layers\.(\d+)\.0\.input_norm\.", r"blocks.\1.norm1."),
    (r"^transformer\.layers\.(\d+)\.0\.to_qkv\.", r"blocks.\1.attn.qkv."),
    (r"^transformer\.layers\.(\d+)\.0\.to_out\.", r"blocks.\1.attn.proj."),
    (r"^transformer\.layers\.(\d+)\.1\.input_norm\.", r"blocks.\1.norm2."),
    (r"^transformer\.layers\.(\d+)\.1\.net\.0\.", r"blocks.\1.mlp.fc1."),
    (r"^transformer\.layers\.(\d+)\.1\.net\.3\.", r"blocks.\1.mlp.fc2."),
)


def remap_croma(backbone: nn.Module, state: State) -> State:
    """Rename tensors, and turn the linear patch projection (bands, rows, columns) into a kernel."""
    adapted = drop_unused(backbone, _rename(state, CROMA))
    shape = backbone.get_parameter("patch_embed.proj.weight").shape
    _change(adapted, "patch_embed.proj.weight", lambda x: _as_kernel(x, shape))
    return adapted


def _as_kernel(x: Tensor, shape: torch.Size) -> Tensor:
    return x.reshape(shape) if x.numel() == shape.numel() else x  # another shape is refused later


TERRAMIND: Rules = (
    (r"^encoder_embeddings\.untok_sen2l2a@224\.", "optical."),
    (r"^encoder_embeddings\.untok_sen1grd@224\.", "sar."),
    (r"^(optical|sar)\.proj\.", r"\1.patch_embed.proj."),
    (r"^(optical|sar)\.pos_emb$", r"\1.pos_embed"),
    (r"^encoder\.(\d+)\.", r"blocks.\1."),
    (r"^encoder_norm\.", "norm."),
)
GATED: Rules = ((r"\.mlp\.fc1\.", ".mlp.fc1_g."), (r"\.mlp\.fc3\.", ".mlp.fc1_x."))


def remap_terramind(backbone: nn.Module, state: State) -> State:
    """Rename tensors, and turn linear patch projections (rows, columns, bands) into kernels."""
    renamed = _rename(state, TERRAMIND)
    if any(".mlp.fc3." in key for key in renamed):
        renamed = _rename(renamed, GATED)
    have = backbone.state_dict()
    if "patch_embed.proj.weight" in have:  # built for optical bands only
        renamed = _rename(renamed, ((r"^optical\.", ""),))
    adapted = drop_unused(backbone, renamed)
    for key in [key for key in adapted if key.endswith("patch_embed.proj.weight") and key in have]:
        dim, bands, *patch = have[key].shape
        if adapted[key].numel() == have[key].numel():
            kernel = adapted[key].reshape(dim, *patch, bands).permute(0, 3, 1, 2)
            adapted[key] = kernel.contiguous()
    return adapted


THOR_BANDS = {
    "B2": "S2:Blue",
    "B3": "S2:Green",
    "B4": "S2:Red",
    "B8": "S2:NIR",
    "B5": "S2:RE1",
    "B6": "S2:RE2",
    "B7": "S2:RE3",
    "B8A": "S2:RE4",
    "B11": "S2:SWIR1",
    "B12": "S2:SWIR2",
    "B1": "S2:CoastAerosal",
    "B9": "S2:WaterVapor",
    "VV": "S1:VV",
    "VH": "S1:VH",
    "HV": "S1:HV",
    "HH": "S1:HH",
}
THOR: Rules = (
    (r"^encoder\.", ""),
    (r"^ind_patch_embed\.patch_embed\.", "patch_embed."),
    *(
        (rf"^patch_embed\.{theirs}\.", f"patch_embed.{ours}.")
        for ours, theirs in THOR_BANDS.items()
    ),
)


def remap_thor(backbone: nn.Module, state: State) -> State:
    """Rename the tensors of the encoder and its bands; drop tables that the model computes."""
    inside = {key: x for key, x in state.items() if key.startswith("encoder.")}
    return drop_unused(backbone, _rename(inside, THOR))


CROMA_JOINT: Rules = (
    (r"^layers\.(\d+)\.0\.input_norm\.", r"blocks.\1.norm1."),
    (r"^layers\.(\d+)\.0\.to_qkv\.", r"blocks.\1.attn.qkv."),
    (r"^layers\.(\d+)\.0\.to_out\.", r"blocks.\1.attn.proj."),
    (r"^layers\.(\d+)\.1\.input_norm\.", r"blocks.\1.norm_cross."),
    (r"^layers\.(\d+)\.1\.to_([qkv])\.", r"blocks.\1.cross.\2."),
    (r"^layers\.(\d+)\.1\.to_out\.", r"blocks.\1.cross.proj."),
    (r"^layers\.(\d+)\.2\.input_norm\.", r"blocks.\1.norm2."),
    (r"^layers\.(\d+)\.2\.net\.0\.", r"blocks.\1.mlp.fc1."),
    (r"^layers\.(\d+)\.2\.net\.3\.", r"blocks.\1.mlp.fc2."),
    (r"^norm_out\.", "norm."),
)


def remap_croma_joint(backbone: nn.Module, state: State) -> State:
    """Rename the tensors of both single-sensor encoders (`remap_croma`) and of the joint one."""
    adapted: dict[str, Tensor] = {}
    for part, ours in (("s1_encoder", "sar"), ("s2_encoder", "optical")):
        inner = {
            key.removeprefix(f"{part}."): x for key, x in state.items() if key.startswith(part)
        }
        single = remap_croma(backbone.get_submodule(ours), inner)
        adapted |= {f"{ours}.{key}": x for key, x in single.items()}
    joint = {
        key.removeprefix("joint_encoder."): x
        for key, x in state.items()
        if key.startswith("joint_encoder.")
    }
    return drop_unused(backbone, adapted | _rename(joint, CROMA_JOINT))


def remap_spectralgpt(backbone: nn.Module, state: State) -> State:
    """Join query, key and value, and rename the two tables of positions."""
    adapted = drop_unused(
        backbone,
        _rename(
            state,
            ((r"^pos_embed_spatial$", "spatial_embed"), (r"^pos_embed_temporal$", "group_embed")),
        ),
    )
    for stem in [key.removesuffix("q.weight") for key in adapted if key.endswith(".attn.q.weight")]:
        for kind in ("weight", "bias"):
            parts = [adapted.pop(f"{stem}{part}.{kind}") for part in "qkv"]
            adapted[f"{stem}qkv.{kind}"] = torch.cat(parts)
    return adapted


def remap_swin(backbone: nn.Module, state: State) -> State:
    """Move patch merging to the stage after it; drop tables that the model computes."""
    adapted = {}
    for key, x in _rename(state, ((r"^encoder\.", ""),)).items():
        if key.endswith(("relative_position_index", "attn_mask")):
            continue
        stage = re.match(r"layers\.(\d+)\.downsample\.", key)
        if stage:
            key = key.replace(stage[0], f"layers.{int(stage[1]) + 1}.downsample.")
        adapted[key] = x
    return drop_unused(backbone, adapted)


def remap_satlas(backbone: nn.Module, state: State) -> State:
    """Strip prefixes of wrappers; take the fixed index of relative positions from the model."""
    adapted = drop_unused(
        backbone, _rename(state, ((r"^(?:backbone\.)+(?=features\.|norm\.|head\.)", ""),))
    )
    have = backbone.state_dict()
    fixed = {key: x for key, x in have.items() if key.endswith("relative_position_index")}
    return adapted | fixed


def _change(state: dict[str, Tensor], key: str, change: Callable[[Tensor], Tensor]) -> None:
    if key in state:
        state[key] = change(state[key])
