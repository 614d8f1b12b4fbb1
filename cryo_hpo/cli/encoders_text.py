"""Format encoders as text: the table of all, single cards, weights, and the use of bands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from ..bands import Band, BandPlan
from ..data import DATASETS
from ..errors import BandMismatch
from ..models import ENCODERS, Encoder, find_encoder, plan_bands
from ..models.costs import Cost, costs, machine
from ..models.weights.published import Weights
from ..report.table import align_columns, markdown_rows

GAPS = {
    "zero": "zero is the dataset's mean, as its bands are normalized",
    "mean": "the mean of those that are",
    "nearest": "",
    "refuse": "",
}
WIDTH = 100  # characters of a terminal
KEY = 18
HEADER = (
    "encoder",
    "bands",
    "px",
    "step",
    "10^6",
    "GFLOP",
    "fwd s",
    "bwd s",
    "MiB",
    "license",
)


def encoders() -> list[str]:
    """List the encoders of the table with their costs, and how to name one of timm's."""
    rows = [_row(card, costs().get(card.name)) for card in ENCODERS.values()]
    legend = (
        "bands: those it asks for; any; or any that has a wavelength. px: side of its pretraining "
        "images; step: crops are multiples of this. 10^6: parameters. GFLOP, fwd s and bwd s "
        "(CPU seconds) and MiB: of one image of that side. license: of the weights, if it has any. "
        f"{machine()}"
    )
    return [
        *align_columns(HEADER, rows).splitlines(),
        "timm/<name>: any model of timm that can show its inner maps, with any bands.",
        "",
        *wrap(legend, WIDTH),
        "All about one: cryo-hpo list encoders NAME",
    ]


def _row(card: Encoder, cost: Cost | None) -> tuple[str, ...]:
    measured = (
        ("",) * 5
        if cost is None
        else (
            f"{cost.parameters / 1e6:.1f}",
            f"{cost.gflops:.1f}",
            f"{cost.forward_s:.2f}",
            f"{cost.backward_s:.2f}",
            f"{cost.peak_mib:.0f}",
        )
    )
    size = "" if cost is None else str(cost.size)
    license = card.weights_license or card.license
    return (card.name, _short(card), size, str(card.multiple), *measured, license)


def _short(card: Encoder) -> str:
    if card.bands is None:
        return "any with wavelength" if card.spectral else "any"
    names = [band.name for band in card.bands]
    if len(names) <= 6:
        return " ".join(names)
    return f"{len(names)}: {names[0]} ... {names[-1]}"


def costs_table() -> list[str]:
    """Return the costs and licenses of all encoders as a Markdown table."""
    head = (*HEADER[:-1], "license of code", "of weights", "described in")
    rows = [
        (*_row(card, costs().get(card.name))[:-1], card.license, card.weights_license, card.source)
        for card in ENCODERS.values()
    ]
    return markdown_rows(head, rows)


def bands_table() -> list[str]:
    """Return the number of bands of each published dataset that each encoder uses, as Markdown."""
    datasets = [dataset for dataset in DATASETS.values() if dataset.page]
    rows = [
        (card.name, *(_coverage(card, dataset.bands) for dataset in datasets))
        for card in ENCODERS.values()
    ]
    return markdown_rows(("encoder", *(dataset.name for dataset in datasets)), rows)


def _coverage(card: Encoder, have: Sequence[Band]) -> str:
    try:
        plan = plan_bands(card, have)
    except BandMismatch:
        return "refused"
    filled = len(plan.slots) - len(plan.gaps)
    of = "" if card.bands is None else f" of {len(card.bands)}"
    own = [slot.layer is None or plan.fill(slot) == slot.band.name for slot in plan.slots]
    return f"{filled}{of}" if all(own) else f"{filled}{of}, for others"


