"""Recompute the activations of an encoder's blocks in the backward pass instead of keeping them.

Source: Chen et al. 2016, arXiv:1604.06174 (gradient checkpointing).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..errors import SpecError


class _Recomputed:
    """Run a block's forward pass, and run it again when its gradient is needed.

    Dropout and stochastic depth draw the same numbers both times.
    """

    def __init__(self, forward: Callable[..., Any]) -> None:
        self._forward = forward

    def __call__(self, *args: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return self._forward(*args, **options)
        return checkpoint(self._forward, *args, use_reentrant=False, **options)


def recompute_blocks(encoder: nn.Module, *, name: str) -> int:
    """Let the blocks of an encoder recompute their activations; return the number of blocks.

    Weights, state dict and gradients stay as they are. Blocks with batch-norm are left alone: its
    running statistics would move twice.

    Args:
        encoder: Network of the encoder. Changed in place.
        name: Name of the encoder, for the message.

    Raises:
        SpecError: The encoder has no such blocks.
    """
    blocks = list(_blocks(encoder))
    if not blocks:
        message = (
            f"recompute: true needs an encoder of transformer blocks, and '{name}' has none without "
            "batch-norm. Drop the key, or choose another encoder."
        )
        raise SpecError(message)
    for block in blocks:
        block.forward = _Recomputed(block.forward)
    return len(blocks)


def _blocks(encoder: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules of every list named "blocks", outermost lists only."""
    above: tuple[str, ...] = ()
    for path, module in encoder.named_modules():
        if path.startswith(above) and above:
            continue
        if path.rpartition(".")[2] == "blocks" and isinstance(
            module, nn.ModuleList | nn.Sequential
        ):
            above = (*above, f"{path}.")
            yield from (b for b in module if not _has_batch_norm(b))


def _has_batch_norm(block: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in block.modules())
