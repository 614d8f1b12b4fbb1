"""Encoders against their rules in words, written down a second time in plain torch functions.

Beside `test_parity.py`, whose numbers are upstream's but of one image of one size: here weights,
images, sizes and batches are drawn anew. The checkpoints have the published layout.
"""

# B batch, C channels, N tokens, D values of a token, H W cells of the token grid

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cryo_hpo.bands import find_band
from cryo_hpo.models import ENCODERS
from cryo_hpo.models.weights.load import load_weights

State = dict[str, Any]
Shapes = dict[str, tuple[int, ...]]
SIZES = [(1, 64, 64, 0), (3, 64, 96, 1), (2, 128, 32, 2)]  # images, height, width, seed


def _linear(x: Tensor, state: State, key: str) -> Tensor:
    return F.linear(x, state[f"{key}.weight"], state.get(f"{key}.bias"))


def _norm(x: Tensor, state: State, key: str, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{key}.weight"], state[f"{key}.bias"], eps)


def _attend(qkv: Iterable[Tensor], heads: int, bias: Tensor | float = 0.0) -> Tensor:
    q, k, v = (y.unflatten(2, (heads, -1)).transpose(1, 2) for y in qkv)
    weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]) + bias).softmax(dim=-1)
    attended: Tensor = (weights @ v).transpose(1, 2).flatten(2)
    return attended


def _block(
    x: Tensor, state: State, key: str, heads: int, eps: float, bias: Tensor | float = 0.0
) -> Tensor:
    """Apply a pre-norm block with the names of timm."""
    qkv = _linear(_norm(x, state, f"{key}.norm1", eps), state, f"{key}.attn.qkv")
    x = x + _linear(_attend(qkv.chunk(3, dim=2), heads, bias), state, f"{key}.attn.proj")
    y = _linear(_norm(x, state, f"{key}.norm2", eps), state, f"{key}.mlp.fc1")
    return x + _linear(F.gelu(y), state, f"{key}.mlp.fc2")


