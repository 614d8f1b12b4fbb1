"""What a report says, before it is written in any format: a page of sections of parts.

A part is text, a table or a figure. `html`, `markdown` and `latex` write the same page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .table import Table

Tone = Literal["improved", "not shown", "worse", "none"]


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure that lies beside the page as `name`.svg and `name`.png.

    Attributes:
        name: Of the files, without their ending.
        alt: What it shows, for those who do not see it.
        caption: Below it; how to read it.
        photo: Whether pixels matter, so that the PNG is shown and not the SVG.
    """

    name: str
    alt: str
    caption: str = ""
    photo: bool = False


Part = str | Table | Picture


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it."""

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A report.

    Attributes:
        title: Of the page.
        lead: Its first sentence: the verdict.
        tone: What the verdict is.
        sections: In their order.
    """

    title: str
    lead: str
    tone: Tone
    sections: tuple[Section, ...]
