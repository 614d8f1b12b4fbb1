"""Define `cryo-hpo list`: list encoders, decoders, datasets, spaces, studies and cards by name."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import SpecError

if TYPE_CHECKING:
    from ..config.files.shipped import Kind
    from ..data.dataset import Dataset

NAMES = (
    "encoders",
    "decoders",
    "datasets",
    "bands",
    "spaces",
    "studies",
    "cards",
    "notebooks",
    "published",
)


@click.command("list")
@click.argument("what", type=click.Choice(NAMES))
@click.argument("name", required=False)
@click.option(
    "--markdown", is_flag=True, help="All facts of datasets or encoders, as a table for a page."
)
@click.option("--json", "as_json", is_flag=True, help="The cards of encoders, for machines.")
def list_(what: str, name: str | None, *, markdown: bool, as_json: bool) -> None:
    """List what a spec can name; with the NAME of an encoder, its whole card.

    \b
    The published table of Cryo-Bench, of all revisions or of one:
      cryo-hpo list published
      cryo-hpo list published cryo-bench@3

    \b
    Encoders with what they cost, and everything about one:
      cryo-hpo list encoders
      cryo-hpo list encoders galileo-nano

    \b
    Bands of each sensor by the numbers in its files; a card says `sensor: landsat-8`:
      cryo-hpo list bands

    \b
    What ships with the package, to be used by name or copied:
      cryo-hpo list spaces         search.space: lr
      cryo-hpo list studies        cryo-hpo run quickstart
      cryo-hpo list cards          base.data.card: rock-glaciers
      cryo-hpo list notebooks      cp FILE . && jupyter lab quickstart.ipynb
    """  # noqa: D301  click takes the backspace itself
    from ..models import ENCODERS
    from . import encoders_text

    if (what not in ("encoders", "published") and name) or (what != "encoders" and as_json):
        message = f"'cryo-hpo list {what}' takes no name and no --json; only encoders do. Drop it."
        raise SpecError(message)
    if as_json:
        cards = [encoders_text.card_of(encoder) for encoder in ([name] if name else ENCODERS)]
        click.echo(json.dumps(cards, indent=2))
    elif name and what == "published":
        from ..report.cryo_bench import revision_named, tables

        click.echo("\n".join(tables(revision_named(name))))
    elif name:
        click.echo("\n".join(encoders_text.card_lines(name)))
    elif markdown and what == "encoders":
        click.echo("\n".join([*encoders_text.costs_table(), "", *encoders_text.bands_table()]))
    elif markdown and what == "datasets":
        click.echo("\n".join(datasets_table()))
    else:
        click.echo("\n".join(LISTS[what]()))


def _list_encoders() -> list[str]:
    from .encoders_text import encoders

    return encoders()


def _list_decoders() -> list[str]:
    from ..models import DECODERS

    return list(DECODERS)


def _list_datasets() -> list[str]:
    from ..data import DATASETS
    from ..report.table import align_columns

    rows = [
        (d.name, " ".join(band.name for band in d.bands), ", ".join(d.classes), d.source)
        for d in DATASETS.values()
    ]
    return align_columns(("dataset", "bands", "classes", "source"), rows).splitlines()


def _list_bands() -> list[str]:
    from ..bands import BANDS, SENSORS
    from ..report.table import align_columns

    rows = [
        (sensor, number, band.name, _um(band.center_um), f"{band.pixel_m:g}")
        for sensor, table in SENSORS.items()
        for number, band in table.items()
    ]
    free = [band.name for band in BANDS.values() if band.sensor != "sentinel-2"]
    return [
        *align_columns(("sensor", "band", "is", "um", "pixel, m"), rows).splitlines(),
        f"Without `sensor`, numbers are Sentinel-2's. Names for any sensor: {', '.join(free)}.",
        "Another sensor: the center of each band in micrometers, sensor: {C1: 0.49, C2: 0.66}.",
    ]


def _um(center: float | None) -> str:
    return "-" if center is None else f"{center:.3f}"


def datasets_table() -> list[str]:
    """Return the facts of all published datasets as two Markdown tables."""
    from ..data import DATASETS
    from ..report.table import markdown_rows

    published = [dataset for dataset in DATASETS.values() if dataset.page]  # others: generated
    head = ("dataset", "layers, in the file's order", "pixel", "classes", "ignored", "license")
    declared = (
        "dataset",
        "layers as Cryo-Bench declares them",
        "official split shares",
        "source",
    )
    return [
        *markdown_rows(head, [_facts(dataset) for dataset in published]),
        "",
        *markdown_rows(
            declared,
            [
                (d.name, " ".join(b.name for b in d.upstream_bands or d.bands), d.shared, d.source)
                for d in published
            ],
        ),
    ]


def _facts(dataset: Dataset) -> tuple[str, ...]:
    pixel = "mixed" if dataset.gsd_m is None else f"{dataset.gsd_m:g} m"
    size = "" if dataset.size_px is None else f", {dataset.size_px} px"
    bands = " ".join(
        band.name if band.center_um is None else f"{band.name} ({band.center_um:.3f})"
        for band in dataset.bands
    )
    classes = ", ".join(f"{value} {name}" for value, name in enumerate(dataset.classes))
    ignored = "-" if dataset.upstream_ignore is None else str(dataset.upstream_ignore)
    name = f"[{dataset.name}]({dataset.page})"
    return (name, bands, pixel + size, classes, ignored, dataset.license)


def _list_spaces() -> list[str]:
    from ..config import load_space

    return _list_shipped("search space", lambda source: " ".join(load_space(source).params))


def _list_studies() -> list[str]:
    return _list_shipped("study", _question)


def _list_cards() -> list[str]:
    from ..config import load_card

    return _list_shipped("dataset card", lambda source: ", ".join(load_card(source).classes))


def _list_notebooks() -> list[str]:
    return _list_shipped("notebook", _heading)


def _list_shipped(kind: Kind, describe: Callable[[str], str]) -> list[str]:
    """List the shipped files of a kind: name, description, file."""
    from ..config import list_shipped
    from ..report.table import align_columns

    content = {
        "search space": "varies",
        "study": "asks",
        "dataset card": "classes",
        "notebook": "shows",
    }[kind]
    rows = [
        (name, describe(source), _relative(source)) for name, source in list_shipped(kind).items()
    ]
    return align_columns((kind, content, "file"), rows).splitlines()


def _relative(source: str) -> str:
    """Return a source relative to the working directory if it lies below it."""
    path, folder = Path(os.path.realpath(source)), Path.cwd().resolve()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else source


def _question(file: str) -> str:
    """Return the question at the head of a study's file."""
    line = re.search(r"^# Question:\s*(.*)$", Path(file).read_text(encoding="utf-8"), re.M)
    return line[1] if line else ""


def _heading(file: str) -> str:
    """Return the first line of a notebook, without its mark."""
    first = json.loads(Path(file).read_text(encoding="utf-8"))["cells"][0]["source"]
    return str(first[0]).lstrip("# ").rstrip()


def _list_published() -> list[str]:
    from ..report.cryo_bench import tables

    return tables()


LISTS: dict[str, Callable[[], list[str]]] = {
    "encoders": _list_encoders,
    "decoders": _list_decoders,
    "datasets": _list_datasets,
    "bands": _list_bands,
    "spaces": _list_spaces,
    "studies": _list_studies,
    "cards": _list_cards,
    "notebooks": _list_notebooks,
    "published": _list_published,
}