def card_of(name: str) -> dict[str, Any]:
    """Return the card of an encoder and its cost as plain values.

    Raises:
        UnknownName: No encoder has this name.
    """
    card = find_encoder(name)
    upstream = card.under("cryo-bench@3")
    cost, weights = costs().get(name), card.weights
    facts: dict[str, Any] = {
        "name": card.name,
        "bands": None if card.bands is None else [_band(band) for band in card.bands],
        "cryo-bench bands": _names(upstream.bands) if upstream.bands != card.bands else "",
        "takes": _takes(card),
        "a lone band fills": _names(card.gray),
        "size": card.native_size,
        "multiple": card.multiple,
        "smallest": card.smallest,
        "only size": card.only_size,
        "channels": list(card.channels),
        "strides": list(card.strides),
        "cryo-bench build": ", ".join(
            f"{k}={v}" for k, v in {**card.cryo_bench, **card.later}.items()
        ),
        "parameters": card.parameters or (cost.parameters if cost else None),
        "normalization": card.normalization,
        "knobs": sorted(card.knobs),
        "source": card.source,
        "license": card.license,
        "weights license": card.weights_license,
        "weights": None,
        "cost": None if cost is None else cost._asdict(),
        "measured": machine() if cost else "",
    }
    if weights is not None:
        facts["weights"] = _file(weights)
        facts["mirror"] = None if weights.mirror is None else _file(weights.mirror)
    return facts


def _file(weights: Weights) -> dict[str, Any]:
    return {
        "file": weights.file,
        "page": weights.url,
        "address": weights.address,
        "sha256": weights.sha256,
        "entry": weights.entry,
        "may miss": list(weights.may_miss),
        "may have": list(weights.may_have),
    }


def card_lines(name: str) -> Iterator[str]:
    """Yield the full card of one encoder, line by line."""
    rows = [
        (key, line)
        for key, value in _flat(card_of(name))
        for line in _folded(value, WIDTH - KEY - 2)
    ]
    last = ""
    for key, line in rows:
        yield f"{'' if key == last else key:<{KEY}}  {line}".rstrip()
        last = key


def _flat(facts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in facts.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{key}: ")
        elif value not in (None, "", []):
            text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield prefix + key, text


def _folded(text: str, width: int) -> list[str]:
    return wrap(text, width, break_on_hyphens=False, break_long_words=False)


def _takes(card: Encoder) -> str:
    if card.groups:
        return "each group whole, others masked: " + ", ".join(map(_names, card.groups))
    if card.bands is not None:
        return "these in this order; a missing one as model.missing_bands says"
    also = " ".join(sorted(card.coded))
    return (
        f"any band with a wavelength{', and ' + also if also else ''}" if card.spectral else "any"
    )


def _band(band: Band) -> str:
    return band.name if band.center_um is None else f"{band.name} ({band.center_um:.3f} um)"


def _names(bands: Sequence[Band] | None) -> str:
    return " ".join(band.name for band in bands or ())


def weights_lines(root: Path) -> list[str]:
    """List the published weights of the table's encoders, and which are on this machine."""
    rows = []
    for card in ENCODERS.values():
        if (published := card.weights) is not None:
            published = published.chosen(root)
            on_disk = (root / published.file).is_file()
            state = "here" if on_disk else "to fetch" if published.address else "by hand"
            rows.append((card.name, state, published.file, published.address or published.url))
    table = align_columns(("encoder", "weights", f"file below {root}", "from"), rows)
    return [*table.splitlines(), "timm/<name> has those that timm names."]


def band_lines(encoder: str, plan: BandPlan) -> Iterator[str]:
    """Yield lines that map the bands of a dataset to the inputs of an encoder."""
    rows = [
        (
            slot.band.name,
            "" if slot.band.center_um is None else f"{slot.band.center_um:.3f}",
            plan.fill(slot),
            "" if slot.layer is None else str(slot.layer + 1),
        )
        for slot in plan.slots
    ]
    yield align_columns((f"band of {encoder}", "um", "filled with", "layer of the image"), rows)
    if plan.gaps:
        yield f"{len(plan.gaps)} of {len(plan.slots)} bands are not in the dataset: {GAPS[plan.missing]}."
    for verb, bands in (("Masked", plan.masked), ("Left out", plan.unused)):
        if bands:
            yield f"{verb}: {' '.join(band.name for band in bands)}."
