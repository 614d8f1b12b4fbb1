"""Divide scenes without official parts into train, val and test; no two parts share a pixel."""

# G groups, K classes, H W pixels

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..config.split_rule import SplitRule
from ..errors import DataError
from ..storage.plain_files import require_file
from .dataset import SceneFiles, Split
from .leakage import SceneIdentity, connected_groups
from .region_split import PARTS, assign
from .stacks import Stack, stack_scenes

MAX_NAMED = 3  # ids in a message
FEWEST_BLOCKS = 2 * len(PARTS)  # with fewer, a part may be one block, and a score that of one place

DATE = re.compile(
    r"(?P<year>\d{4})(?:(?P<of_year>\d{3})|[-_./]?(?P<month>\d{2})(?:[-_./]?(?P<day>\d{2}))?"
    r"|[-_./](?P<month_>\d{1,2})(?:[-_./](?P<day_>\d{1,2}))?)?(?:[T_ -]?\d{4,6}Z?)?"
)

Parts = dict[Split, list[SceneFiles]]
Count = Callable[[SceneFiles], Sequence[int]]
"""Labeled pixels of each class in a scene, or in its window."""
Measure = Callable[[SceneFiles], tuple[int, int]]
Window = tuple[slice, slice]


class Block(NamedTuple):
    """Hold a square of a scene's grid of blocks."""

    scene: int
    row: int
    column: int


def plan_split(
    name: str,
    rule: SplitRule,
    scenes: Sequence[SceneIdentity],
    *,
    root: Path,
    count: Count,
    measure: Measure,
) -> Parts:
    """Divide scenes, or blocks of scenes, into parts.

    The same scenes and rule always give the same parts. Classes are balanced over the parts as far
    as whole groups allow.

    Args:
        name: Name of the dataset, for messages.
        rule: How to divide.
        scenes: All scenes, in the order of their ids.
        root: Folder of the dataset, where a list lies.
        count: Counts labeled pixels by class.
        measure: Returns height and width of a scene, pixels; called only for blocks.

    Raises:
        DataError: There are too few scenes, groups or dates, or a list names unknown scenes.
    """
    if rule.by == "list":
        return _divide_by_list(name, rule, scenes, root)
    if rule.by == "time":
        return _divide_by_time(name, rule, scenes)
    if rule.by == "place":
        return _divide_by_place(name, rule, scenes, count, measure)
    if rule.by == "region":
        _require_regions(name, scenes)
    return _divide_by_scene(name, rule, scenes, count)


def _require_regions(name: str, scenes: Sequence[SceneIdentity]) -> None:
    lost = [scene.item.id for scene in scenes if not scene.item.region]
    if lost:
        raise DataError(
            f"Cannot divide '{name}' by region: {len(lost)} of {len(scenes)} scenes have none (first: "
            f"'{lost[0]}'). Add `region` or `region_outlines` to the card, or use `by: scene`."
        )


def _divide_by_scene(
    name: str, rule: SplitRule, scenes: Sequence[SceneIdentity], count: Count
) -> Parts:
    """Divide groups of related scenes: one region, overlapping ground or equal bytes."""
    groups = connected_groups(scenes)
    least = rule.folds or len(PARTS)
    if len(groups) < least:
        has_regions = any(scene.item.region for scene in scenes)
        remedy = (
            "Name smaller regions, or drop them and use `by: place` in the card's `split`"
            if has_regions
            else "Use `by: place` in the card's `split`"
        )
        raise DataError(
            f"Cannot divide the {len(scenes)} scenes of '{name}' into {least} parts: related "
            f"ones stay together, which leaves {len(groups)} groups. {remedy}, "
            "which cuts scenes into blocks, or add scenes of other places."
        )
    rows = np.array([[1, *count(scene.item)] for scene in scenes], dtype=np.float64)
    sizes_GD = np.stack([rows[group].sum(axis=0) for group in groups])
    part_G = _assign_parts(sizes_GD, rule)
    parts: Parts = {part: [] for part in PARTS}
    for group, part in zip(groups, part_G.tolist(), strict=True):
        parts[PARTS[part]] += [scenes[i].item for i in group]
    return {part: sorted(items) for part, items in parts.items()}


