"""Draft the study of a folder, every line with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..bands import Band
from ..data.crop_plan import COVERED_FROM
from ..data.fingerprint import Fingerprint
from ..data.layout import Layout
from ..errors import BandMismatch
from ..models import ENCODERS, find_encoder
from ..models.band_selection import plan_bands
from ..report.wording import count_of, percent_of
from .draft_bands import Line, choose_bands
from .draft_card import SMALL, Choices, Units, choose_units, open_points_of, sizes_of
from .draft_classes import choose_classes
from .open_points import MARK, guessed_keys

SCRATCH = "unet"
LARGE = 256  # largest side of a crop, pixels
STEPS = 600  # of a training; fewer do not separate learning rates (docs/search.md: rungs)
EPOCHS = (9, 81)  # fewest and most of a training: the first rung is a ninth
# Source: Isensee et al. 2021, nnU-Net, doi:10.1038/s41592-020-01008-z: a third of the patches.
FOREGROUND = 0.33
RARE = 0.05  # share of a class below which plain cross entropy may ignore it


def draft_study(
    layout: Layout, look: Fingerprint, choices: Choices, *, card: str, weights: Path
) -> list[Line]:
    """Return the lines of the study.

    Args:
        layout: Layout of the scenes' files.
        look: Fingerprint of the scenes.
        choices: The user's choices.
        card: File of the card, as the study names it.
        weights: Folder of pretrained weights, CRYO_WEIGHTS.
    """
    bands = choose_bands(layout, look, choices.bands, choices.sensor).bands
    encoder, encoder_reason = choose_encoder(bands, choices.encoder, weights)
    units = choose_units(layout, look, choices.block_px)
    crop, crop_reason = choose_crop(look, encoder, most=units.side_px)
    units_seen, crops = _count_crops(look, units, choices, crop=crop)
    batch = min(8, max(2, crops // 4))
    fits = (
        "" if choices.batch is None or choices.batch >= batch else "; no more fit the GPU, measured"
    )
    batch = batch if choices.batch is None else min(batch, choices.batch)
    steps = max(1, crops // batch)
    epochs = max(EPOCHS[0], min(EPOCHS[1], math.ceil(STEPS / steps / 9) * 9))
    budget = "" if choices.epochs is None else ", as many as the budget allows"
    epochs = choices.epochs or epochs
    classes = choose_classes(look, choices.classes).names
    rarest = min(look.values[value] for value in classes)
    loss = "ce+dice" if rarest < RARE else "ce"
    what = "scene" if units.block_px is None else "block"
    own = "decoder: unet, width: 16" if encoder == SCRATCH else "decoder: upernet, channels: 64"
    guessed = guessed_keys(open_points_of(layout, look, choices))
    mark = f"# {MARK}{', '.join(guessed)} of {card} are guessed; correct them before you run this."
    return [
        *([Line(mark)] if guessed else []),
        Line(f"name: {choices.name}"),
        Line("base:"),
        Line("  data:"),
        Line(f"    card: {card}"),
        Line(f"    crop: {crop}", crop_reason),
        *_draft_foreground(rarest),
        Line(f"  model: {{encoder: {encoder}, {own}}}", encoder_reason),
        Line(
            f"  loss: {{name: {loss}}}",
            f"the rarest class has {percent_of(rarest)} of the pixels",
        ),
        Line("  optim: {lr: 1e-4}", "the fixed rate that the tuned one must beat"),
        Line(
            f"  batch_size: {batch}",
            f"{count_of(units_seen, f'training {what}')}, {count_of(crops, 'crop')} an epoch: as many as "
            f"cover the ground{fits}",
        ),
        Line(
            f"  epochs: {epochs}",
            f"{count_of(steps, 'step')} an epoch, {steps * epochs} in a training{budget}",
        ),
        Line("search:"),
        Line("  space: lr", "learning rates from 1e-6 to 1e-2"),
        Line("  trials: 12"),
        Line(
            "  start: calibrated",
            "rates that were best on other, recorded problems come first, if any is like this one",
        ),
        Line(
            f"  scheduler: {{kind: asha, grace_epochs: {max(1, epochs // 9)}}}",
            "first comparison after a ninth of a training",
        ),
        Line(
            "seeds: [1, 2, 3, 4, 5, 6]",
            "six repeats are the fewest that decide without assumptions",
        ),
    ]


def _count_crops(
    look: Fingerprint, units: Units, choices: Choices, *, crop: int
) -> tuple[int, int]:
    """Return units of the train part and crops of an epoch: counted, or estimated before the split."""
    if choices.epoch is not None:
        return choices.epoch.scenes, choices.epoch.crops
    filled = units.pixels * (1 - look.unlabeled) / crop**2
    return units.train, units.train * (int(filled) if filled > COVERED_FROM else 1)


def _draft_foreground(rarest: float) -> list[Line]:
    if rarest >= RARE:
        return []
    reason = f"share of crops around the rarer classes; the rarest has {percent_of(rarest)} of the pixels"
    return [Line(f"    foreground: {FOREGROUND}", reason)]


def epochs_within(epochs: int, *, needed_h: float, budget_h: float) -> int:
    """Return the epochs of a training that a budget allows: a multiple of nine, nine at least.

    Args:
        epochs: Epochs of the draft.
        needed_h: Hours that the study takes with these.
        budget_h: Hours that it may take.
    """
    least = EPOCHS[0]
    return max(least, min(epochs, int(epochs * budget_h / needed_h) // least * least))


def choose_encoder(have: Sequence[Band], given: str | None, weights: Path) -> tuple[str, str]:
    """Choose an encoder, with the reason: the given one, one with weights here, or a U-Net.

    Raises:
        UnknownName: There is no encoder of the given name.
    """
    if given is not None:
        find_encoder(given)
        return given, "as given"
    for name, covered in sorted(_installed(have, weights).items(), key=lambda pair: -pair[1]):
        return name, f"its pretrained weights are here, and it reads {covered} of {len(have)} bands"
    return SCRATCH, "no pretrained weights of a known encoder here: a small U-Net from scratch"


def _installed(have: Sequence[Band], weights: Path) -> Mapping[str, int]:
    """Return encoder -> number of bands it reads by name, for published weights in the folder."""
    covered_bands = {}
    for name, card in ENCODERS.items():
        if card.weights is None or not (weights / card.weights.chosen(weights).file).is_file():
            continue
        try:
            covered = len(plan_bands(card, have).layers) if card.bands else 0
        except BandMismatch:
            continue
        if covered:
            covered_bands[name] = covered
    return covered_bands


def choose_crop(look: Fingerprint, encoder: str, *, most: int) -> tuple[int, str]:
    """Return the side of a training crop in pixels, and the reason.

    The side is four times the typical object, between 64 and 256 pixels, at most `most`, and valid
    for the encoder.
    """
    card = find_encoder(encoder)
    if card.only_size is not None:
        return card.only_size, f"the only size that {encoder} takes"
    step = math.lcm(card.multiple, 16)
    wanted = 4 * look.object_px if look.object_px else 128
    side = int(min(most, LARGE, max(SMALL, wanted))) // step * step
    side = max(side, math.ceil(card.smallest / step) * step)
    if look.object_px:
        return (
            side,
            f"a typical object is {look.object_px:.0f} pixels wide; scenes {sizes_of(look)}",
        )
    return side, f"scenes of {sizes_of(look)}"
