"""Put an encoder and a decoder together into a segmentation model."""

# B batch, C bands, K classes, H W pixels

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from ..bands import BandPlan
from .band_selection import Pick
from .encoder_card import Backbone


class Segmenter(nn.Module):
    """Map normalized bands (B, C, H, W) to logits (B, K, H, W) at the size of the input.

    Args:
        encoder: A `Backbone`.
        decoder: Maps the encoder's levels to logits of any height and width.
        plan: Layer of the input for each band of the encoder; None passes all layers as given.
    """

    encoder: Backbone
    decoder: nn.Module
    pick: nn.Module | None

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, *, plan: BandPlan | None = None
    ) -> None:
        super().__init__()
        self.encoder = cast(Backbone, encoder)
        self.decoder = decoder
        self.frozen = False
        self.pick = None if plan is None or plan.as_given else Pick(plan)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K, H, W)."""
        seen = x_BCHW if self.pick is None else self.pick(x_BCHW)
        logits: Tensor = self.decoder(self.encoder(seen))
        size = x_BCHW.shape[-2:]
        if logits.shape[-2:] == size:
            return logits
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)

    def train(self, mode: bool = True) -> Segmenter:  # noqa: FBT001, FBT002
        """Switch to training mode; a frozen encoder stays in evaluation mode.

        Stochastic depth and batch statistics would disturb features that are not trained.
        """
        super().train(mode)
        if self.frozen:
            self.get_submodule("encoder").eval()
        return self


def freeze(segmenter: Segmenter, *, in_train_mode: bool = False) -> None:
    """Freeze the encoder's parameters and keep the encoder in evaluation mode.

    Args:
        segmenter: Model whose encoder is frozen. Changed in place.
        in_train_mode: Let dropout, stochastic depth and moving statistics follow the mode of the
            whole model, as Cryo-Bench does; frozen features are then noisy in training.
    """
    segmenter.get_submodule("encoder").requires_grad_(requires_grad=False)
    segmenter.frozen = not in_train_mode
    segmenter.train(segmenter.training)