def _assign_parts(sizes_GD: NDArray[np.float64], rule: SplitRule) -> NDArray[np.intp]:
    """Return the number of the part of each group, (G,), by shares or by folds."""
    if rule.folds is None:
        return assign(sizes_GD, np.array(rule.shares), seed=rule.seed)
    fold_G = assign(sizes_GD, np.full(rule.folds, 1 / rule.folds), seed=rule.seed)
    train, val, test = range(len(PARTS))
    part_G = np.full(len(fold_G), train)
    part_G[fold_G == (rule.fold + 1) % rule.folds] = val
    part_G[fold_G == rule.fold] = test
    return part_G


def _divide_by_time(name: str, rule: SplitRule, scenes: Sequence[SceneIdentity]) -> Parts:
    """Give the earliest dates to train and the latest to test; a date is never divided."""
    dates = {scene.item.id: date_of(name, rule, scene.item) for scene in scenes}
    if len({date.count("-") for date in dates.values()}) > 1:
        message = (
            f"The dates of '{name}' are of different kinds: {', '.join(sorted(dates.values()))}."
        )
        raise DataError(f"{message} Write all ids with year, month and day.")
    ordered = sorted(set(dates.values()))
    if len(ordered) < len(PARTS):
        raise DataError(
            f"Cannot divide '{name}' by time into {len(PARTS)} parts: its scenes have "
            f"{len(ordered)} dates ({', '.join(ordered)}). Use `by: scene` or `by: place`."
        )
    numbers = np.array([sum(d == date for d in dates.values()) for date in ordered])
    before = (np.cumsum(numbers) - numbers / 2) / numbers.sum()  # the middle of each date's share
    edges = np.cumsum(rule.shares)[:-1]
    part_of = np.searchsorted(edges, before)
    # Every part gets a date, whatever the shares: the first, the last, and one in between.
    part_of[0], part_of[-1] = 0, len(PARTS) - 1
    if not (part_of == 1).any():
        part_of[min(int(np.argmax(part_of == len(PARTS) - 1)), len(ordered) - 2)] = 1
    chosen = dict(zip(ordered, part_of.tolist(), strict=True))
    return {
        part: [s.item for s in scenes if chosen[dates[s.item.id]] == number]
        for number, part in enumerate(PARTS)
    }


def date_of(name: str, rule: SplitRule, item: SceneFiles) -> str:
    """Return the date in an id, as text that sorts by time.

    Raises:
        DataError: The id holds no date, or one that can be read two ways.
    """
    match = re.search(rule.date or "", item.id)
    if match is None or match[1] is None:
        raise DataError(
            f"No date in the id '{item.id}' of '{name}': `split.date` is '{rule.date}'. "
            "Change the expression so that it matches every id."
        )
    date = _in_order(match[1])
    if date is None:
        raise DataError(
            f"'{match[1]}' in the id '{item.id}' of '{name}' is no date that begins with its year: "
            "2019, 201907, 2019-07-31, 20190731 or 2019212 (day of the year). Dates such as "
            "31072019 sort wrong: rename the scenes, or use `by: list`."
        )
    return date


def _in_order(text: str) -> str | None:
    """Return a date as text that sorts by time, such as 2019-07-31; None: it can be read two ways."""
    match = DATE.fullmatch(text)
    if match is None:
        return None
    year, of_year = match["year"], match["of_year"]
    month, day = match["month"] or match["month_"], match["day"] or match["day_"]
    if not 1900 <= int(year) <= 2100:
        return None
    if of_year:
        return f"{year}-{of_year}" if 1 <= int(of_year) <= 366 else None
    if not (1 <= int(month or 1) <= 12 and 1 <= int(day or 1) <= 31):
        return None
    return "-".join([year, *(f"{int(part):02d}" for part in (month, day) if part)])


