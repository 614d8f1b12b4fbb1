"""What a spec can name, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from .bands import BandPlan
from .data import DATASETS
from .layout import columns
from .models import DECODERS, ENCODERS
from .published import table

GAPS = {
    "zero": "zero is the dataset's mean, as its bands are normalised",
    "mean": "the mean of those that are",
    "refuse": "",
}
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


def weights_lines(root: Path) -> list[str]:
    """List the published weights of the table's encoders, and which of them are here."""
    rows = []
    for card in ENCODERS.values():
        if (published := card.weights) is not None:
            here = (root / published.file).is_file()
            state = "here" if here else "to fetch" if published.address else "by hand"
            rows.append((card.name, state, published.file, published.address or published.url))
    table = columns(("encoder", "weights", f"file below {root}", "from"), rows)
    return [*table.splitlines(), "timm/<name> has those that timm names."]


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
            band.name if band.centre_um is None else f"{band.name} ({band.centre_um:.3f})"
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


def band_lines(encoder: str, plan: BandPlan) -> Iterator[str]:
    """Say which band of a dataset goes where in an encoder."""
    rows = [
        (
            slot.band.name,
            "" if slot.band.centre_um is None else f"{slot.band.centre_um:.3f}",
            plan.fill(slot),
            "" if slot.layer is None else str(slot.layer + 1),
        )
        for slot in plan.slots
    ]
    yield columns((f"band of {encoder}", "um", "filled with", "layer of the image"), rows)
    if plan.gaps:
        yield f"{len(plan.gaps)} of {len(plan.slots)} bands are not in the dataset: {GAPS[plan.missing]}."
    for verb, bands in (("Masked", plan.masked), ("Left out", plan.unused)):
        if bands:
            yield f"{verb}: {' '.join(band.name for band in bands)}."


LISTS: dict[str, Callable[[], list[str]]] = {
    "encoders": encoders,
    "decoders": decoders,
    "datasets": datasets,
    "spaces": spaces,
    "published": table,
}
