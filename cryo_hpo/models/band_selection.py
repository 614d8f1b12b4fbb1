"""Match a dataset's bands to an encoder's inputs by name, and select them from each batch."""

# B batch, C channels, H W pixels

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..bands import Band, BandPlan, Missing, Slot
from ..errors import BandMismatch
from .lookup import ENCODERS, Encoder

# Bands of other sensors -> the nearest bands of Sentinel-1 and 2: colors of any camera, and radar
# of the other transmitted polarization (co to co, cross to cross).
STAND_IN = {
    "COASTAL": "B1",
    "BLUE": "B2",
    "GREEN": "B3",
    "RED": "B4",
    "NIR": "B8",
    "SWIR1": "B11",
    "SWIR2": "B12",
    "HH": "VV",
    "HV": "VH",
}
NEXT_BEST = {"B8A": "NIR"}  # used if the encoder has no B8 for the same camera band


def plan_bands(card: Encoder, have: Sequence[Band], *, missing: Missing = "zero") -> BandPlan:
    """Plan by name which band of a dataset fills which input of an encoder.

    - Every slot gets the band of its name, or one that stands in for it.
    - An encoder of any bands gets all; one that reads wavelengths gets all that have one.
    - An encoder with groups gets each group that is complete; the others are masked.
    - If encoder and dataset share no band, a single band is repeated for the encoder's `gray`
      bands, as Cryo-Bench does for the radar images of CaFFe; radar bands fill these in turn.
    - Slots without a band are treated as `missing` states; bands without a slot are left out.
      "nearest" gives them the band of the nearest wavelength, and 0 where they have none (radar).

    Raises:
        BandMismatch: Nothing fits, or a slot is empty and `missing` is "refuse".
    """
    have = tuple(have)
    if card.bands is None:
        return _whole(card, have)
    if card.groups:
        return _by_group(card, have)
    if card.any_subset:
        return _plan_subset(card, have)
    slots = tuple(Slot(band, _layer(band, have, card.bands)) for band in card.bands)
    if all(slot.layer is None for slot in slots):
        gray = _gray(card, have)
        slots = tuple(Slot(band, gray.get(band)) for band in card.bands)
    given = _given_bands(card, slots, have)
    if missing == "nearest":
        slots = tuple(_with_nearest(slot, have) for slot in slots)
        missing = "zero"
    plan = BandPlan(
        have=have,
        slots=tuple(slot for slot in slots if slot.band in given),
        missing=missing,
        masked=tuple(band for band in card.bands if band not in given),
    )
    if plan.gaps and missing == "refuse":
        lacking = " ".join(plan.bands[i].name for i in plan.gaps)
        message = (
            f"Encoder '{card.name}' needs the bands {_names(card.bands)}; the dataset has "
            f"{_names(have)}, and model.missing_bands refuses what lacks: {lacking}. "
            "Set it to 'zero', 'mean' or 'nearest', or use an encoder that takes any band."
        )
        raise BandMismatch(message)
    return plan


def _with_nearest(slot: Slot, have: Sequence[Band]) -> Slot:
    """Return an empty slot with the optical layer of the nearest wavelength, if there is any."""
    center = slot.band.center_um
    if slot.layer is not None or center is None:
        return slot
    distances = {
        layer: abs(band.center_um - center)
        for layer, band in enumerate(have)
        if band.center_um is not None and band.sensor in ("sentinel-2", "optical")
    }
    return slot._replace(layer=min(distances, key=distances.__getitem__, default=None))


def _whole(card: Encoder, have: tuple[Band, ...]) -> BandPlan:
    """Plan every band, or every one that the encoder takes by its wavelength."""
    taken = [i for i, band in enumerate(have) if card.takes(band)]
    slots = tuple(Slot(have[i], i) for i in taken)
    if not slots:
        slots = tuple(Slot(band, layer) for band, layer in _gray(card, have).items())
    return BandPlan(have=have, slots=slots)


def _given_bands(card: Encoder, slots: Sequence[Slot], have: Sequence[Band]) -> set[Band]:
    """Return the bands of each sensor, radar or optical, with any band in the dataset.

    Raises:
        BandMismatch: A sensor is missing that the encoder requires.
    """
    bands = tuple(slot.band for slot in slots)
    if not card.several_sensors:
        return set(bands)
    filled = {slot.band for slot in slots if slot.layer is not None}
    sensors = [
        tuple(band for band in bands if (band.sensor == "sar") is radar) for radar in (False, True)
    ]
    given = [sensor for sensor in sensors if filled & set(sensor)]
    if card.needs_all and len(given) < len(sensors):
        lacking = next(sensor for sensor in sensors if sensor not in given)
        message = (
            f"Encoder '{card.name}' needs bands of every sensor; the dataset has {_names(have)} and "
            f"none of {_names(lacking)}. Use an encoder of one sensor."
        )
        raise BandMismatch(message)
    return {band for sensor in given for band in sensor}


