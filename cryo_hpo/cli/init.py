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
    from ..study.draft_bands import BandChoice
    from ..study.draft_card import Choices
    from ..study.draft_classes import ClassChoice
    from ..study.draft_folder import Drafter
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
@click.option(
    "--bands", help="Band names in the order of the layers: B4,B3,B2, or DEM for one layer."
)
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
    from ..report.wording import count_of
    from ..storage.atomic import restoring
    from ..study.draft_card import Choices
    from ..study.draft_folder import as_name, begin_draft

    folder = folder.expanduser().absolute()
    chosen = Choices(
        name=given["name"] or as_name(folder.name),
        classes=_words(given["classes"]),
        bands=_words(given["bands"]),
        encoder=given["encoder"],
        sensor=given["sensor"],
    )
    budget_h = parse_quantity(given["budget"], "--budget", HOURS)
    gpu_gib = parse_quantity(given["gpu"], "--gpu", GIB)
    draft = begin_draft(folder, chosen.name, out=out, force=force, site=read_site())
    layout = draft.layout
    click.echo(
        f"{folder}: {count_of(len(layout.pairs), 'pair')} of {layout.images} and {layout.masks}"
    )
    if sys.stdin.isatty() or not _knows_classes(draft, chosen):
        _draw_values(draft, chosen)  # what to name; it stays if no names are given
    chosen = _ask(draft, chosen)
    with restoring((*draft.files, *_pictures(draft.study))):
        chosen = draft.divide(chosen)
        _draw_values(draft, chosen)
        chosen = replace(chosen, epoch=_count(draft))
        draft.write(chosen)
        _show(draft)
        if gpu_gib is not None:
            chosen = _fit(draft, chosen, gpu_gib=gpu_gib)
        needed_h = _try_out(draft.study)
        if budget_h is not None and needed_h > budget_h:
            _shorten(draft, chosen, hours=(needed_h, budget_h))
    _print_open_points(draft, chosen)
    click.echo(f"\nNext: cryo-hpo run {draft.study}")


def _draw_values(draft: Drafter, chosen: Choices) -> None:
    """Draw a sheet of the mask values, with their classes where these are given, and name its file."""
    from ..data.value_examples import find_examples
    from ..report.figures.value_sheet import value_sheet

    values = [draft.look.name_of(value) for value in draft.look.values]
    given = chosen.classes if _knows_classes(draft, chosen) else None
    names = dict(zip(values, given, strict=True)) if given else {}
    rows = find_examples(draft.layout, draft.look)
    title = f"{chosen.name}: the mask values; --classes names them in the order {','.join(values)}"
    *_, sheet = _pictures(draft.study)
    click.echo(f"mask values: {value_sheet(rows, names, sheet, title=title)}")


def _knows_classes(draft: Drafter, chosen: Choices) -> bool:
    """Return whether the classes are given, or can be guessed."""
    from ..study.draft_classes import choose_classes

    try:
        choose_classes(draft.look, chosen.classes)
    except CryoError:
        return False
    return True


def _print_open_points(draft: Drafter, chosen: Choices) -> None:
    """Print what the files do not settle: remarks, then each guess with line, assumption and option."""
    from ..report.wording import count_of
    from ..study.open_points import line_number

    points = draft.open_points(chosen)
    for point in points:
        if not point.is_guess:
            click.echo(f"note: {point}")
    guesses = [point for point in points if point.is_guess]
    if not guesses:
        return
    number = count_of(len(guesses), "point")
    head = f"\nCHECK BEFORE YOU RUN: {number}. What is wrong here makes the results wrong, without an error."
    click.secho(head, bold=True)
    lines = draft.card.read_text(encoding="utf-8").splitlines()
    for point in guesses:
        row = line_number(draft.card, point.key or "images")
        click.echo(f"  {draft.card}, line {row}: {lines[row - 1].split('  #')[0].rstrip()}")
        click.echo(f"    {point.assumed}")
        click.echo(f"    {point.settle}")
    last = line_number(draft.card, "assumed")
    if last:
        click.echo(
            "Give these options with --force, or edit the lines and remove `assumed` (line "
            f"{last}): `check` and `run` warn until then."
        )


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


def _fit(draft: Drafter, chosen: Choices, *, gpu_gib: float) -> Choices:
    """Measure a step's memory, and write the study again where its batch does not fit the GPU.

    Raises:
        SpecError: Not even one crop fits.
    """
    from ..config import load_study
    from ..study.memory import measure_step

    base = load_study(draft.study).base
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
        draft.write(chosen)
        _show(draft)
    return chosen


