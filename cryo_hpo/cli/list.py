"""`cryo-hpo list`: what a spec can name."""

from __future__ import annotations

import json

import click

from ..errors import SpecError
from .guard import guarded


@click.command("list")
@click.argument(
    "what", type=click.Choice(["encoders", "decoders", "datasets", "spaces", "published"])
)
@click.argument("name", required=False)
@click.option(
    "--markdown", is_flag=True, help="All facts of datasets or encoders, as a table for a page."
)
@click.option("--json", "as_json", is_flag=True, help="The cards of encoders, for machines.")
@guarded
def list_(what: str, name: str | None, *, markdown: bool, as_json: bool) -> None:
    """List what a spec can name; with the NAME of an encoder, its whole card.

    \b
    Encoders with what they cost, and everything about one:
      cryo-hpo list encoders
      cryo-hpo list encoders galileo-nano
    """  # noqa: D301  click takes the backspace itself
    from ..models import ENCODERS
    from . import encoders_text as catalog
    from .listing import LISTS, datasets_table

    if what != "encoders" and (name or as_json):
        message = f"Only encoders have cards and JSON here, got {what}. Leave the rest out."
        raise SpecError(message)
    if as_json:
        cards = [catalog.card_of(one) for one in ([name] if name else ENCODERS)]
        click.echo(json.dumps(cards, indent=2))
    elif name:
        click.echo("\n".join(catalog.card_lines(name)))
    elif markdown and what == "encoders":
        click.echo("\n".join([*catalog.costs_table(), "", *catalog.bands_table()]))
    else:
        table = datasets_table if markdown and what == "datasets" else LISTS[what]
        click.echo("\n".join(table()))
