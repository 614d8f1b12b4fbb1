"""What a spec can name, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..data import DATASETS
from ..models import DECODERS
from ..report.columns import columns
from ..report.cryo_bench import table
from .encoders_text import encoders

SPACES = Path("search_spaces")


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


def datasets_table() -> list[str]:
    """Return all facts of the built-in datasets as a Markdown table."""
    head = ("dataset", "layers, in the file's order", "pixel", "classes", "ignored", "licence")
    rows = []
    for d in DATASETS.values():
        if not d.page:  # generated
            continue
        pixel = "mixed" if d.gsd_m is None else f"{d.gsd_m:g} m"
        size = "" if d.size_px is None else f", {d.size_px} px"
        bands = " ".join(
            band.name if band.center_um is None else f"{band.name} ({band.center_um:.3f})"
            for band in d.bands
        )
        classes = ", ".join(f"{value} {name}" for value, name in enumerate(d.classes))
        ignored = "-" if d.upstream_ignore is None else str(d.upstream_ignore)
        rows.append((f"[{d.name}]({d.page})", bands, pixel + size, classes, ignored, d.licence))
    lines = [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]
    lines += [
        "",
        "| dataset | layers as Cryo-Bench declares them | official split shares | source |",
    ]
    lines += ["| --- | --- | --- | --- |"]
    for d in DATASETS.values():
        if d.page:
            upstream = " ".join(band.name for band in d.upstream_bands or d.bands)
            lines.append(f"| {d.name} | {upstream} | {d.shared} | {d.source} |")
    return lines


def spaces() -> list[str]:
    """List the search spaces and studies below `search_spaces/` of the working directory."""
    files = sorted([*SPACES.rglob("*.yaml"), *SPACES.rglob("*.py")])
    return [str(path) for path in files] or [f"'{SPACES}' is not in this directory."]


LISTS: dict[str, Callable[[], list[str]]] = {
    "encoders": encoders,
    "decoders": decoders,
    "datasets": datasets,
    "spaces": spaces,
    "published": table,
}
