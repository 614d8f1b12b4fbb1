"""Normalize an encoder's input further: by its pretraining's statistics, or image by image.

Images arrive normalized by their dataset. Both steps are part of the network, so that training,
scoring, prediction and an exported model cannot differ.
"""

# B batch, S slots (inputs of the encoder), H W pixels

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..bands import BandPlan
from ..errors import SpecError
from .pretraining import UNITS, Statistics, Unit

Normalization = Literal["dataset", "pretraining", "image"]
LEAST_STD = 1e-2  # of the dataset's: a crop of one surface is not blown up to noise
FAR_STDS, SPREAD_RATIO = 10.0, 30.0  # beyond them values must be of other units
BRIGHTEST = 2.0  # mean reflectance above which values must be counts of 1/10000


class ImageScale(nn.Module):
    """Normalize every image, a crop or a window, by its own mean and deviation, band by band."""

    def forward(self, x_BSHW: Tensor) -> Tensor:
        """Return (B, S, H, W) with mean 0 and standard deviation 1 where a band is not constant."""
        std_BS11, mean_BS11 = torch.std_mean(x_BSHW.float(), dim=(2, 3), correction=0, keepdim=True)
        return (x_BSHW - mean_BS11) / std_BS11.clamp_min(LEAST_STD)


class PretrainingScale(nn.Module):
    """Change the dataset's normalization into that of the encoder's pretraining.

    The factors are in the state dict: a model that is loaded needs no dataset.

    Args:
        num_slots: Inputs of the encoder, S.
    """

    scale_S11: Tensor
    shift_S11: Tensor

    def __init__(self, num_slots: int) -> None:
        super().__init__()
        self.register_buffer("scale_S11", torch.ones(num_slots, 1, 1))
        self.register_buffer("shift_S11", torch.zeros(num_slots, 1, 1))

    def forward(self, x_BSHW: Tensor) -> Tensor:
        """Return (B, S, H, W), normalized as in pretraining."""
        return x_BSHW * self.scale_S11 + self.shift_S11

    def set_factors(self, factors: Sequence[tuple[float, float]]) -> None:
        """Set (scale, shift) of every slot; see `pretraining_factors`."""
        for buffer, values in zip(
            (self.scale_S11, self.shift_S11), zip(*factors, strict=True), strict=True
        ):
            buffer.copy_(torch.tensor(values, dtype=buffer.dtype)[:, None, None])


def pretraining_factors(
    encoder: str,
    statistics: Statistics | None,
    plan: BandPlan,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    eight_bit: bool,
) -> list[tuple[float, float]]:
    """Return (scale, shift) of every slot, from the dataset's to the pretraining's normalization.

    A slot without a layer stays as it is filled: 0 is then the mean of pretraining.

    Args:
        encoder: Name of the encoder, for messages.
        statistics: Statistics of its pretraining; None: it has none that are fixed.
        plan: Layers of the dataset for the encoder's slots.
        mean: Mean of each layer, in the files' units.
        std: Standard deviation of each layer; 0 for a constant one.
        eight_bit: Whether the images have 8 bits.

    Raises:
        SpecError: There are no statistics, none for a band, or the images have other units.
    """
    if statistics is None:
        message = (
            f"Encoder '{encoder}' has no known mean and standard deviation of its pretraining. "
            "Set data.normalize to dataset or image."
        )
        raise SpecError(message)
    optical = [mean[s.layer] for s in plan.slots if s.layer is not None and s.band.sensor != "sar"]
    full = _full_scale(encoder, statistics.unit, optical, eight_bit=eight_bit)
    factors = []
    for slot in plan.slots:
        if slot.layer is None:
            factors.append((1.0, 0.0))
            continue
        if slot.band.name not in statistics.bands:
            message = (
                f"Encoder '{encoder}' has no known mean of its pretraining for band "
                f"{slot.band.name}. Set data.normalize to dataset or image."
            )
            raise SpecError(message)
        own_mean, own_std = mean[slot.layer], std[slot.layer] or 1.0
        unit = 1.0 if slot.band.sensor == "sar" else full
        wanted_mean, wanted_std = (unit * value for value in statistics.bands[slot.band.name])
        name = plan.have[slot.layer].name
        _require_alike(encoder, name, (own_mean, own_std), (wanted_mean, wanted_std))
        factors.append((own_std / wanted_std, (own_mean - wanted_mean) / wanted_std))
    return factors


def _full_scale(encoder: str, unit: Unit, means: Sequence[float], *, eight_bit: bool) -> float:
    """Return the value in the files for 1 in the statistics, for layers that are not radar.

    Raises:
        SpecError: The files are of another kind: photographs instead of reflectance, or the reverse.
    """
    if not means:
        return 1.0
    counts = max(means) > BRIGHTEST
    if unit == "colors" and (eight_bit or not counts):
        return 255.0 if eight_bit else 1.0
    if unit == "reflectance" and not eight_bit:
        return 10_000.0 if counts else 1.0
    message = (
        f"data.normalize: pretraining needs images like those of encoder '{encoder}', "
        f"{UNITS[unit]}; the dataset has {'8 bits' if eight_bit else 'other values'}, with a mean "
        f"of {max(means):.4g}. Set data.normalize to dataset or image."
    )
    raise SpecError(message)


def _require_alike(
    encoder: str, band: str, own: tuple[float, float], wanted: tuple[float, float]
) -> None:
    """Refuse statistics so far from those of pretraining that units must differ.

    Raises:
        SpecError: They are too far apart.
    """
    far = abs(own[0] - wanted[0]) > FAR_STDS * wanted[1]
    ratio = max(own[1] / wanted[1], wanted[1] / own[1])
    if far or ratio > SPREAD_RATIO:
        message = (
            f"Band {band} has mean {own[0]:.4g} and standard deviation {own[1]:.4g}; encoder "
            f"'{encoder}' learned from {wanted[0]:.4g} and {wanted[1]:.4g}: other units. Convert the "
            "images, or set data.normalize to dataset or image."
        )
        raise SpecError(message)
