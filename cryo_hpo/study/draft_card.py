"""Draft the dataset card of a folder, every line with its reason."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..config.dataset_card import IGNORED
from ..data.fingerprint import Fingerprint
from ..data.layout import Layout
from ..data.pixel_size import describe_oblong
from ..data.region_split import PARTS
from ..data.split_plan import FEWEST_BLOCKS, grid_shape
from ..errors import DataError
from ..report.wording import count_of, percent_of
from .draft_bands import Line, choose_bands, draft_band_lines
from .draft_classes import choose_classes
from .open_points import MARK, OpenPoint, find_open_points, guessed_keys, small_blocks

if TYPE_CHECKING:
    from .timing import EpochSize

NO_TEXTS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}  # to a YAML reader
SMALL = 64  # least side of a crop, pixels
TRAIN = 0.7  # share of the scenes in the train part; see `config.split_rule`
FEW_GROUPS = 6  # scenes or regions; fewer are split into blocks of ground
BLOCKS = 36  # target number of blocks for few large scenes
SMALLEST_BLOCK = 32  # side of a block, pixels; the least of `config.split_rule`


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Hold the user's choices for a folder; None: choose automatically.

    Attributes:
        name: Name of dataset and study.
        classes: Names in the order of the mask values.
        bands: Names in the order of the layers.
        encoder: Name of an encoder.
        sensor: Name of the sensor whose numbers the bands are.
        epochs: Epochs of a training, where a budget sets them.
        batch: Largest batch that fits the GPU, where one is named.
        block_px: Side of a block of ground, where larger ones or whole scenes leave a part one class.
        epoch: What the train part gives in an epoch, once the scenes are split; None: estimate it.
    """

    name: str
    classes: tuple[str, ...] | None = None
    bands: tuple[str, ...] | None = None
    encoder: str | None = None
    sensor: str | None = None
    epochs: int | None = None
    batch: int | None = None
    block_px: int | None = None
    epoch: EpochSize | None = None


def format_lines(lines: Sequence[Line]) -> str:
    """Return lines as text, reasons as comments in one column."""
    width = min(max((len(line.text) for line in lines if line.reason), default=0), 72)
    return "".join(
        f"{line.text:<{width}}  # {line.reason}\n" if line.reason else f"{line.text}\n"
        for line in lines
    )


def draft_card(layout: Layout, look: Fingerprint, choices: Choices, *, root: Path) -> list[Line]:
    """Return the lines of the dataset card; those that were guessed are marked and listed.

    Raises:
        DataError: The files do not determine bands or classes; the message names the flag.
    """
    bands = choose_bands(layout, look, choices.bands, choices.sensor)
    lines = [
        Line(f"name: {choices.name}"),
        Line(f"root: {json.dumps(str(root))}"),
        Line(f'images: "{layout.images}"', f"{count_of(look.scenes, 'scene')}, {sizes_of(look)}"),
        Line(f'masks: "{layout.masks}"'),
        *draft_band_lines(layout, look, bands),
        *_draft_classes(look, choices),
    ]
    if look.unnumbered:
        share = f"{percent_of(look.unnumbered)} of the pixels are NaN or infinite in a band"
        lines.append(Line("nan: ignore", f"{share}: left out of loss and score"))
    if look.gsd_m:
        oblong = describe_oblong(look.pixel_m)
        why = f"from the files' georeference{oblong and f': {oblong}'}"
        lines.append(Line(f"gsd_m: {look.gsd_m:.4g}", why))
    regions = look.places.regions
    if regions.names:
        examples = ", ".join(regions.names[:3])
        lines.append(Line(f"region: '{regions.expression}'", f"{regions.what}: {examples}"))
    if not layout.parts:
        lines.append(_draft_split(choose_units(layout, look, choices.block_px), look, choices))
    return _mark_guesses(lines, guessed_keys(open_points_of(layout, look, choices)))


def open_points_of(layout: Layout, look: Fingerprint, choices: Choices) -> tuple[OpenPoint, ...]:
    """Return what the draft for these choices assumes, and the files do not settle."""
    bands = choose_bands(layout, look, choices.bands, choices.sensor)
    points = find_open_points(layout, look, bands, choose_classes(look, choices.classes))
    return (small_blocks(look, choices.block_px), *points) if choices.block_px else points


def _mark_guesses(lines: Sequence[Line], guessed: Sequence[str]) -> list[Line]:
    """Mark the comments of guessed lines, and list their keys for `check` and `run` to repeat."""
    marked = [
        line._replace(reason=f"{MARK}{line.reason or 'other files may be meant'}")
        if line.text.split(":")[0] in guessed
        else line
        for line in lines
    ]
    if guessed:
        keys = f"assumed: [{', '.join(guessed)}]"
        marked.append(Line(keys, "guessed: correct these lines, then remove this one"))
    return marked