def _divide_by_list(
    name: str, rule: SplitRule, scenes: Sequence[SceneIdentity], root: Path
) -> Parts:
    file = root / str(rule.file)
    chosen = _read_list(file)
    ids = {scene.item.id for scene in scenes}
    for what, names in (
        ("scenes have no line", ids - set(chosen)),
        ("ids have no scene", set(chosen) - ids),
    ):
        if names:
            first = ", ".join(sorted(names)[:MAX_NAMED])
            raise DataError(
                f"{file}: {len(names)} {what} ({first}). List every scene of '{name}' once."
            )
    parts: Parts = {p: [s.item for s in scenes if chosen[s.item.id] == p] for p in PARTS}
    empty = [part for part, items in parts.items() if not items]
    if empty:
        raise DataError(f"{file}: no scene in {' and '.join(empty)}. Every part needs one.")
    return parts


def _read_list(file: Path) -> dict[str, str]:
    require_file(file)
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            lines = list(csv.DictReader(opened))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot read the list of parts: {error}.") from error
    chosen: dict[str, str] = {}
    for number, line in enumerate(lines, start=2):
        name, part = line.get("id"), line.get("part")
        if name is None or part not in PARTS:
            raise DataError(
                f"{file}:{number}: expected columns id and part (train, val or test), got {line}."
            )
        if name in chosen:
            raise DataError(f"{file}:{number}: '{name}' stands twice. List every scene once.")
        chosen[name] = part
    return chosen


def _divide_by_place(
    name: str,
    rule: SplitRule,
    scenes: Sequence[SceneIdentity],
    count: Count,
    measure: Measure,
) -> Parts:
    """Cut ground into blocks, divide the blocks, and leave a gap where parts meet.

    Scenes on one grid, such as the dates of a time series, are cut alike: a block of ground is in
    one part on all dates.
    """
    stacks = stack_scenes(scenes, [measure(scene.item) for scene in scenes])
    _require_apart(name, scenes, stacks)
    sizes = [stack.size for stack in stacks]
    shapes = [grid_shape(size, rule.block_px) for size in sizes]
    blocks = [
        Block(number, row, column)
        for number, shape in enumerate(shapes)
        for row, column in product(range(shape[0]), range(shape[1]))
    ]
    if len(blocks) < FEWEST_BLOCKS:
        raise DataError(
            f"Cannot divide '{name}' by place: {len(blocks)} block{'s' * (len(blocks) != 1)} of "
            f"{rule.block_px} pixels, at least {FEWEST_BLOCKS} are needed. Lower `block_px` in the card's `split`."
        )
    whole = {b: _window(b, shapes, sizes[b.scene], (0, 0, 0, 0)) for b in blocks}
    rows = [_count_block(stacks[block.scene], whole[block], count) for block in blocks]
    labeled = [i for i, row in enumerate(rows) if sum(row[1:])]
    least = max(FEWEST_BLOCKS, rule.folds or 0)
    if len(labeled) < least:
        raise DataError(
            f"Cannot divide '{name}' by place: {len(labeled)} of {len(blocks)} blocks hold "
            f"labels, at least {least} are needed. Lower `block_px` in the card's `split`."
        )
    sizes_GD = np.array([rows[i] for i in labeled], dtype=np.float64)
    part_G = _assign_parts(sizes_GD, rule)
    part_of = {blocks[i]: part for i, part in zip(labeled, part_G.tolist(), strict=True)}
    met = _touching([scenes[stack.scenes[0]] for stack in stacks], sizes, rule.gap_px)
    parts: Parts = {part: [] for part in PARTS}
    for block, part in part_of.items():
        trims = _trims(
            block, part_of, rule.gap_px, shapes[block.scene] if block.scene in met else None
        )
        window = _window(block, shapes, sizes[block.scene], trims)
        for item in stacks[block.scene].items:
            named = item._replace(id=f"{item.id}@r{block.row}c{block.column}", window=window)
            parts[PARTS[part]].append(named)
    return {part: sorted(items, key=lambda item: item.id) for part, items in parts.items()}


