"""Predict whole images by overlapping windows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cryo_hpo.evaluation.window_predictor import WindowPredictor


def predict(
    model: nn.Module, images_SCHW: Tensor, *, size: int, overlap: int, batch: int
) -> Tensor:
    """Return the logits of images, (S, K, H, W)."""
    predictor = WindowPredictor(model, size=size, overlap=overlap, batch=batch)
    height, width = images_SCHW.shape[-2:]
    parts = predictor.predict_rows(
        lambda top, bottom: images_SCHW[:, :, top:bottom], length_hw=(height, width)
    )
    return torch.cat([logits for _, logits in parts], dim=2)
