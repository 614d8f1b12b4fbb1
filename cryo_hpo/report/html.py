"""Write a report as one self-contained HTML file: figures and styles inside, no script."""

from __future__ import annotations

import base64
import re
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from . import table as tables
from .figures.style import THEME
from .page import Page, Part, Picture
from .table import Table

WHOLE = re.compile(r"\d[\d.]*(?:e-\d+| %)")  # not broken at the end of a line: 1e-4, 95 %
UNWANTED = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", re.DOTALL)


def html(page: Page, folder: Path) -> str:
    """Write a page as one HTML file.

    Args:
        page: Page to write.
        folder: Folder of its figures.
    """
    titles = [(_slug(section.title), escape(section.title)) for section in page.sections]
    sections = [
        f'<section id="{_slug(section.title)}">\n<h2>{escape(section.title)}</h2>\n'
        + "\n".join(_part(part, folder) for part in section.parts)
        + "\n</section>"
        for section in page.sections
    ]
    return _template().substitute(
        title=escape(page.title),
        tone=page.tone.replace(" ", "-"),
        warnings="\n".join(
            f'<p class="warning"><strong>Warning:</strong> {tables.rich(text)}</p>'
            for text in page.warnings
        ),
        lead=WHOLE.sub(r'<span class="whole">\g<0></span>', escape(page.lead)),
        links="\n".join(f'<a href="#{slug}">{title}</a>' for slug, title in titles),
        sections="\n".join(sections),
    )


@cache
def _template() -> Template:
    """Return the template of every page: head, style, verdict, links and sections."""
    text = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    return Template(text)


def inline_svg(svg: str, *, name: str, alt: str) -> str:
    """Inline a figure into a page: colors become the page's variables, ids become unique.

    Args:
        svg: SVG text as `style.save` writes it.
        name: Name that is unique on the page.
        alt: Alternative text.
    """
    text = UNWANTED.sub("", svg).strip()
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    for color, variable in THEME.items():
        text = re.sub(rf"{color}\b", f"var(--{variable})", text, flags=re.IGNORECASE)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1)


def _part(part: Part, folder: Path) -> str:
    if isinstance(part, Table):
        return tables.html(part)
    if isinstance(part, Picture):
        return _picture(part, folder)
    return "\n".join(f"<p>{tables.rich(text)}</p>" for text in part.split("\n\n"))


def _picture(picture: Picture, folder: Path) -> str:
    caption = f"<figcaption>{tables.rich(picture.caption)}</figcaption>" if picture.caption else ""
    if picture.photo:
        data = base64.b64encode((folder / f"{picture.name}.png").read_bytes()).decode()
        shown = f'<img alt="{escape(picture.alt)}" src="data:image/png;base64,{data}">'
    else:
        text = (folder / f"{picture.name}.svg").read_text(encoding="utf-8")
        shown = inline_svg(text, name=picture.name, alt=picture.alt)
    return f'<figure class="{picture.name}">\n{shown}\n{caption}</figure>'


def _slug(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower())
