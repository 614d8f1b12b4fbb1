"""Model a report independent of its format: a page of sections of parts.

A part is text, a table or a figure. `html`, `markdown` and `latex` write the same page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .table import Table

Tone = Literal["improved", "not shown", "worse", "none"]


@dataclass(frozen=True, slots=True)
class Picture:
    """Hold a figure stored beside the page as `name`.svg and `name`.png.

    Attributes:
        name: Name of the files, without suffix.
        alt: Alternative text.
        caption: Text below the figure: how to read it.
        photo: Whether pixels matter, so that the page shows the PNG instead of the SVG.
    """

    name: str
    alt: str
    caption: str = ""
    photo: bool = False


Part = str | Table | Picture


@dataclass(frozen=True, slots=True)
class Section:
    """Hold a heading and the parts below it."""

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Hold a report.

    Attributes:
        title: Title of the page.
        lead: First sentences: the verdict.
        tone: Kind of verdict.
        sections: Sections in order.
        warnings: What the reader must know before the verdict, shown above it.
    """

    title: str
    lead: str
    tone: Tone
    sections: tuple[Section, ...]
    warnings: tuple[str, ...] = ()
