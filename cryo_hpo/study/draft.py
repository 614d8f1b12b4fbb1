"""Draft the dataset card and the study of a folder, every line with its reason."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..bands import BANDS, Band, find_band
from ..data.fingerprint import Fingerprint
from ..data.layout import Layout
from ..data.region_split import PARTS
from ..errors import DataError
from ..models import ENCODERS, find_encoder
from ..models.band_selection import plan_bands

SCRATCH = "unet"
WIDTH = 16  # channels of a U-Net that learns from scratch on few scenes
SMALL, LARGE = 64, 256  # sides of a crop, pixels
STEPS = 600  # of a training; fewer do not separate learning rates (docs/search.md: rungs)
EPOCHS = (9, 81)  # fewest and most of a training: the first rung is a ninth
MAX_CROPS = 64  # per scene and epoch
RARE = 0.05  # share of a class below which plain cross entropy may ignore it
TRAIN = 0.7  # share of the scenes in the train part; see `config.split_rule`
FEW_GROUPS = 6  # scenes or regions; fewer are split into blocks of ground
BLOCKS = 36  # target number of blocks for few large scenes


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Hold the user's choices for a folder; None: choose automatically.

    Attributes:
        name: Name of dataset and study.
        classes: Names in the order of the mask values.
        bands: Names in the order of the layers.
        encoder: Name of an encoder.
    """

    name: str
    classes: tuple[str, ...] | None = None
    bands: tuple[str, ...] | None = None
    encoder: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """Hold a line of YAML and the reason for its value."""

    text: str
    reason: str = ""


def format_lines(lines: Sequence[Line]) -> str:
    """Return lines as text, reasons as comments in one column."""
    width = min(max((len(line.text) for line in lines if line.reason), default=0), 72)
    return "".join(
        f"{line.text:<{width}}  # {line.reason}\n" if line.reason else f"{line.text}\n"
        for line in lines
    )


def choose_bands(look: Fingerprint, given: tuple[str, ...] | None) -> tuple[tuple[str, ...], str]:
    """Return the band names of the layers, and the source of the names.

    Raises:
        DataError: The files do not identify the bands, or another number was given.
        UnknownName: A given name is not a band.
    """
    if given is not None:
        if len(given) != look.bands:
            raise DataError(
                f"The images have {look.bands} layers, --bands names {len(given)} "
                f"({', '.join(given)}). Name every layer, in the file's order."
            )
        for name in given:
            find_band(name)
        return given, "as given"
    if look.names and all(name in BANDS for name in look.names):
        return look.names, "as the files' layer descriptions say"
    if look.bands == 3 and look.dtypes == ("uint8",):
        return ("RED", "GREEN", "BLUE"), "three layers of 8 bits: taken to be a color image"
    if look.bands == 1 and look.dtypes == ("uint8",):
        return ("GREY",), "one layer of 8 bits: taken to be a gray image of no known sensor"
    names = f" ({', '.join(look.names)})" if any(look.names) else ""
    raise DataError(
        f"The images have {look.bands} layers of {' and '.join(look.dtypes)}{names}, with values "
        f"from {look.low:g} to {look.high:g}; nothing in the files tells which bands they are. Name "
        "them in order: --bands B4,B3,B2 (`cryo-hpo list encoders` shows the names)."
    )


def choose_classes(look: Fingerprint, given: tuple[str, ...] | None) -> tuple[dict[int, str], str]:
    """Return mask value -> class, and the source of the class names.

    Raises:
        DataError: Masks hold one value, values that are not whole numbers, or another number of
            classes was given.
    """
    values = [int(value) for value in look.values if value == int(value)]
    odd = [value for value in look.values if value != int(value)]
    if odd:
        raise DataError(
            f"Mask values must be whole numbers, found {odd[0]:g}. Was a mask resampled with "
            "interpolation? Resample it again with nearest neighbor."
        )
    if given is None and len(values) == 3 and values[-1] == 255 and values[:2] == [0, 1]:
        return dict(enumerate(("background", "foreground"))), "0, 1, and 255 for no label"
    if len(values) < 2:
        raise DataError(
            f"Every mask pixel has the value {values[0] if values else 'nothing'}; two classes at "
            "least are needed. Are these the masks?"
        )
    if given is not None and len(given) != len(values):
        raise DataError(
            f"The masks hold {len(values)} values ({', '.join(map(str, values))}), --classes names "
            f"{len(given)} ({', '.join(given)}). Name a class for every value, in this order."
        )
    if given is None and len(values) > 2:
        raise DataError(
            f"The masks hold {len(values)} values ({', '.join(map(str, values))}). Name their "
            "classes in this order: --classes background,lake,river."
        )
    names = given or ("background", "foreground")
    return dict(
        zip(values, names, strict=True)
    ), "as given" if given else "two values: names guessed"


