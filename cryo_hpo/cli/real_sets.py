"""Get the real sets of the shipped cards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from .guard import read_site

if TYPE_CHECKING:
    from ..data.download import Progress


def fetch_real_set(
    name: str, *, show: Callable[[Iterator[Progress]], None], only_list: bool
) -> None:
    """Download and build the set of a shipped card, or print what would be fetched.

    Args:
        name: Name of the card.
        show: Shows the progress of downloads.
        only_list: Whether nothing is fetched.
    """
    from ..config import load_card
    from ..data.real_sets import REAL_SETS, describe_by_hand, get_real_set

    real_set, card, root = REAL_SETS[name], load_card(name), read_site().data
    click.echo(f"{name}: {card.source}\nlicense: {card.license}\npage: {real_set.page}")
    if only_list:
        click.echo(describe_by_hand(real_set, root / real_set.root, at_most=len(real_set.files)))
        return
    show(get_real_set(real_set, root))
    click.echo(f"{root / real_set.root}: {real_set.layout}")
    click.echo(f"Then: cryo-hpo data check {name}")


def show_downloads(states: Iterator[Progress]) -> None:
    """Show the progress of downloads: a live line on a terminal, else one line for each file."""
    live = sys.stderr.isatty()
    last = ""
    for state in states:
        of = f" of {state.total / 1e6:,.1f}" if state.total else ""
        line = f"{state.file}: {state.done / 1e6:,.1f}{of} MB"
        if live:
            click.echo(f"\r{line}", nl=False, err=True)
        elif state.file != last:
            click.echo(line, err=True)
        last = state.file
    if live and last:
        click.echo(err=True)