def _shorten(draft: Drafter, chosen: Choices, *, hours: tuple[float, float]) -> None:
    """Write the study again with fewer epochs, as a budget asks; report one that is too small."""
    from ..config import load_study
    from ..study.draft import epochs_within

    needed_h, budget_h = hours
    before = load_study(draft.study).base.epochs
    epochs = epochs_within(before, needed_h=needed_h, budget_h=budget_h)
    if epochs < before:
        draft.write(replace(chosen, epochs=epochs))
        _show(draft)
    left_h = needed_h * epochs / before
    click.echo(f"{epochs} epochs instead of {before}: {left_h:,.2g} h of {budget_h:g} h")
    if left_h > budget_h:
        click.echo(
            f"note: the budget does not suffice, and fewer than {epochs} epochs show nothing. Give "
            "more hours, a smaller --encoder, or a machine with a GPU."
        )


def _words(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(word.strip() for word in text.split(","))


def _ask(draft: Drafter, chosen: Choices) -> Choices:
    """Prompt on a terminal for what the files do not hold, with the guess as the default.

    Elsewhere a draft raises an error, or lists its guesses as points to check.
    """
    from ..study.draft_bands import choose_bands
    from ..study.draft_classes import choose_classes, list_values

    if not sys.stdin.isatty():
        return chosen
    bands = _ask_until_known(
        partial(choose_bands, draft.layout, draft.look, sensor=chosen.sensor),
        chosen.bands,
        "Band names, in the order of the layers",
    )
    values = f" in {list_values(draft.look)}" if draft.look.colors else ""
    classes = _ask_until_known(
        partial(choose_classes, draft.look),
        chosen.classes,
        f"Class names, in the order of the mask values{values}",
    )
    return replace(chosen, bands=bands, classes=classes)


def _ask_until_known(
    choose: Callable[[tuple[str, ...] | None], BandChoice | ClassChoice],
    given: tuple[str, ...] | None,
    question: str,
) -> tuple[str, ...] | None:
    """Prompt for names until they fit the files; a guess is the default."""
    while True:
        try:
            choice = choose(given)
        except CryoError as error:
            click.echo(str(error))
            given = _words(click.prompt(question))
            continue
        if given is None and choice.is_guess:
            given = _words(click.prompt(question, default=",".join(choice.words)))
            continue
        return given


def _show(draft: Drafter) -> None:
    for file in draft.files:
        click.echo(f"\n{file}:")
        click.echo(file.read_text(encoding="utf-8"))


def _count(draft: Drafter) -> EpochSize:
    """Check data and study, and count what the split's train part gives in an epoch.

    Raises:
        CryoError: The drafted study cannot train; the draft is shown before.
    """
    try:
        return draft.count()
    except CryoError:
        _show(draft)
        click.echo("note: this draft is not kept. After the repair, run the same command again.")
        raise


def _try_out(file: Path) -> float:
    """Draw a contact sheet of the checked data and time a step; return hours on this machine."""
    from ..config import load_study
    from ..data.region_split import PARTS
    from ..report.wording import count_of
    from ..study.plan import plan
    from ..study.timing import estimate_minutes, measure_epoch, time_step
    from ..training.build import dataset_of, scenes_of

    study, site = load_study(file), read_site()
    for part in PARTS:
        scenes = scenes_of(study.base, part, site)
        number = count_of(len(scenes), dataset_of(study.base.data).unit)
        click.echo(f"{part}: {number}, {_shares(scenes.class_counts)} of the classes")
    sheet, split = _draw(study, *_pictures(file)[:2])
    click.echo(f"contact sheet: {sheet}")
    click.echo(f"map of the split: {split}")
    size = measure_epoch(study.base, site)
    click.echo(str(size))
    minutes = estimate_minutes(
        plan(study, site=site), step_s=time_step(study.base, site), steps=size.steps
    )
    click.echo(
        f"{_core_time(minutes)} of training steps on processors like this machine's, by a "
        "step timed now; validation and start-up come on top, and a GPU is many times faster"
    )
    return minutes / 60 / len(os.sched_getaffinity(0))


def _core_time(minutes: float) -> str:
    return f"{minutes / 60:,.1f} core hours" if minutes >= 60 else f"{minutes:,.1f} core minutes"


def _shares(counts: tuple[int, ...]) -> str:
    total = max(sum(counts), 1)
    return ", ".join(f"{100 * count / total:.1f} %" for count in counts)


def _pictures(study: Path) -> tuple[Path, Path, Path]:
    """Return the files of the contact sheet, the map of the split and the sheet of mask values."""
    sheet = study.with_suffix(".png")
    return sheet, sheet.with_stem(f"{sheet.stem}-split"), sheet.with_stem(f"{sheet.stem}-values")


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
