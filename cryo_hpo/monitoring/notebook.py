"""Show a table in a notebook that is updated in place, through IPython's display."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib import import_module
from typing import Any, Literal

Side = Literal["left", "right"]


class NotebookTable:
    """Show a table below the running cell, and replace it with every update.

    IPython is imported with the first update, and it is there: only a notebook uses this.
    """

    def __init__(self, head: Mapping[str, Side]) -> None:
        """Show nothing yet.

        Args:
            head: Name of each column -> alignment.
        """
        self._head = head
        self._handle: Any = None  # of the table that is shown

    def update(self, title: str, rows: Sequence[Sequence[str]]) -> None:
        """Show a table, in place of the one before.

        Args:
            title: Line above the table.
            rows: Cells of every row, as many as columns.
        """
        display = import_module("IPython.display")
        shown = display.HTML("\n".join(_html(title, self._head, rows)))
        if self._handle is None:
            self._handle = display.display(shown, display_id=True)
        else:
            self._handle.update(shown)


def _html(title: str, head: Mapping[str, Side], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"<p>{escape(title)}</p>"
    yield f"<table><thead>{_row('th', head, list(head))}</thead><tbody>"
    yield from (_row("td", head, row) for row in rows)
    yield "</tbody></table>"


def _row(tag: str, head: Mapping[str, Side], cells: Sequence[str]) -> str:
    sides = head.values()
    texts = (
        f'<{tag} style="text-align: {side}">{escape(cell)}</{tag}>'
        for cell, side in zip(cells, sides, strict=True)
    )
    return f"<tr>{''.join(texts)}</tr>"
