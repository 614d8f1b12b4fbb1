"""Report finished studies and campaigns: a page that leads with the verdict, tables and figures."""

from __future__ import annotations

from .answers import answers_text as campaign_text
from .answers import headline
from .campaign import note as campaign_note
from .files import markdown, note, write, write_campaign, write_page
from .page import Page, Picture, Section
from .verdict import gain_line
from .warning import warnings

__all__ = [
    "Page",
    "Picture",
    "Section",
    "campaign_note",
    "campaign_text",
    "gain_line",
    "headline",
    "markdown",
    "note",
    "warnings",
    "write",
    "write_campaign",
    "write_page",
]
