"""Write a report as Markdown, with its figures in files beside it."""

from __future__ import annotations

from . import table as tables
from .page import Page, Part, Picture
from .table import Table


def markdown(page: Page) -> str:
    """Write a page as Markdown."""
    warnings = [f"> **Warning:** {tables.plain(text)}" for text in page.warnings]
    blocks = [f"# {tables.plain(page.title)}", *warnings, f"**{tables.plain(page.lead)}**"]
    for section in page.sections:
        blocks += [f"## {section.title}", *(_part(part) for part in section.parts)]
    return "\n\n".join(blocks) + "\n"


def _part(part: Part) -> str:
    if isinstance(part, Table):
        return tables.markdown(part)
    if isinstance(part, Picture):
        shown = f"![{tables.plain(part.alt)}]({part.name}.png)"
        return f"{shown}\n\n{tables.plain(part.caption)}" if part.caption else shown
    return tables.plain(part)
