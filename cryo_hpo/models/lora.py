"""Add low-rank adapters (LoRA) to the attention and MLP layers of transformer encoders.

Own code, since peft requires transformers and accelerate, and its injection does not consider
which tensors a segmentation checkpoint keeps. An adapted encoder trains its adapters and its
norms; everything else stays as published and is in no checkpoint: a checkpoint holds the sha256 of
those tensors instead, and is refused by a model with others.

Source:
    Hu et al. 2021, arXiv:2106.09685.
"""

# N rows, I values in, O values out, R rank

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from timm.models.beit import Block as BeitBlock
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ..errors import SpecError
from .backbones.croma_joint import CrossBlock
from .segmenter import Segmenter

Targets = Literal["attention", "mlp", "attention+mlp"]
BLOCKS = (Block, BeitBlock, EvaBlock, CrossBlock)
INSIDE = {  # names of linear layers inside a block
    "attention": re.compile(r"(?:attn|cross)\.(?:qkv|[qkv](?:_proj)?|proj)"),
    "mlp": re.compile(r"mlp\.fc\d(?:_[gx])?"),
}


class LoraLinear(nn.Linear):
    """Add to a frozen linear layer a trained product of two small matrices that is zero at first.

    Args:
        linear: The layer to adapt; its weight and bias are taken over.
        rank: Rank of the product, R.
        alpha: Scale: the product is multiplied by alpha / rank.
        dropout: Share of the product's inputs dropped in training.
    """

    def __init__(self, linear: nn.Linear, *, rank: int, alpha: float, dropout: float) -> None:
        with torch.device("meta"):
            super().__init__(linear.in_features, linear.out_features, bias=False)
        self.weight, self.bias = linear.weight, linear.bias
        self.scale = alpha / rank
        self.dropout = nn.Dropout(dropout)
        self.lora_down = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.lora_up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_down, a=math.sqrt(5))

    def forward(self, x_NI: Tensor) -> Tensor:
        """Return (N, O)."""
        low_NR = F.linear(self.dropout(x_NI), self.lora_down)
        return F.linear(x_NI, self.weight, self.bias) + self.scale * F.linear(low_NR, self.lora_up)

    def merged(self) -> nn.Linear:
        """Return a plain linear layer that computes the same in evaluation mode."""
        made = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None)
        made = made.to(self.weight)
        with torch.no_grad():
            product_OI = self.lora_up.double() @ self.lora_down.double()
            made.weight.copy_(self.weight.double() + self.scale * product_OI)
            if self.bias is not None:
                made.bias.copy_(self.bias)
        return made


def add_adapters(
    segmenter: Segmenter,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    targets: Targets,
    name: str,
) -> None:
    """Freeze an encoder except its norms, and adapt its linear layers. Changed in place.

    The model's state dict then leaves out the frozen tensors, and holds their sha256.

    Args:
        segmenter: Model with a transformer encoder, its weights loaded.
        rank: Rank of every adapter.
        alpha: Scale: adapters add alpha / rank times their product.
        dropout: Share of an adapter's inputs dropped in training.
        targets: Layers of each block that get an adapter.
        name: Name of the encoder, for messages.

    Raises:
        SpecError: The encoder has no such layers, or a layer is smaller than the rank.
    """
    encoder = segmenter.get_submodule("encoder")
    layers = list(_find_layers(encoder, targets))
    _check_layers(layers, rank, name)
    encoder.requires_grad_(requires_grad=False)
    for path, linear in layers:
        adapted = LoraLinear(linear, rank=rank, alpha=alpha, dropout=dropout)
        _replace(encoder, path, adapted.train(linear.training))
    for norm in _find_norms(encoder):
        norm.requires_grad_(requires_grad=True)
    segmenter.omit(_list_frozen(segmenter))


def merge_adapters(segmenter: Segmenter) -> None:
    """Fold adapters into the layers that they adapt. Changed in place; the state dict is whole."""
    encoder = segmenter.get_submodule("encoder")
    for path, module in list(encoder.named_modules()):
        if isinstance(module, LoraLinear):
            _replace(encoder, path, module.merged().train(module.training))
    segmenter.omit(())


def is_adapted(segmenter: nn.Module) -> bool:
    """Return whether a model has adapters."""
    return any(isinstance(module, LoraLinear) for module in segmenter.modules())


def _find_layers(encoder: nn.Module, targets: Targets) -> Iterator[tuple[str, nn.Linear]]:
    """Yield (path, layer) of every linear layer that gets an adapter."""
    patterns = [INSIDE[target] for target in targets.split("+")]
    for outer, block in encoder.named_modules():
        if not isinstance(block, BLOCKS):
            continue
        for inner, module in block.named_modules():
            if isinstance(module, nn.Linear) and any(p.fullmatch(inner) for p in patterns):
                yield f"{outer}.{inner}", module


def _check_layers(layers: list[tuple[str, nn.Linear]], rank: int, name: str) -> None:
    if not layers:
        message = (
            f"model.tune: lora adapts plain transformer blocks, and encoder '{name}' has none. "
            "Set model.tune to full or frozen, or use another encoder, such as 'galileo-nano'."
        )
        raise SpecError(message)
    smallest = min(min(linear.in_features, linear.out_features) for _, linear in layers)
    if rank > smallest:
        message = (
            f"model.lora.rank is {rank}, above the smallest side of a layer of encoder '{name}', "
            f"{smallest}. Lower it."
        )
        raise SpecError(message)


def _find_norms(encoder: nn.Module) -> Iterator[nn.Module]:
    """Yield the encoder's layer norms."""
    for module in encoder.modules():
        if isinstance(module, nn.LayerNorm):
            yield module


def _replace(root: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, module)


def _list_frozen(segmenter: Segmenter) -> tuple[str, ...]:
    """Return the keys of the encoder's tensors that are not trained."""
    trained = {key for key, x in segmenter.named_parameters() if x.requires_grad}
    state = segmenter.state_dict()
    return tuple(key for key in state if key.startswith("encoder.") and key not in trained)
