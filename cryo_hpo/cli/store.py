"""Define `cryo-hpo store list` and `prune`: the complete trainings that later studies reuse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from ..errors import SpecError
from .guard import read_site

if TYPE_CHECKING:
    from pathlib import Path

    from ..study.training_store import Stored

HEAD = ("entry", "study", "training", "date", "encoder", "lr", "epochs", "seed", "test mIoU", "MiB")


@click.group()
def store() -> None:
    """List and prune complete trainings that studies with `reuse: true` take up again."""


@store.command("list")
def list_() -> None:
    """List the kept trainings: where each comes from, what it is, and its size.

    The size counts files that a study's folder shares, which take room only once.
    """
    from ..report.table import align_columns
    from ..study.training_store import list_stored

    storage = read_site().storage
    rows = [_row(entry, stored) for entry, stored in list_stored(storage)]
    click.echo(align_columns(HEAD, rows) if rows else f"No training is kept in '{storage}'.")


@store.command()
@click.option("--study", help="Only trainings of this study.")
@click.option("--older-than", type=click.IntRange(0), metavar="DAYS", help="Only older ones.")
@click.option("--all", "every", is_flag=True, help="All of them.")
def prune(study: str | None, older_than: int | None, *, every: bool) -> None:
    """Remove kept trainings; damaged ones always. Studies that took one keep its files.

    Trainings must match all options that are given.
    """
    from ..study.training_store import list_stored, remove, size_of

    if not every and study is None and older_than is None:
        message = "Nothing says which trainings to remove. Give --study, --older-than, or --all."
        raise SpecError(message)
    oldest = None
    if older_than is not None:
        oldest = (datetime.now(UTC) - timedelta(days=older_than)).date().isoformat()
    number, size = 0, 0
    for entry, stored in list_stored(read_site().storage):
        if stored is None or _matches(stored, study, oldest):
            number, size = number + 1, size + size_of(entry)
            remove(entry)
    trainings = "training" if number == 1 else "trainings"
    click.echo(f"{number} {trainings} removed, up to {size / 2**20:.1f} MiB.")


def _matches(stored: Stored, study: str | None, oldest: str | None) -> bool:
    source = stored.source
    return (study is None or source.study == study) and (oldest is None or source.date < oldest)


def _row(entry: Path, stored: Stored | None) -> tuple[str, ...]:
    from ..evaluation.metrics import Scores
    from ..study.training_store import size_of

    size = f"{size_of(entry) / 2**20:.1f}"
    if stored is None:
        return (entry.name[:12], "(damaged)", *[""] * 7, size)
    recipe, source = stored.recipe, stored.source
    return (
        entry.name[:12],
        source.study,
        source.training,
        source.date,
        recipe["model"]["encoder"],
        f"{recipe['optim']['lr']:.3g}",
        str(recipe["epochs"]),
        str(recipe["seed"]),
        f"{100 * Scores.from_json(stored.scores).miou:.2f}",
        size,
    )
