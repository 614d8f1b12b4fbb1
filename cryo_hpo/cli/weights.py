"""Define `cryo-hpo weights`: manage published weights of encoders on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .guard import read_site

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..storage.fetch import Received


@click.group()
def weights() -> None:
    """Fetch published weights of encoders, and see which are here.

    \b
    They lie below CRYO_WEIGHTS. A training fetches what it lacks by itself; fetch before where
    the nodes of a cluster have no access to the web:
      cryo-hpo weights list
      cryo-hpo weights get galileo-nano
    """  # noqa: D301  click takes the backspace itself


@weights.command("list")
def list_() -> None:
    """List the weights that encoders use: which are here, and where the others come from."""
    from .encoders_text import weights_lines

    for line in weights_lines(read_site().weights):
        click.echo(line)


@weights.command()
@click.argument("encoder")
def get(encoder: str) -> None:
    """Fetch the weights of ENCODER (see `cryo-hpo list encoders`) to CRYO_WEIGHTS.

    What was cut goes on where it was. The file is compared with its checksum, where one is
    known, and with the encoder, tensor by tensor.
    """
    from ..models.install_weights import fetch_weights, find_weights, fitting

    root = read_site().weights
    published = find_weights(encoder, root=root)
    _show(encoder, fetch_weights(encoder, root=root))
    count = fitting(encoder, root=root)
    click.echo(f"{root / published.file}: {count} tensors, all of them fit '{encoder}'.")


def _show(encoder: str, going: Iterable[Received]) -> None:
    """Show a progress bar; without a terminal, a line."""
    done = 0
    bar: Any  # click's own type forbids setting its length
    with click.progressbar(length=1, label=encoder, show_eta=True) as bar:
        for received in going:
            bar.length = received.total or received.done + 1
            bar.update(received.done - done)
            done = received.done
