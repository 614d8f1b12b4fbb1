"""Find places and dates in the ids of scenes, as regular expressions that a card can hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

DAY = r"(?:19|20)\d{2}[-_]?(?:0[1-9]|1[0-2])[-_]?(?:0[1-9]|[12]\d|3[01])"
YEAR = r"(?:19|20)\d{2}"
BETWEEN = "[-_. ]*"
TIME = r"(?:T\d{4,6}Z?)?"  # of day, behind a date
PART_WORDS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
WORD = "^([A-Za-z]+)[-_ ]"  # that an id begins with


class Regions(NamedTuple):
    """Hold what ids tell about regions."""

    names: tuple[str, ...] = ()
    expression: str = ""
    """Regular expression whose group is the region in an id."""
    what: str = ""
    """What the ids have in common, for a comment."""


class Series(NamedTuple):
    """Hold ids that name few places on several dates."""

    places: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    place: str = ""
    """Regular expression whose group is the place in an id."""
    date: str = ""
    """Regular expression whose group is the date in an id."""


def find_regions(ids: Sequence[str]) -> Regions:
    """Return the words that ids begin with, if they look like regions: few words, many scenes.

    Names of the parts of a split are no regions.
    """
    starts = [match[1] for name in ids if (match := re.match(WORD, name))]
    counted = Counter(starts)
    are_parts = {word.lower() for word in counted} <= PART_WORDS
    if len(starts) < len(ids) or are_parts or not 3 <= len(counted) <= len(ids) / 2:
        return Regions()
    return Regions(tuple(sorted(counted)), WORD, f"ids begin with {len(counted)} words")


def find_series(ids: Sequence[str]) -> Series:
    """Return places and dates of ids such as `hut_20190731` or `20190731_hut`; empty: they are no series.

    A day with month and year is a date. A year alone may be a number: it counts only where several
    places have several years each. Places are what is left without the date, else the first word;
    not path and row of Landsat, whose neighbors overlap.
    """
    forms = [(place, date) for date in (DAY, YEAR) for place in _around(date)]
    forms.append((WORD, DAY))
    for place, date in forms:
        series = _read_series(ids, place, date)
        if series is None or 2 * len(series.places) > len(ids) or len(series.dates) < 2:
            continue
        if date == DAY or len(series.places) > 1:
            return series
    return Series()


def _around(date: str) -> tuple[str, str]:
    """Return the expressions of a place before and behind a date."""
    return rf"^(.*?){BETWEEN}(?<!\d){date}{TIME}$", rf"^{date}(?!\d){TIME}{BETWEEN}(.*)$"


def _read_series(ids: Sequence[str], place: str, date: str) -> Series | None:
    finds_date = rf"(?<!\d)({date})(?!\d)"
    places = [re.search(place, name) for name in ids]
    dates = [re.search(finds_date, name) for name in ids]
    if not ids or not all(places) or not all(dates):
        return None
    if {match[1].lower() for match in places if match} <= PART_WORDS:
        return None
    return Series(
        tuple(sorted({match[1] for match in places if match})),
        tuple(sorted({match[1] for match in dates if match})),
        place,
        finds_date,
    )