def _draft_classes(look: Fingerprint, choices: Choices) -> list[Line]:
    choice = choose_classes(look, choices.classes)
    classes, reason = choice.names, choice.reason
    shares = {value: look.values.get(float(value), 0.0) for value in classes}
    words = ", ".join(
        f"{look.name_of(value)}: {percent_of(share)}" for value, share in shares.items()
    )
    ignored = {int(value): share for value, share in look.values.items() if value not in classes}
    if look.colors:
        meant = {value: classes.get(int(value), IGNORED) for value in look.values}
        pairs = ", ".join(f'"{look.name_of(v)}": {_quote(name)}' for v, name in meant.items())
        return [Line(f"values: {{{pairs}}}", f"colors, {reason}; of the pixels {words}")]
    if list(classes) == list(range(len(classes))):
        names = ", ".join(map(_quote, classes.values()))
        lines = [Line(f"classes: [{names}]", f"{reason}; of the pixels {words}")]
    else:
        pairs = ", ".join(f"{value}: {_quote(name)}" for value, name in classes.items())
        lines = [Line(f"values: {{{pairs}}}", f"{reason}; of the pixels {words}")]
    if ignored:
        few = ", ".join(map(str, ignored))
        lines.append(
            Line(
                f"ignore: {few}" if len(ignored) == 1 else f"ignore: [{few}]",
                f"{percent_of(sum(ignored.values()))} of the pixels have no label",
            )
        )
    return lines


def _quote(name: str) -> str:
    """Return a class name as YAML reads it as text."""
    plain = re.fullmatch(r"[A-Za-z][\w -]*", name) and name.lower() not in NO_TEXTS
    return name if plain else json.dumps(name, ensure_ascii=False)


class Units(NamedTuple):
    """Hold the units that are split into parts: scenes, or blocks of few large scenes."""

    train: int  # units in the train part, about
    side_px: int  # side of the smallest unit
    pixels: float  # of each unit, about
    block_px: int | None  # None: whole scenes
    gap_px: int


