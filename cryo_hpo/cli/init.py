"""Define `cryo-hpo init`: draft a dataset card and a study for a folder of images and masks."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import CryoError, SpecError
from .guard import read_site

if TYPE_CHECKING:
    from ..config import Study
    from ..data.fingerprint import Fingerprint
    from ..data.layout import Layout
    from ..study.draft_card import Choices
    from ..study.timing import EpochSize

HOURS = {"h": 1.0, "m": 1 / 60, "d": 24.0}
GIB = {"gb": 1.0, "g": 1.0, "gib": 1.0, "": 1.0}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", help="Name of dataset and study.  [default: the folder's]")
@click.option(
    "--classes",
    help="Class names in the order of the mask values: background,lake; ignore for no class.",
)
@click.option("--bands", help="Band names in the order of the layers: B4,B3,B2.")
@click.option("--sensor", help="Sensor whose numbers the bands are: landsat-8.")
@click.option("--encoder", help="One of `cryo-hpo list encoders`.  [default: by bands and weights]")
@click.option("--budget", help="Hours that training may take on this machine: 6h.")
@click.option("--gpu", help="Memory of the GPU that will train: 24GB; the batch is made to fit.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path(), help="Where card and study go."
)
@click.option("--force", is_flag=True, help="Write over a card and a study of that name.")
def init(folder: Path, out: Path, *, force: bool, **given: str | None) -> None:
    """Look at FOLDER, images and masks, and write a card and a study for it.

    Images and masks may lie in two folders (images/a.tif, masks/a.png) or side by side (a.tif,
    a_mask.tif), below folders train, val and test or all in one heap: a heap is divided so that no
    two parts share a pixel. Every line of the two files says why it says what it says. What only
    you can know (bands, classes) is asked on a terminal, or given as an option. What fails leaves
    no file behind: after the repair, the same command works.
    """
    from ..data.fingerprint import take_fingerprint
    from ..data.layout import recognize_layout
    from ..report.wording import count_of
    from ..storage.atomic import restoring
    from ..study.draft_card import Choices, describe_open_points

    folder = folder.expanduser().absolute()
    _refuse_name(given["name"])
    chosen = Choices(
        name=given["name"] or _slug(folder.name),
        classes=_words(given["classes"]),
        bands=_words(given["bands"]),
        encoder=given["encoder"],
        sensor=given["sensor"],
    )
    budget_h = parse_quantity(given["budget"], "--budget", HOURS)
    gpu_gib = parse_quantity(given["gpu"], "--gpu", GIB)
    files = (out / f"{chosen.name}.card.yaml", out / f"{chosen.name}.yaml")
    _refuse_existing(files, force=force)
    layout = recognize_layout(folder)
    click.echo(
        f"{folder}: {count_of(len(layout.pairs), 'pair')} of {layout.images} and {layout.masks}"
    )
    look = take_fingerprint(layout)
    chosen = _ask(layout, look, chosen)
    with restoring((*files, *_pictures(files[1]))):
        _write(layout, look, chosen, folder, files)
        chosen = replace(chosen, epoch=_count(files))
        _write(layout, look, chosen, folder, files)
        _show(files)
        if gpu_gib is not None:
            chosen = _fit(layout, look, chosen, folder, files, gpu_gib=gpu_gib)
        for line in describe_open_points(layout, look):
            click.echo(f"note: {line}")
        needed_h = _try_out(files[1])
        if budget_h is not None and needed_h > budget_h:
            _shorten(layout, look, chosen, folder, files, hours=(needed_h, budget_h))
    click.echo(f"\nNext: cryo-hpo run {files[1]}")


def parse_quantity(text: str | None, option: str, units: Mapping[str, float]) -> float | None:
    """Return a quantity, such as `6h` or `24GB`, in the unit of size 1; None: none is given.

    Args:
        text: A positive number and a unit, in lower or upper case.
        option: Option of the command, for the message.
        units: Name of a unit -> its size; the name "" allows a bare number.

    Raises:
        SpecError: The text is no such quantity.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+\.?\d*)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in units or not float(match[1]):
        examples = " or ".join(f"6{unit}" for unit in units if unit)
        message = f"{option} '{text}' is not a positive number with a unit. Write {examples}."
        raise SpecError(message)
    return float(match[1]) * units[match[2]]


