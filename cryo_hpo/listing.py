"""What a spec can name, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .data import DATASETS
from .layout import columns
from .models import DECODERS, ENCODERS

SPACES = Path("search_spaces")


def encoders() -> list[str]:
    """List the encoders of the table, and the door to timm's."""
    rows = [
        (
            card.name,
            "any" if card.bands is None else " ".join(band.name for band in card.bands),
            str(card.multiple),
            card.licence,
        )
        for card in ENCODERS.values()
    ]
    rows.append(("timm/<name>", "any", "the model's", "see the model's card"))
    return columns(("encoder", "bands", "size multiple of", "licence"), rows).splitlines()


def decoders() -> list[str]:
    """List the decoders."""
    return list(DECODERS)


def datasets() -> list[str]:
    """List the built-in datasets; any other needs a card in the spec."""
    rows = [
        (d.name, " ".join(band.name for band in d.bands), ", ".join(d.classes), d.source)
        for d in DATASETS.values()
    ]
    return columns(("dataset", "bands", "classes", "source"), rows).splitlines()


def spaces() -> list[str]:
    """List the search spaces and studies below `search_spaces/` of the working directory."""
    files = sorted([*SPACES.rglob("*.yaml"), *SPACES.rglob("*.py")])
    return [str(path) for path in files] or [f"'{SPACES}' is not in this directory."]


LISTS: dict[str, Callable[[], list[str]]] = {
    "encoders": encoders,
    "decoders": decoders,
    "datasets": datasets,
    "spaces": spaces,
}
