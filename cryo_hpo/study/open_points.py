"""Find what a draft assumes and the files of a folder do not settle: a user's points to check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..data.fingerprint import Fingerprint
from ..data.id_words import WORD
from ..data.layer_names import NUMBERED
from ..data.layout import Layout
from ..data.places import Places
from ..report.wording import count_of, percent_of
from .draft_bands import BandChoice
from .draft_classes import NO_LABEL, ClassChoice

MARK = "CHECK: "
"""Beginning of a comment on a guessed line."""


class OpenPoint(NamedTuple):
    """Hold a point that the files of a folder do not settle.

    Attributes:
        key: Key of the card whose value it concerns; "": none.
        assumed: What the draft assumes, or what is odd.
        settle: Option or edit that settles it.
        is_guess: Whether results are wrong if it is: the card lists the keys of such as `assumed`.
    """

    key: str
    assumed: str
    settle: str = ""
    is_guess: bool = False

    def __str__(self) -> str:
        return f"{self.assumed} {self.settle}".rstrip()


def find_open_points(
    layout: Layout, look: Fingerprint, bands: BandChoice, classes: ClassChoice
) -> tuple[OpenPoint, ...]:
    """Return the points that a user should check before trusting the draft, guesses first."""
    points = [
        *_bands(bands),
        *_classes(look, classes),
        *_files(layout),
        *_elsewhere(layout),
        *_unpaired(layout),
        *_regions(layout, look),
        *_remarks(layout, look),
    ]
    return tuple(sorted(points, key=lambda point: not point.is_guess))


def small_blocks(look: Fingerprint, block_px: int) -> OpenPoint:
    """Return the point on blocks that had to be small for every part to hold several classes."""
    size = look.object_px or 0.0
    cut = (
        f" A typical object is {size:.0f} pixels wide: one may lie in several parts."
        if 2 * size > block_px
        else ""
    )
    return OpenPoint(
        "split",
        f"Whole scenes or larger blocks leave a part one class only, so blocks of {block_px} pixels are "
        f"dealt out: train and test show ground near each other.{cut} The scores hold for these scenes, "
        "not for other places.",
        "Add scenes of other places that show the rarer classes, or write `split: {by: list, ...}`.",
        is_guess=True,
    )


def guessed_keys(points: Sequence[OpenPoint]) -> tuple[str, ...]:
    """Return the keys of the card whose values were guessed, each once."""
    return tuple(dict.fromkeys(point.key for point in points if point.is_guess and point.key))


def line_number(file: Path, key: str) -> int:
    """Return the line of a card, from 1, that sets a key; 0 if none does."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return next((n for n, line in enumerate(lines, 1) if line.startswith(f"{key}:")), 0)


def _bands(bands: BandChoice) -> Iterator[OpenPoint]:
    if bands.guess:
        yield OpenPoint("bands", f"{bands.guess}.", bands.settle, is_guess=True)
    if not bands.sensor and any(NUMBERED.fullmatch(name) for name in bands.names):
        yield OpenPoint(
            "bands",
            "Numbers of bands are read as Sentinel-2's: B4 is red there and on Landsat 8, and near "
            "infrared on Landsat 7.",
            "Give --sensor sentinel-2, landsat-8, ... (`cryo-hpo list bands`).",
            is_guess=True,
        )


def _classes(look: Fingerprint, classes: ClassChoice) -> Iterator[OpenPoint]:
    if not classes.is_guess:
        return
    words = " and ".join(
        f"{look.name_of(value)} is '{name}'" for value, name in classes.names.items()
    )
    numbered = not look.colors and list(classes.names) == list(range(len(classes.names)))
    key = "classes" if numbered else "values"
    example = ",".join(
        ["land", "lake", *["ignore"] * (NO_LABEL in look.values and key == "classes")]
    )
    yield OpenPoint(
        key,
        f"Nothing names the mask values: {words}.",
        f"Give --classes {example}, in the order of the values.",
        is_guess=True,
    )
    if not look.colors and NO_LABEL in look.values and NO_LABEL not in classes.names:
        share = percent_of(look.values[NO_LABEL])
        yield OpenPoint(
            "ignore",
            f"The mask value {NO_LABEL}, on {share} of the pixels, is taken for 'no label'.",
            f"Give --classes {example}, or a class in place of 'ignore'.",
            is_guess=True,
        )