def _fit(
    layout: Layout,
    look: Fingerprint,
    chosen: Choices,
    folder: Path,
    files: tuple[Path, Path],
    *,
    gpu_gib: float,
) -> Choices:
    """Measure a step's memory, and write the study again where its batch does not fit the GPU.

    Raises:
        SpecError: Not even one crop fits.
    """
    from ..config import load_study
    from ..study.memory import measure_step

    base = load_study(files[1]).base
    memory = measure_step(base, read_site())
    batch = memory.largest_batch(gpu_gib)
    click.echo(
        f"memory of a step in fp32, measured: {memory.fixed_gib:.2g} GiB and {memory.sample_gib:.2g} GiB "
        f"for each crop; a batch of {base.batch_size} takes {memory.of_batch(base.batch_size):.2g} GiB"
    )
    if not batch:
        raise SpecError(
            f"--gpu {gpu_gib:g}GB is too little for one crop of {base.data.crop} pixels with "
            f"{base.model.encoder}. Name a smaller --encoder, or a larger GPU."
        )
    chosen = replace(chosen, batch=batch)
    if batch < base.batch_size:
        _write(layout, look, chosen, folder, files)
        _show(files)
    return chosen


def _shorten(
    layout: Layout,
    look: Fingerprint,
    chosen: Choices,
    folder: Path,
    files: tuple[Path, Path],
    *,
    hours: tuple[float, float],
) -> None:
    """Write the study again with fewer epochs, as a budget asks; report one that is too small."""
    from ..config import load_study
    from ..study.draft import epochs_within

    needed_h, budget_h = hours
    before = load_study(files[1]).base.epochs
    epochs = epochs_within(before, needed_h=needed_h, budget_h=budget_h)
    if epochs < before:
        _write(layout, look, replace(chosen, epochs=epochs), folder, files)
        _show(files)
    left_h = needed_h * epochs / before
    click.echo(f"{epochs} epochs instead of {before}: {left_h:,.2g} h of {budget_h:g} h")
    if left_h > budget_h:
        click.echo(
            f"note: the budget does not suffice, and fewer than {epochs} epochs show nothing. Give "
            "more hours, a smaller --encoder, or a machine with a GPU."
        )


