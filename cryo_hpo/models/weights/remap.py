"""From the names and shapes in published checkpoints to those of the encoders.

Each is a pure function of an encoder and a state dict, and keeps what it does not know: a key
that neither the encoder nor its card expects is refused when the weights are loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .published import State

Adapt = Callable[[nn.Module, State], State]
Rules = Sequence[tuple[str, str]]


def rename_keys(*rules: tuple[str, str]) -> Adapt:
    """Return an adaptation that replaces patterns in keys, every rule in turn.

    Keys of parts that the encoder says it does not use are left out afterwards.
    """

    def adapt(backbone: nn.Module, state: State) -> State:
        return drop_unused(backbone, _rename(state, rules))

    return adapt


def drop_unused(backbone: nn.Module, state: State) -> dict[str, Tensor]:
    """Leave out what an encoder does not build: blocks after its last level, dropped biases."""
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
    """Rename the teacher's; without biases of queries, keys and values where none were built."""
    adapted = drop_unused(backbone, _rename(state, ((r"^backbone\.", ""),)))
    if "blocks.0.attn.qkv.bias" in backbone.state_dict():
        return adapted
    return {key: x for key, x in adapted.items() if not key.endswith(".attn.qkv.bias")}


def remap_prithvi(backbone: nn.Module, state: State) -> State:
    """Take the only time step of the kernel, and the first one of the positions."""
    adapted = drop_unused(backbone, state)
    tokens = backbone.get_buffer("pos_embed").shape[1]
    _change(adapted, "pos_embed", lambda x: x[:, :tokens])
    _change(adapted, "patch_embed.proj.weight", lambda x: x.squeeze(2))
    return adapted


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
    """Rename the image side of an open_clip model."""
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
    """Rename, and take the linear projection of patches (bands, rows, columns) as a kernel."""
    adapted = drop_unused(backbone, _rename(state, CROMA))
    shape = backbone.get_parameter("patch_embed.proj.weight").shape
    _change(adapted, "patch_embed.proj.weight", lambda x: _as_kernel(x, shape))
    return adapted


def _as_kernel(x: Tensor, shape: torch.Size) -> Tensor:
    return x.reshape(shape) if x.numel() == shape.numel() else x  # another shape is refused later


TERRAMIND: Rules = (
    (r"^encoder_embeddings\.untok_sen2l2a@224\.proj\.", "patch_embed.proj."),
    (r"^encoder_embeddings\.untok_sen2l2a@224\.mod_emb$", "mod_emb"),
    (r"^encoder_embeddings\.untok_sen2l2a@224\.pos_emb$", "pos_embed"),
    (r"^encoder\.(\d+)\.mlp\.fc1\.", r"blocks.\1.mlp.fc1_g."),
    (r"^encoder\.(\d+)\.mlp\.fc3\.", r"blocks.\1.mlp.fc1_x."),
    (r"^encoder\.(\d+)\.", r"blocks.\1."),
    (r"^encoder_norm\.", "norm."),
)


def remap_terramind(backbone: nn.Module, state: State) -> State:
    """Rename, and take the linear projection of patches (rows, columns, bands) as a kernel."""
    adapted = drop_unused(backbone, _rename(state, TERRAMIND))
    dim, bands, *patch = backbone.get_parameter("patch_embed.proj.weight").shape
    if adapted["patch_embed.proj.weight"].numel() == dim * bands * patch[0] * patch[1]:
        _change(
            adapted,
            "patch_embed.proj.weight",
            lambda x: x.reshape(dim, *patch, bands).permute(0, 3, 1, 2).contiguous(),
        )
    return adapted


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
    """Give the merging of patches to the stage after it; leave out tables the model computes."""
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
    """Unwrap the features; take the index of relative positions, which is fixed, from the model."""
    adapted = drop_unused(
        backbone, _rename(state, ((r"^(?:backbone\.)+(?=features\.|norm\.|head\.)", ""),))
    )
    have = backbone.state_dict()
    fixed = {key: x for key, x in have.items() if key.endswith("relative_position_index")}
    return adapted | fixed


def _change(state: dict[str, Tensor], key: str, change: Callable[[Tensor], Tensor]) -> None:
    if key in state:
        state[key] = change(state[key])