def _files(layout: Layout) -> Iterator[OpenPoint]:
    for what, chosen, others in (
        ("images", layout.images, layout.other_images),
        ("masks", layout.masks, layout.other_masks),
    ):
        if others:
            yield OpenPoint(
                what,
                f"The {what} are those of '{chosen}', and as many of '{', '.join(others)}' fit too.",
                "Move those that are not meant out of the folder.",
                is_guess=True,
            )


def _elsewhere(layout: Layout) -> Iterator[OpenPoint]:
    if layout.elsewhere:
        yield OpenPoint(
            "images",
            f"The scenes are those of '{layout.images}'; further ones with masks are left out: "
            f"{', '.join(layout.elsewhere[:3])}.",
            "Put all images into one folder and all masks into another, or draft each alone.",
            is_guess=True,
        )


def _unpaired(layout: Layout) -> Iterator[OpenPoint]:
    if layout.unpaired:
        yield OpenPoint(
            "masks",
            f"{count_of(len(layout.unpaired), 'mask')} without an image by these names, left out "
            f"(first: {layout.unpaired[0]}).",
            "Name masks and images alike, or move these out of the folder.",
            is_guess=True,
        )


def _regions(layout: Layout, look: Fingerprint) -> Iterator[OpenPoint]:
    regions, series = look.places.regions, look.places.series
    if regions.names and not layout.parts:
        what = (
            "words that ids begin with"
            if regions.expression == WORD
            else "places in ids with dates"
        )
        yield OpenPoint(
            "region",
            f"The {what} ({', '.join(regions.names[:3])}, ...) are taken for places: scenes of one "
            "of them stay in one part.",
            "Remove the line if they are no places.",
            is_guess=True,
        )
    if series.places and not layout.parts:
        yield OpenPoint(
            "split",
            f"By their ids, the scenes show {count_of(len(series.places), 'place')} on "
            f"{len(series.dates)} dates. Train and test show the same ground on other dates, so that "
            "the scores hold for later dates there, not for other places.",
            "Georeference the scenes, then blocks of ground are dealt out; or give `{by: list}`.",
            is_guess=True,
        )


def _remarks(layout: Layout, look: Fingerprint) -> Iterator[OpenPoint]:
    """Yield what is odd about the files, and guesses nothing."""
    if layout.unused:
        number = count_of(len(layout.unused), "raster")
        yield OpenPoint("", f"{number} in no scene, left out (first: {layout.unused[0]}).")
    if look.looked_at < look.scenes:
        yield OpenPoint("", f"{look.looked_at} of {look.scenes} scenes were opened, evenly chosen.")
    if len(look.dtypes) > 1:
        kinds = ", ".join(look.dtypes)
        yield OpenPoint(
            "images", f"Images have different data types ({kinds}): are their units the same?"
        )
    if len(look.crs) > 1:
        kinds = ", ".join(name or "none" for name in look.crs)
        yield OpenPoint("images", f"Images have different reference systems ({kinds}).")
    if look.nodata:
        values = ", ".join(f"{value:g}" for value in look.nodata)
        yield OpenPoint("images", f"Pixels of {values} are declared as without data.")
    yield from _describe_series(layout, look)
    if "" in look.crs and not layout.parts and look.places == Places():
        yield OpenPoint(
            "split",
            "Nothing tells where the scenes lie: if two show the same ground, they may be in two "
            "parts, and the scores too good.",
            "Name regions in the card, or give a list.",
        )


def _describe_series(layout: Layout, look: Fingerprint) -> Iterator[OpenPoint]:
    grounds = look.places.grounds
    if grounds is not None and grounds < look.looked_at and not layout.parts:
        yield OpenPoint(
            "split",
            f"The {look.looked_at} scenes show {count_of(grounds, 'place')}: the same ground is never in "
            "two parts, whatever the date.",
            "To test on later dates of the same ground: `split: {by: time, date: ...}`.",
        )