def _words(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(word.strip() for word in text.split(","))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._") or "mine"


def _refuse_name(name: str | None) -> None:
    """Refuse a name that no study may have, before the data are looked at.

    Raises:
        SpecError: The name has capitals, spaces or other signs.
    """
    if name is not None and name != _slug(name):
        message = (
            f"--name '{name}': a study's name has small letters, digits, '.', '_' and '-' only. "
            f"Take {_slug(name)}."
        )
        raise SpecError(message)


def _refuse_existing(files: tuple[Path, Path], *, force: bool) -> None:
    existing = [str(file) for file in files if file.exists()]
    if existing and not force:
        message = (
            f"{' and '.join(existing)} exist already. Give another --name or --out, or --force to "
            "write over them."
        )
        raise SpecError(message)


def _ask(layout: Layout, look: Fingerprint, chosen: Choices) -> Choices:
    """Prompt on a terminal for what the files do not hold; elsewhere the draft raises an error."""
    from ..study.draft_bands import choose_bands
    from ..study.draft_card import choose_classes

    if not sys.stdin.isatty():
        return chosen
    bands = _ask_until_known(
        partial(choose_bands, layout, look, sensor=chosen.sensor),
        chosen.bands,
        "Band names, in the order of the layers",
    )
    classes = _ask_until_known(
        partial(choose_classes, look),
        chosen.classes,
        "Class names, in the order of the mask values",
    )
    return replace(chosen, bands=bands, classes=classes)


def _ask_until_known(
    choose: Callable[[tuple[str, ...] | None], object],
    given: tuple[str, ...] | None,
    question: str,
) -> tuple[str, ...] | None:
    """Prompt for names until they fit the files."""
    while True:
        try:
            choose(given)
        except CryoError as error:
            click.echo(str(error))
            given = _words(click.prompt(question))
        else:
            return given


def _write(
    layout: Layout, look: Fingerprint, chosen: Choices, folder: Path, files: tuple[Path, Path]
) -> None:
    from ..storage.atomic import write_text
    from ..study.draft import draft_study
    from ..study.draft_card import draft_card, format_lines

    card, study = files
    card_lines = draft_card(layout, look, chosen, root=folder)
    weights = read_site().weights
    study_lines = draft_study(layout, look, chosen, card=card.name, weights=weights)
    card.parent.mkdir(parents=True, exist_ok=True)
    for file, lines in ((card, card_lines), (study, study_lines)):
        write_text(file, format_lines(lines))


def _show(files: tuple[Path, Path]) -> None:
    for file in files:
        click.echo(f"\n{file}:")
        click.echo(file.read_text(encoding="utf-8"))


def _count(files: tuple[Path, Path]) -> EpochSize:
    """Check data and study, and count what the split's train part gives in an epoch.

    Raises:
        CryoError: The drafted study cannot train; the draft is shown before.
    """
    from ..config import add_line_numbers, load_study
    from ..study.preflight import check
    from ..study.timing import measure_epoch

    study, site = load_study(files[1]), read_site()
    try:
        check(study, site=site)
    except CryoError as error:
        _show(files)
        click.echo("note: this draft is not kept. After the repair, run the same command again.")
        raise add_line_numbers(error, files[1]) from error
    return measure_epoch(study.base, site)


def _try_out(file: Path) -> float:
    """Draw a contact sheet of the checked data and time a step; return hours on this machine."""
    from ..config import load_study
    from ..data.region_split import PARTS
    from ..report.wording import count_of
    from ..study.plan import plan
    from ..study.timing import estimate_minutes, measure_epoch, time_step
    from ..training.build import scenes_of

    study, site = load_study(file), read_site()
    for part in PARTS:
        scenes = scenes_of(study.base, part, site)
        number = count_of(len(scenes), "scene")
        click.echo(f"{part}: {number}, {_shares(scenes.class_counts)} of the classes")
    sheet, split = _draw(study, *_pictures(file))
    click.echo(f"contact sheet: {sheet}")
    click.echo(f"map of the split: {split}")
    size = measure_epoch(study.base, site)
    click.echo(str(size))
    minutes = estimate_minutes(
        plan(study, site=site), step_s=time_step(study.base, site), steps=size.steps
    )
    click.echo(
        f"{minutes / 60:,.1f} core hours of training steps on processors like this machine's, by a "
        "step timed now; validation and start-up come on top, and a GPU is many times faster"
    )
    return minutes / 60 / len(os.sched_getaffinity(0))


def _shares(counts: tuple[int, ...]) -> str:
    total = max(sum(counts), 1)
    return ", ".join(f"{100 * count / total:.1f} %" for count in counts)


def _pictures(study: Path) -> tuple[Path, Path]:
    """Return the files of the contact sheet and of the map of the split."""
    sheet = study.with_suffix(".png")
    return sheet, sheet.with_stem(f"{sheet.stem}-split")


def _draw(study: Study, sheet: Path, split: Path) -> tuple[Path, Path]:
    """Draw the contact sheet and the map of the split; return both paths."""
    import numpy as np

    from ..data.audit import inspect_scenes, summarize
    from ..data.progress_log import ProgressLog
    from ..data.splits import parts_of
    from ..report.figures.contact_sheet import contact_sheet
    from ..report.figures.split_map import split_map
    from ..training.build import dataset_of

    dataset, site = dataset_of(study.base.data), read_site()
    parts = dict(parts_of(dataset, site.data, cache=site.cache))
    shares = {}
    for part, items in parts.items():
        with ProgressLog(f"reading {part}", len(items)) as progress:
            looks = inspect_scenes(dataset, items, progress=progress.advance)
            summary = summarize(dataset, looks)
        labeled = summary.shares * (1 - summary.ignored_share)
        shares[part] = [*np.asarray(labeled).tolist(), summary.ignored_share]
    drawn = contact_sheet(dataset, parts, shares, sheet, columns=4)
    return drawn, split_map(dataset, parts, split)