def _plan_subset(card: Encoder, have: tuple[Band, ...]) -> BandPlan:
    """Plan the bands that the dataset has, and mask the others.

    A band stands in for another only if the encoder has no input of that band's own name.
    """
    own = card.bands or ()
    offered = {band for band in have if band not in own}
    slots = [Slot(band, have.index(band)) for band in own if band in have]
    taken = {slot.band for slot in slots}
    for band in own:
        layer = None if band in taken else _layer(band, have, own)
        if layer is not None and have[layer] in offered:
            slots.append(Slot(band, layer))
    if not slots:
        slots = [Slot(band, layer) for band, layer in _gray(card, have).items()]
    given = {slot.band for slot in slots}
    slots.sort(key=lambda slot: own.index(slot.band))
    masked = tuple(band for band in own if band not in given)
    return BandPlan(have=have, slots=tuple(slots), masked=masked)


def _by_group(card: Encoder, have: tuple[Band, ...]) -> BandPlan:
    every = tuple(band for group in card.groups for band in group)
    layers = {band: layer for band in every if (layer := _layer(band, have, every)) is not None}
    whole = [group for group in card.groups if all(band in layers for band in group)]
    if not whole:
        layers = _gray(card, have)
        whole = [tuple(layers)]
    slots = tuple(Slot(band, layers[band]) for group in whole for band in group)
    given = {slot.band for slot in slots}
    return BandPlan(
        have=have, slots=slots, masked=tuple(band for band in every if band not in given)
    )


def _layer(band: Band, have: Sequence[Band], wanted: Sequence[Band]) -> int | None:
    """Return the layer of a band or of its stand-in; None if there is neither."""
    names = [other.name for other in have]
    if band.name in names:
        return names.index(band.name)
    stand_ins = [name for name, nearest in STAND_IN.items() if nearest == band.name]
    if band.name in NEXT_BEST and STAND_IN[NEXT_BEST[band.name]] not in [b.name for b in wanted]:
        stand_ins.append(NEXT_BEST[band.name])
    return next((names.index(name) for name in stand_ins if name in names), None)


def _gray(card: Encoder, have: Sequence[Band]) -> dict[Band, int]:
    """Return gray band -> layer, for a dataset with one band or with only radar bands.

    Raises:
        BandMismatch: Several bands are not all radar, or the encoder has no gray bands.
    """
    if card.gray and (len(have) == 1 or all(band.sensor == "sar" for band in have)):
        return {band: i % len(have) for i, band in enumerate(card.gray)}
    wanted = card.groups or ((card.bands,) if card.bands else ())
    spelled = ", or ".join(map(_names, wanted)) or "bands with a wavelength"
    free = ", ".join(f"'{other.name}'" for other in ENCODERS.values() if other.takes_any)
    message = (
        f"Encoder '{card.name}' needs the bands {spelled}; the dataset has {_names(have)}. "
        f"Use an encoder that takes any band: {free}, or 'timm/<name>'."
    )
    raise BandMismatch(message)


def _names(bands: Sequence[Band]) -> str:
    return " ".join(band.name for band in bands)


class Pick(nn.Module):
    """Select a dataset's bands (B, C, H, W) for an encoder's slots by a plan.

    Args:
        plan: Plan with at least one slot that has a layer.
    """

    index: Tensor
    gaps: Tensor
    layers: Tensor

    def __init__(self, plan: BandPlan) -> None:
        super().__init__()
        self.plan = plan
        index = [plan.layers[0] if slot.layer is None else slot.layer for slot in plan.slots]
        for name, values in (("index", index), ("gaps", plan.gaps), ("layers", plan.layers)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.long), persistent=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, slots, H, W), in the memory layout of the input."""
        seen = _select(x_BCHW, self.index)
        if not self.plan.gaps:
            return seen
        if self.plan.missing == "zero":
            return seen.index_fill_(1, self.gaps, 0.0)
        mean_B1HW = _select(x_BCHW, self.layers).mean(dim=1, keepdim=True)
        return seen.index_copy_(1, self.gaps, mean_B1HW.expand(-1, len(self.plan.gaps), -1, -1))


def _select(x_BCHW: Tensor, index: Tensor) -> Tensor:
    """Select channels; plain `index_select` would turn channels-last into channels-first."""
    if x_BCHW.is_contiguous() or not x_BCHW.is_contiguous(memory_format=torch.channels_last):
        return x_BCHW.index_select(1, index)
    return x_BCHW.permute(0, 2, 3, 1)[..., index].permute(0, 3, 1, 2)