def choose_units(layout: Layout, look: Fingerprint, block_px: int | None = None) -> Units:
    """Choose between whole scenes and blocks of ground; folders of parts mean whole scenes.

    Args:
        layout: Layout of the scenes' files.
        look: Fingerprint of the scenes.
        block_px: Side of the blocks; None: choose, and whether there are any.

    Raises:
        DataError: The scenes are few, and too small to be cut into blocks; or they show too few
            places, in a way that blocks cannot be cut.
    """
    each = look.pixels / look.scenes
    if layout.parts:
        train = sum(part == PARTS[0] for part, *_ in layout.pairs)
        return Units(train, look.smallest_side, each, None, 0)
    if look.places.series.places:
        _require_dates(look)
    if look.places.series.places or (block_px is None and _are_whole(look)):
        return Units(max(1, round(TRAIN * look.scenes)), look.smallest_side, each, None, 0)
    if not look.places.one_grid:
        raise DataError(
            f"The {look.scenes} scenes are {count_of(_count_groups(look), 'group')} of overlapping "
            f"ground, fewer than {', '.join(PARTS)} need, and lie on different grids, so that blocks of "
            "ground cannot be cut alike. Put those of one place on one grid (gdalwarp -te ... -tr ...), "
            "leave out scenes that overlap, or sort the scenes into folders train, val and test."
        )
    block = block_px or choose_block(layout, _each_ground_once(look))
    gap = min(SMALL, block // 4 // 8 * 8)
    number = max(1, round(TRAIN * look.pixels / block**2))
    side = min(block, *(_block_side(size, block) for size in look.sizes))
    return Units(number, side - gap, float(block**2), block, gap)


def _each_ground_once(look: Fingerprint) -> Fingerprint:
    """Return the fingerprint as if each ground were shown on one date only."""
    grounds = _count_groups(look)
    return replace(look, scenes=grounds, pixels=look.pixels * grounds // look.scenes)


def finer_blocks(layout: Layout, look: Fingerprint) -> list[int]:
    """Return sides of blocks to try where a division leaves a part one class, the largest first."""
    if layout.parts or look.places.series.places or not look.places.one_grid:
        return []
    try:
        first = choose_block(layout, _each_ground_once(look))
    except DataError:
        return []
    whole = _are_whole(look)
    sides = range(first // 16 * 16, SMALLEST_BLOCK - 1, -16)
    return [side for side in sides if whole or side < first]


def _count_groups(look: Fingerprint) -> int:
    """Return how many groups of scenes can be dealt out: regions, or places, or scenes."""
    places = look.places
    opened_all = look.looked_at == look.scenes
    grounds = places.grounds if places.grounds is not None and opened_all else look.scenes
    return len(places.regions.names) or grounds


def _are_whole(look: Fingerprint) -> bool:
    """Return whether there are groups enough to deal out whole scenes.

    Blocks are for few scenes: many scenes of few regions often show the same ground.
    """
    groups = _count_groups(look)
    many = groups >= FEW_GROUPS or (look.scenes >= FEW_GROUPS and groups >= len(PARTS))
    return many or (groups >= len(PARTS) and not look.places.one_grid)


def _require_dates(look: Fingerprint) -> None:
    series = look.places.series
    if len(series.dates) < len(PARTS):
        raise DataError(
            f"By their ids, the {look.scenes} scenes show {count_of(len(series.places), 'place')} on "
            f"{len(series.dates)} dates, and the files do not tell where they lie: neither places nor "
            f"dates suffice for {', '.join(PARTS)}. Georeference the scenes, then blocks of ground are "
            "dealt out; rename them, if they show other places; or write a card with `split: {by: list}`."
        )


def choose_block(layout: Layout, look: Fingerprint) -> int:
    """Choose the side of a block of ground, pixels: the largest that gives enough blocks.

    It is the side of about `BLOCKS` blocks, 96 pixels at least, or a smaller multiple of 16 where
    the scenes are too small for that.

    Raises:
        DataError: Even the smallest blocks are too few.
    """
    wanted = max(SMALL + 32, int(math.sqrt(look.pixels / BLOCKS)) // 32 * 32)
    smaller = range((wanted - 1) // 16 * 16, SMALLEST_BLOCK - 1, -16)
    for block in chain([wanted], smaller):
        if _count_blocks(look, block) >= FEWEST_BLOCKS:
            return block
    raise DataError(
        f"Cannot divide {count_of(look.scenes, 'scene')} of {sizes_of(look)} (first: "
        f"'{layout.pairs[0][1]}') into {', '.join(PARTS)}: at least {FEWEST_BLOCKS} blocks of "
        f"{SMALLEST_BLOCK} pixels are needed, as one scene of {3 * SMALLEST_BLOCK} x "
        f"{2 * SMALLEST_BLOCK} pixels has. Give larger scenes, or {FEW_GROUPS} scenes, which are "
        "dealt out whole."
    )


def _count_blocks(look: Fingerprint, block: int) -> int:
    """Return the fewest blocks that the scenes give, by the smallest and the largest one."""
    shapes = [grid_shape(size, block) for size in look.sizes]
    small, large = (rows * columns for rows, columns in shapes)
    return (look.scenes - 1) * min(small, large) + large


def _block_side(size: tuple[int, int], block: int) -> int:
    return min(side // number for side, number in zip(size, grid_shape(size, block), strict=True))


def _draft_split(units: Units, look: Fingerprint, choices: Choices) -> Line:
    groups, series = _count_groups(look), look.places.series
    what = "region" if look.places.regions.names else "scene"
    if groups < look.scenes and what == "scene":
        what = "place"
    if series.places:
        return Line(
            f"split: {{by: time, date: '{series.date}'}}",
            f"{count_of(len(series.places), 'place')} on {len(series.dates)} dates by the ids: the latest are "
            "the test part",
        )
    if units.block_px is None:
        return Line(
            "split: {by: scene}",
            f"no folders train, val and test: {groups} {what}s are dealt out, related ones together",
        )
    if choices.block_px is not None:
        return Line(
            f"split: {{by: place, block_px: {units.block_px}, gap_px: {units.gap_px}}}",
            f"larger blocks, or whole {what}s, leave a part one class; parts {units.gap_px} pixels apart",
        )
    few = f"{groups} {what} is" if groups == 1 else f"{groups} {what}s are"
    dates = f", on all {look.scenes} scenes alike" if groups < look.scenes else ""
    return Line(
        f"split: {{by: place, block_px: {units.block_px}, gap_px: {units.gap_px}}}",
        f"{few} too few to deal out: blocks of ground{dates}, parts {units.gap_px} pixels apart",
    )


def sizes_of(look: Fingerprint) -> str:
    """Format the sizes of the smallest and the largest scene."""
    low, high = look.sizes
    words = [f"{height} x {width}" for height, width in dict.fromkeys([low, high])]
    return " to ".join(words) + " pixels"