def _count_block(stack: Stack, window: Window, count: Count) -> list[int]:
    """Return scenes and labeled pixels by class of a block, over all scenes of a stack."""
    each = [count(item._replace(window=window)) for item in stack.items]
    return [len(each), *(sum(of_class) for of_class in zip(*each, strict=True))]


def _require_apart(name: str, scenes: Sequence[SceneIdentity], stacks: Sequence[Stack]) -> None:
    """Refuse scenes of the same ground on other grids: their blocks would share pixels between parts."""
    stack_of = {i: number for number, stack in enumerate(stacks) for i in stack.scenes}
    groups = [group for group in connected_groups(scenes) if len({stack_of[i] for i in group}) > 1]
    shared = [[scenes[i].item.id for i in group] for group in groups]
    if shared:
        raise DataError(
            f"Cannot divide '{name}' by place: {len(shared)} groups of scenes show the same ground "
            f"or region on different grids (first: {', '.join(shared[0][:MAX_NAMED])}). Use `by: "
            "scene` or `by: time`, cut scenes of one place to one grid (gdalwarp -te ... -tr ...), or "
            "keep one scene of each place."
        )


def _touching(
    scenes: Sequence[SceneIdentity], sizes: Sequence[tuple[int, int]], gap_px: int
) -> set[int]:
    """Return the numbers of scenes that are nearer to another one than the gap."""
    met: set[int] = set()
    for (i, first), (j, second) in combinations(enumerate(scenes), 2):
        if first.native is None or second.native is None or first.crs != second.crs:
            continue
        side = (first.native[2] - first.native[0]) / max(sizes[i][1], 1)
        apart = max(
            max(first.native[k], second.native[k]) - min(first.native[k + 2], second.native[k + 2])
            for k in (0, 1)
        )
        if apart < gap_px * side:
            met |= {i, j}
    return met


def grid_shape(size: tuple[int, int], block_px: int) -> tuple[int, int]:
    """Return rows and columns of blocks: about `block_px` each, none smaller than half of it."""
    height, width = size
    return max(1, round(height / block_px)), max(1, round(width / block_px))


def _window(
    block: Block,
    shapes: Sequence[tuple[int, int]],
    size: tuple[int, int],
    trims: tuple[int, int, int, int],
) -> Window:
    """Return rows and columns of pixels of a block, less what is trimmed from its sides."""
    (rows, columns), (height, width) = shapes[block.scene], size
    top, left, bottom, right = trims
    return (
        slice(
            block.row * height // rows + top,
            (block.row + 1) * height // rows - bottom,
        ),
        slice(
            block.column * width // columns + left,
            (block.column + 1) * width // columns - right,
        ),
    )


def _trims(
    block: Block,
    part_of: Mapping[Block, int],
    gap_px: int,
    shape: tuple[int, int] | None = None,
) -> tuple[int, int, int, int]:
    """Return how much to trim (top, left, bottom, right) next to blocks of another part.

    Diagonal neighbors count for both sides of the corner, so that the gap is as wide there. With
    the `shape` of a scene that touches another one, what lies beyond its border counts as another
    part.
    """
    own, half = part_of[block], (gap_px + 1) // 2

    def is_foreign(other: Block) -> bool:
        if shape is not None and not (0 <= other.row < shape[0] and 0 <= other.column < shape[1]):
            return True
        return part_of.get(other, own) != own

    def trim(steps: Sequence[tuple[int, int]]) -> int:
        around = (Block(block.scene, block.row + r, block.column + c) for r, c in steps)
        return half if any(map(is_foreign, around)) else 0

    return (
        trim([(-1, -1), (-1, 0), (-1, 1)]),
        trim([(-1, -1), (0, -1), (1, -1)]),
        trim([(1, -1), (1, 0), (1, 1)]),
        trim([(-1, 1), (0, 1), (1, 1)]),
    )