def _waves(place: Tensor, dim: int) -> Tensor:
    angle = place.double()[:, None] * 10000 ** (-torch.arange(dim // 2).double() / (dim // 2))
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


def _cells(height: int, width: int) -> tuple[Tensor, Tensor]:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return rows.flatten(), columns.flatten()


def _alibi(height: int, width: int, slopes: list[float]) -> Tensor:
    rows, columns = _cells(height, width)
    apart = torch.hypot(
        (rows[:, None] - rows[None]).float(), (columns[:, None] - columns[None]).float()
    )
    return -torch.tensor(slopes)[:, None, None] * apart


def _as_map(x_BND: Tensor, height: int, width: int) -> Tensor:
    return x_BND.transpose(1, 2).reshape(len(x_BND), -1, height, width)


def _drawn(shapes: Shapes, seed: int) -> State:
    """Draw tensors; norms about 1, so that every one of them matters."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: (0.5 if len(shape) == 1 else 0.2) * torch.randn(shape, generator=generator)
        + (1.0 if "norm" in key and key.endswith("weight") else 0.0)
        for key, shape in shapes.items()
    }


def _block_shapes(key: str, dim: int) -> Shapes:
    layers = {"attn.qkv": (3 * dim, dim), "attn.proj": (dim, dim)}
    layers |= {"mlp.fc1": (4 * dim, dim), "mlp.fc2": (dim, 4 * dim)}
    shapes: Shapes = {}
    for name, shape in layers.items():
        shapes |= {f"{key}.{name}.weight": shape, f"{key}.{name}.bias": shape[:1]}
    for name in ("norm1", "norm2"):
        shapes |= {f"{key}.{name}.weight": (dim,), f"{key}.{name}.bias": (dim,)}
    return shapes


def _assert_agree(
    name: str,
    state: State,
    bands: str,
    expected: list[Tensor],
    image: Tensor,
    root: Path,
    **sizes: Any,
) -> None:
    card = ENCODERS[name]
    encoder: Any = card.build([find_band(band) for band in bands.split()], **sizes).eval()
    torch.save(state, root / "weights.pt")
    load_weights(encoder, "weights.pt", published=card.weights, root=root, name=name)
    with torch.no_grad():
        levels = encoder(image)
    assert len(levels) == len(expected)
    for level, wanted in zip(levels, expected, strict=True):
        assert level.shape == wanted.shape
        worst = (level - wanted).abs().max() / wanted.abs().max()
        assert worst < 1e-5


THOR_GROUPS = {  # pretraining code -> bands and their names in the checkpoint
    0: {"B2": "S2:Blue", "B3": "S2:Green", "B4": "S2:Red", "B8": "S2:NIR"},
    1: {"B11": "S2:SWIR1", "B12": "S2:SWIR2", "B5": "S2:RE1"},
    3: {"VV": "S1:VV", "VH": "S1:VH"},
    4: {"HH": "S1:HH"},
}


@pytest.mark.parametrize("counts_present", [False, True])
@pytest.mark.parametrize(("images", "height", "width", "seed"), SIZES)
@pytest.mark.parametrize("bands", ["B2 B3 B4 B8 B11 B12 VV VH", "HH VV B11 B5 B2", "VV VH"])
def test_thor(
    images: int,
    height: int,
    width: int,
    seed: int,
    bands: str,
    counts_present: bool,
    tmp_path: Path,
) -> None:
    dim, depth, heads, names = 48, 4, 3, bands.split()
    shapes: Shapes = {"encoder.norm.weight": (dim,), "encoder.norm.bias": (dim,)}
    for i in range(depth):
        shapes |= _block_shapes(f"encoder.blocks.{i}", dim)
    stem = "encoder.ind_patch_embed.patch_embed"
    for group in THOR_GROUPS.values():
        for theirs in group.values():
            shapes |= {f"{stem}.{theirs}.weight": (dim, 1, 16, 16), f"{stem}.{theirs}.bias": (dim,)}
    state = _drawn(shapes, seed)
    image = torch.randn(images, len(names), height, width)
    grid = (height // 16, width // 16)
    code_width, parts = dim // 4, []
    present = {code: group for code, group in THOR_GROUPS.items() if set(group) & set(names)}
    for number, (code, group) in enumerate(present.items()):
        made = [
            F.conv2d(
                image[:, names.index(ours), None],
                state[f"{stem}.{theirs}.weight"],
                state[f"{stem}.{theirs}.bias"],
                stride=16,
            )
            for ours, theirs in group.items()
            if ours in names
        ]
        wanted = torch.tensor([float(number if counts_present else code)])
        vector = torch.cat(
            [_waves(torch.tensor([4.0]), dim - code_width), _waves(wanted, code_width)], dim=1
        )
        parts.append(torch.stack(made).mean(dim=0).flatten(2).transpose(1, 2) + vector)
    x = torch.cat(parts, dim=1)
    bias = _alibi(*grid, [1 / 16, 1 / 256, 1 / 4]).repeat(1, len(parts), len(parts))
    expected = []
    for i in range(depth):
        x = _block(x, state, f"encoder.blocks.{i}", heads, 1e-6, bias)
        if i in (0, 1, 3):
            y = _norm(x, state, "encoder.norm", 1e-6).unflatten(1, (len(parts), -1)).mean(dim=1)
            expected.append(_as_map(y, *grid))
    sizes: dict[str, Any] = {
        "dim": dim,
        "depth": depth,
        "heads": heads,
        "counts_present": counts_present,
    }
    sizes["levels"] = (0, 1, 3)
    _assert_agree("thor-tiny", state, bands, expected, image, tmp_path, **sizes)


@pytest.mark.parametrize("time_step", ["first", "middle"])
@pytest.mark.parametrize(("images", "seed"), [(1, 3), (4, 4)])
@pytest.mark.parametrize(("size", "patch"), [("300m", 16), ("600m", 14)])
def test_prithvi(
    images: int, seed: int, size: str, patch: int, time_step: str, tmp_path: Path
) -> None:
    dim, depth, heads, side, frames = 32, 4, 2, 4 * patch, 4
    places = (side // patch) ** 2
    shapes: Shapes = {
        "encoder.cls_token": (1, 1, dim),
        "encoder.pos_embed": (1, 1 + frames * places, dim),
        "encoder.patch_embed.proj.weight": (dim, 6, 1, patch, patch),
        "encoder.patch_embed.proj.bias": (dim,),
        "encoder.norm.weight": (dim,),
        "encoder.norm.bias": (dim,),
        "decoder.mask_token": (1, 1, dim),
    }
    for i in range(depth):
        shapes |= _block_shapes(f"encoder.blocks.{i}", dim)
    state = _drawn(shapes, seed)
    image = torch.randn(images, 6, side, side)
    kernel, bias = (state[f"encoder.patch_embed.proj.{key}"] for key in ("weight", "bias"))
    x = F.conv3d(image[:, :, None], kernel, bias, stride=(1, patch, patch))
    x = x.flatten(2).transpose(1, 2)
    table = state["encoder.pos_embed"]
    steps = table[:, 1:].unflatten(1, (frames, places))
    where = steps[:, 0] if time_step == "first" else (steps[:, 1] + steps[:, 2]) / 2
    start = (state["encoder.cls_token"] + table[:, :1]).expand(images, -1, -1)
    x = torch.cat([start, x + where], dim=1)
    expected = []
    for i in range(depth):
        x = _block(x, state, f"encoder.blocks.{i}", heads, 1e-5)
        expected.append(_as_map(x[:, 1:], side // patch, side // patch))
    sizes: dict[str, Any] = {
        "dim": dim,
        "depth": depth,
        "heads": heads,
        "size": side,
        "time_step": time_step,
    }
    sizes["levels"] = (0, 1, 2, 3)
    bands = "B2 B3 B4 B8A B11 B12"
    _assert_agree(f"prithvi-v2-{size}", state, bands, expected, image, tmp_path, **sizes)


def _croma_shapes(key: str, dim: int) -> Shapes:
    shapes: Shapes = {}
    layers = {"0.to_qkv": (3 * dim, dim), "0.to_out": (dim, dim)}
    layers |= {"1.net.0": (4 * dim, dim), "1.net.3": (dim, 4 * dim)}
    for name, shape in layers.items():
        shapes[f"{key}.{name}.weight"] = shape
        if name != "0.to_qkv":
            shapes[f"{key}.{name}.bias"] = shape[:1]
    for name in ("0.input_norm", "1.input_norm"):
        shapes |= {f"{key}.{name}.weight": (dim,), f"{key}.{name}.bias": (dim,)}
    return shapes


def _croma_self(x: Tensor, state: State, key: str, heads: int, bias: Tensor) -> Tensor:
    qkv = _linear(_norm(x, state, f"{key}.input_norm", 1e-5), state, f"{key}.to_qkv")
    return x + _linear(_attend(qkv.chunk(3, dim=2), heads, bias), state, f"{key}.to_out")


def _croma_mlp(x: Tensor, state: State, key: str) -> Tensor:
    y = _linear(_norm(x, state, f"{key}.input_norm", 1e-5), state, f"{key}.net.0")
    return x + _linear(F.gelu(y), state, f"{key}.net.3")


def _croma_alone(image: Tensor, state: State, depth: int, heads: int, bias: Tensor) -> Tensor:
    patches = F.unfold(image, 8, stride=8).transpose(1, 2)  # bands, rows, columns of a patch
    x = _linear(patches, state, "linear_input")
    for i in range(depth):
        x = _croma_self(x, state, f"transformer.layers.{i}.0", heads, bias)
        x = _croma_mlp(x, state, f"transformer.layers.{i}.1")
    return _norm(x, state, "transformer.norm_out", 1e-5)


@pytest.mark.parametrize(("images", "height", "width", "seed"), [(1, 40, 40, 5), (3, 24, 56, 6)])
def test_croma_joint(images: int, height: int, width: int, seed: int, tmp_path: Path) -> None:
    dim, depth, heads = 32, 3, 4
    state: State = {}
    for part, num_bands, blocks in (("s1_encoder", 2, depth), ("s2_encoder", 12, 2 * depth)):
        shapes: Shapes = {"linear_input.weight": (dim, num_bands * 64), "linear_input.bias": (dim,)}
        shapes |= {f"transformer.norm_out.{key}": (dim,) for key in ("weight", "bias")}
        for i in range(blocks):
            shapes |= _croma_shapes(f"transformer.layers.{i}", dim)
        state[part] = _drawn(shapes, seed + num_bands)
    shapes = {"norm_out.weight": (dim,), "norm_out.bias": (dim,)}
    for i in range(depth):
        shapes |= {
            key.replace(f"layers.{i}.1.", f"layers.{i}.2."): shape
            for key, shape in _croma_shapes(f"layers.{i}", dim).items()
        }
        shapes |= {f"layers.{i}.1.to_{name}.weight": (dim, dim) for name in "qkv"}
        shapes |= {f"layers.{i}.1.to_out.weight": (dim, dim), f"layers.{i}.1.to_out.bias": (dim,)}
        shapes |= {f"layers.{i}.1.input_norm.{key}": (dim,) for key in ("weight", "bias")}
    joint = state["joint_encoder"] = _drawn(shapes, seed)
    image = torch.randn(images, 14, height, width)
    grid = (height // 8, width // 8)
    bias = _alibi(*grid, [2.0 ** -(2 * h) for h in range(1, heads + 1)])
    context = _croma_alone(image[:, :12], state["s2_encoder"], 2 * depth, heads, bias)
    x = _croma_alone(image[:, 12:], state["s1_encoder"], depth, heads, bias)
    expected = []
    for i in range(depth):
        x = _croma_self(x, joint, f"layers.{i}.0", heads, bias)
        key = f"layers.{i}.1"
        query, other = (_norm(y, joint, f"{key}.input_norm", 1e-5) for y in (x, context))
        q, k, v = (
            _linear(y, joint, f"{key}.to_{n}")
            for n, y in (("q", query), ("k", other), ("v", other))
        )
        x = x + _linear(_attend((q, k, v), heads, bias), joint, f"{key}.to_out")
        x = _croma_mlp(x, joint, f"layers.{i}.2")
        last = i == depth - 1
        expected.append(_as_map(_norm(x, joint, "norm_out", 1e-5) if last else x, *grid))
    bands = " ".join(band.name for band in ENCODERS["croma-joint"].bands or ())
    sizes: dict[str, Any] = {"dim": dim, "depth": depth, "heads": heads, "levels": (0, 1, 2)}
    _assert_agree("croma-joint", state, bands, expected, image, tmp_path, **sizes)


@pytest.mark.parametrize("sensors", ["both", "optical", "radar"])
@pytest.mark.parametrize(("images", "seed"), [(1, 7), (3, 8)])
def test_terramind_of_plain_blocks(images: int, seed: int, sensors: str, tmp_path: Path) -> None:
    dim, depth, heads, side = 48, 4, 3, 64
    grid = (side // 16, side // 16)
    places = grid[0] * grid[1]
    radar_stem, optical_stem = (
        f"encoder_embeddings.untok_{name}@224" for name in ("sen1grd", "sen2l2a")
    )
    stems = {radar_stem: 2, optical_stem: 12}
    shapes: Shapes = {
        "encoder_norm.weight": (dim,),
        "encoder_norm.bias": (dim,),
    }
    for stem, num_bands in stems.items():
        shapes |= {f"{stem}.proj.weight": (dim, num_bands * 256), f"{stem}.mod_emb": (1, 1, dim)}
        shapes |= {f"{stem}.pos_emb": (1, places, dim)}
    for i in range(depth):
        shapes |= _block_shapes(f"encoder.{i}", dim)
    state = _drawn(shapes, seed)
    optical, radar = torch.randn(images, 12, side, side), torch.randn(images, 2, side, side)
    given = {radar_stem: radar, optical_stem: optical}
    if sensors != "both":
        given.pop(radar_stem if sensors == "optical" else optical_stem)
    parts = []
    for stem, image in given.items():
        patches = image.unfold(2, 16, 16).unfold(3, 16, 16)  # B C rows columns 16 16
        patches = patches.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)  # row, column, band
        tokens = F.linear(patches, state[f"{stem}.proj.weight"])
        parts.append(tokens + state[f"{stem}.pos_emb"] + state[f"{stem}.mod_emb"])
    x = torch.cat(parts, dim=1)
    expected = []
    for i in range(depth):
        x = _block(x, state, f"encoder.{i}", heads, 1e-6)
        y = _norm(x, state, "encoder_norm", 1e-6) if i == depth - 1 else x
        expected.append(_as_map(y.unflatten(1, (len(parts), -1)).mean(dim=1), *grid))
    names = [band.name for band in ENCODERS["terramind-tiny-s2s1"].bands or ()]
    bands = {"both": names, "optical": names[:12], "radar": names[12:]}[sensors]
    image = torch.cat([given[stem] for stem in (optical_stem, radar_stem) if stem in given], dim=1)
    sizes: dict[str, Any] = {
        "dim": dim,
        "depth": depth,
        "heads": heads,
        "size": side,
        "levels": (0, 1, 2, 3),
    }
    _assert_agree("terramind-tiny-s2s1", state, " ".join(bands), expected, image, tmp_path, **sizes)