def draft_card(layout: Layout, look: Fingerprint, choices: Choices, *, root: Path) -> list[Line]:
    """Return the lines of the dataset card.

    Raises:
        DataError: The files do not determine bands or classes; the message names the flag.
    """
    bands, band_reason = choose_bands(look, choices.bands)
    classes, class_reason = choose_classes(look, choices.classes)
    shares = {value: 100 * look.values.get(float(value), 0.0) for value in classes}
    words = ", ".join(f"{value}: {share:.2g} %" for value, share in shares.items())
    lines = [
        Line(f"name: {choices.name}"),
        Line(f"root: {json.dumps(str(root))}"),
        Line(f'images: "{layout.images}"', f"{look.scenes} scenes, {_sizes(look)}"),
        Line(f'masks: "{layout.masks}"'),
        Line(f"bands: [{', '.join(bands)}]", band_reason),
    ]
    if list(classes) == list(range(len(classes))):
        names = ", ".join(classes.values())
        lines.append(Line(f"classes: [{names}]", f"{class_reason}; of the pixels {words}"))
    else:
        pairs = ", ".join(f"{value}: {name}" for value, name in classes.items())
        lines.append(Line(f"values: {{{pairs}}}", f"{class_reason}; of the pixels {words}"))
    if 255.0 in look.values and 255 not in classes:
        share = 100 * look.values[255.0]
        lines.append(Line("ignore: 255", f"{share:.2g} % of the pixels have no label"))
    if look.gsd_m:
        lines.append(Line(f"gsd_m: {look.gsd_m:.4g}", "from the files' georeference"))
    if look.regions:
        some = ", ".join(look.regions[:3])
        lines.append(
            Line("region: '^([A-Za-z]+)[-_ ]'", f"ids begin with {len(look.regions)} words: {some}")
        )
    if not layout.parts:
        lines.append(_draft_split(choose_units(layout, look), look))
    return lines


class Units(NamedTuple):
    """Hold the units that are split into parts: scenes, or blocks of few large scenes."""

    train: int  # units in the train part, about
    side_px: int  # side of the smallest unit
    pixels: float  # of each unit, about
    block_px: int | None  # None: whole scenes
    gap_px: int


