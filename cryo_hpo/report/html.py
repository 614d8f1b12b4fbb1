"""A report as one HTML file: figures and styles inside, no script, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import re
from html import escape
from pathlib import Path

from . import table as tables
from .figures.style import THEME
from .page import Page, Part, Picture
from .table import Table

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --card: #f6f7f8; --ink: #1a1a1a;
  --soft: #595959; --line: #e2e4e7; --blue: #0072b2; --orange: #c44e00; --good: #0b6e4f;
  --bad: #b3261e; --plain: #595959; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --card: #1d2126; --ink: #e8eaed;
  --soft: #a9b0b8; --line: #343a41; --blue: #56b4e9; --orange: #f08a3c; --good: #5ecfa5;
  --bad: #ff8a80; --plain: #a9b0b8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 56rem; padding: 1.25rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.2; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }
p { margin: .75rem 0; max-width: 46rem; }
nav { margin: 1rem 0 0; font-size: .9rem; display: flex; flex-wrap: wrap; gap: .35rem 1rem; }
a { color: var(--blue); }
.verdict { border-left: .35rem solid var(--plain); background: var(--card);
  border-radius: .35rem; padding: .85rem 1rem; font-size: 1.1rem; margin: 0; max-width: none; }
.verdict.improved { border-color: var(--good); } .verdict.worse { border-color: var(--bad); }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--soft); font-weight: 600; vertical-align: bottom;
  border-bottom: 1.5px solid var(--soft); }
th, td { padding: .3rem .7rem; } th:first-child, td:first-child { padding-left: 0; }
td { border-bottom: 1px solid var(--line); vertical-align: top; }
.n { text-align: right; white-space: nowrap; } .strong td { font-weight: 650; }
td:first-child { white-space: nowrap; } td:not(.n) { min-width: 5.5rem; }
td:last-child:not(.n) { min-width: 11rem; overflow-wrap: break-word; }
figure { margin: 1rem 0; } figure svg, figure img { display: block; width: 100%; height: auto;
  max-width: 44rem; } figure img { image-rendering: auto; }
figcaption { color: var(--soft); font-size: .875rem; margin-top: .4rem; max-width: 44rem; }
@media print { h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""
FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p class="verdict {tone}">{lead}</p>
<nav>{links}</nav>
{sections}
</body>
</html>
"""
UNWANTED = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", re.DOTALL)


def html(page: Page, folder: Path) -> str:
    """Write a page as one file.

    Args:
        page: What it says.
        folder: Where its figures lie.
    """
    titles = [(_slug(section.title), escape(section.title)) for section in page.sections]
    sections = [
        f'<section id="{_slug(section.title)}">\n<h2>{escape(section.title)}</h2>\n'
        + "\n".join(_part(part, folder) for part in section.parts)
        + "\n</section>"
        for section in page.sections
    ]
    return FRAME.format(
        title=escape(page.title),
        style=STYLE,
        tone=page.tone.replace(" ", "-"),
        lead=escape(page.lead),
        links="\n".join(f'<a href="#{slug}">{title}</a>' for slug, title in titles),
        sections="\n".join(sections),
    )


def inline_svg(svg: str, *, name: str, alt: str) -> str:
    """Make a figure part of a page: its colours the page's, its names its own.

    Args:
        svg: A file as `style.save` writes it.
        name: Unique on the page.
        alt: What the figure shows.
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
    return f"<figure>\n{shown}\n{caption}</figure>"


def _slug(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower())
