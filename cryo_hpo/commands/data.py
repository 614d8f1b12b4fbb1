"""`cryo-hpo data`: datasets on this machine."""

from __future__ import annotations

import click

from .frame import guarded, site_here


@click.group()
def data() -> None:
    """Make the generated datasets."""


@data.command()
@click.argument("name")
@click.option("--seed", default=0, show_default=True)
@guarded
def generate(name: str, seed: int) -> None:
    """Generate the scenes of NAME (lakes-demo, fronts-demo) below CRYO_DATA."""
    from ..data.generate import generate as generate_scenes

    click.echo(f"{name}: {generate_scenes(name, site_here().data, seed=seed)}")