def choose_units(layout: Layout, look: Fingerprint) -> Units:
    """Choose between whole scenes and blocks of ground; folders of parts mean whole scenes."""
    each = look.pixels / look.scenes
    if layout.parts:
        train = sum(part == PARTS[0] for part, *_ in layout.pairs)
        return Units(train, look.smallest_side, each, None, 0)
    if (len(look.regions) or look.scenes) >= FEW_GROUPS:
        return Units(max(1, round(TRAIN * look.scenes)), look.smallest_side, each, None, 0)
    block = max(SMALL + 32, int(math.sqrt(look.pixels / BLOCKS)) // 32 * 32)
    gap = min(SMALL, block // 4 // 8 * 8)
    number = max(1, round(TRAIN * look.pixels / block**2))
    return Units(number, block - gap, float(block**2), block, gap)


def _draft_split(units: Units, look: Fingerprint) -> Line:
    groups = len(look.regions) or look.scenes
    what = "region" if look.regions else "scene"
    if units.block_px is None:
        return Line(
            "split: {by: scene}",
            f"no folders train, val and test: {groups} {what}s are dealt out, related ones together",
        )
    few = f"{groups} {what} is" if groups == 1 else f"{groups} {what}s are"
    return Line(
        f"split: {{by: place, block_px: {units.block_px}, gap_px: {units.gap_px}}}",
        f"{few} too few to deal out: blocks of ground, parts {units.gap_px} pixels apart",
    )


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
    bands, _ = choose_bands(look, choices.bands)
    encoder, encoder_reason = choose_encoder(bands, choices.encoder, weights)
    units = choose_units(layout, look)
    crop, crop_reason = choose_crop(look, encoder, most=units.side_px)
    crops = min(MAX_CROPS, max(1, math.ceil(units.pixels / crop**2)))
    batch = min(8, max(2, units.train * crops // 4))
    steps = max(1, math.ceil(units.train * crops / batch))
    epochs = max(EPOCHS[0], min(EPOCHS[1], math.ceil(STEPS / steps / 9) * 9))
    rarest = min(share for value, share in look.values.items() if value != 255.0 or share < 0.5)
    loss = "ce+dice" if rarest < RARE else "ce"
    what = "scene" if units.block_px is None else "block"
    own = "decoder: unet, width: 16" if encoder == SCRATCH else "decoder: upernet, channels: 64"
    return [
        Line(f"name: {choices.name}"),
        Line("base:"),
        Line("  data:"),
        Line(f"    card: {card}"),
        Line(f"    crop: {crop}", crop_reason),
        Line(
            f"    replicate: {crops}",
            f"crops per {what} and epoch, so that an epoch covers the ground",
        ),
        Line(f"  model: {{encoder: {encoder}, {own}}}", encoder_reason),
        Line(
            f"  loss: {{name: {loss}}}",
            f"the rarest class has {100 * rarest:.2g} % of the pixels",
        ),
        Line("  optim: {lr: 1e-4}", "the fixed rate that the tuned one must beat"),
        Line(
            f"  batch_size: {batch}",
            f"about {units.train} training {what}s, {units.train * crops} crops an epoch",
        ),
        Line(
            f"  epochs: {epochs}", f"{steps} steps an epoch, about {steps * epochs} in a training"
        ),
        Line("search:"),
        Line("  space: lr", "learning rates from 1e-6 to 1e-2"),
        Line("  trials: 12"),
        Line(
            f"  scheduler: {{kind: asha, grace_epochs: {max(1, epochs // 9)}}}",
            "first comparison after a ninth of a training",
        ),
        Line(
            "seeds: [1, 2, 3, 4, 5, 6]", "six pairs are the fewest that decide without assumptions"
        ),
    ]


def choose_encoder(bands: Sequence[str], given: str | None, weights: Path) -> tuple[str, str]:
    """Choose an encoder, with the reason: the given one, one with weights here, or a U-Net.

    Raises:
        UnknownName: There is no encoder of the given name.
    """
    if given is not None:
        find_encoder(given)
        return given, "as given"
    have = [find_band(name) for name in bands]
    for name, covered in sorted(_installed(have, weights).items(), key=lambda pair: -pair[1]):
        return name, f"its pretrained weights are here, and it knows {covered} of {len(have)} bands"
    return SCRATCH, "no pretrained weights of a known encoder here: a small U-Net from scratch"


def _installed(have: Sequence[Band], weights: Path) -> Mapping[str, int]:
    """Return encoder -> number of bands it covers, for published weights in the folder."""
    found = {}
    for name, card in ENCODERS.items():
        if card.weights is None or not (weights / card.weights.chosen(weights).file).is_file():
            continue
        covered = sum(known in have for known in card.bands or ())
        if covered:
            plan_bands(card, have)
            found[name] = covered
    return found


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
        return side, f"a typical object is {look.object_px:.0f} pixels wide; scenes {_sizes(look)}"
    return side, f"scenes of {_sizes(look)}"


def _sizes(look: Fingerprint) -> str:
    low, high = look.sizes
    words = [f"{height} x {width}" for height, width in dict.fromkeys([low, high])]
    return " to ".join(words) + " pixels"


def describe_open_points(layout: Layout, look: Fingerprint) -> Iterator[str]:
    """Yield the points that a user should check before trusting the draft."""
    if layout.unused:
        yield (
            f"{len(layout.unused)} rasters belong to no scene and are left out (first: "
            f"{layout.unused[0]})."
        )
    if look.looked_at < look.scenes:
        yield f"{look.looked_at} of {look.scenes} scenes were opened, evenly chosen."
    if len(look.dtypes) > 1:
        yield f"Images have different data types ({', '.join(look.dtypes)}): are their units the same?"
    if len(look.crs) > 1:
        kinds = ", ".join(name or "none" for name in look.crs)
        yield f"Images have different reference systems ({kinds})."
    if look.nodata:
        yield f"Pixels of {', '.join(f'{v:g}' for v in look.nodata)} are declared as without data."
    if "" in look.crs and not layout.parts and not look.regions:
        yield (
            "Nothing tells where the scenes lie: if two show the same ground, they may be in two "
            "parts, and the scores too good. Name regions in the card, or give a list."
        )
