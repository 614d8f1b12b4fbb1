r"""Write a report's tables as LaTeX, to be included in a paper with `\input`."""

from __future__ import annotations

import re

from .page import Page
from .table import Table, latex

HEAD = r"""% {title}
{lead}
% Needs \usepackage{{booktabs}}; wide tables want \usepackage{{graphicx}} and \resizebox.
"""


def tables(page: Page) -> str:
    """Write every table of a page as a float, captioned with its section's title."""
    parts = [HEAD.format(title=_comment(page.title), lead=_comments(page))]
    for section in page.sections:
        sheets = [part for part in section.parts if isinstance(part, Table)]
        for number, table in enumerate(sheets, start=1):
            name = re.sub(r"\W+", "-", section.title.lower())
            label = f"tab:{name}" if len(sheets) == 1 else f"tab:{name}-{number}"
            caption = f"{page.title}: {section.title.lower()}"
            parts.append(latex(table, caption=caption, label=label))
    return "\n".join(parts)


def _comments(page: Page) -> str:
    """Return the warnings and the verdict as comment lines."""
    lines = (*(f"Warning: {text}" for text in page.warnings), page.lead)
    return "\n".join(f"% {_comment(line)}" for line in lines)


def _comment(text: str) -> str:
    return " ".join(text.split())
